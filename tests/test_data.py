"""The data sets: what is drawn, and how it is normalised. Downloads and corrupt files: test_download.py."""

import hashlib
import os
import subprocess
import sys
from operator import attrgetter
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lrsearch.errors import DataError, StudyFileError
from lrsearch.spec import study as spec
from lrsearch.training import data, download
from lrsearch.training.data import DataConfig, ImageSet, ImageSplits, draw, load, statistics

IDX = download.IDX_FILES
WRONG_NAME: Any = "mnits"
TENSORS = (
    "train.images",
    "train.labels",
    "validation.images",
    "validation.labels",
    "test.images",
    "test.labels",
)


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """The folder that holds the real MNIST."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    root = Path(os.environ.get("LRSEARCH_TEST_DATA", beside))
    if not all((root / "MNIST" / "raw" / f).is_file() for f in IDX):
        pytest.skip(f"the real MNIST is not in {root} (MNIST/raw); name its folder with LRSEARCH_TEST_DATA")
    return root


@pytest.fixture(scope="module")
def digits() -> ImageSplits:
    return load(DataConfig())


def hashes(images: torch.Tensor) -> list[str]:
    return [hashlib.sha256(i.numpy().tobytes()).hexdigest() for i in images]


def equal(a: ImageSplits, b: ImageSplits) -> bool:
    return all(torch.equal(attrgetter(t)(a), attrgetter(t)(b)) for t in TENSORS) and (a.mean, a.std) == (b.mean, b.std)


# --- digits -----------------------------------------------------------------------------------------------------------


def test_digits_are_800_200_and_797_images_of_28x28_bytes(digits: ImageSplits) -> None:
    assert digits.train.images.shape == (800, 1, 28, 28)
    assert digits.validation.images.shape == (200, 1, 28, 28)
    assert digits.test.images.shape == (797, 1, 28, 28)
    assert [len(attrgetter(t)(digits)) for t in TENSORS] == [800, 800, 200, 200, 797, 797]
    assert {attrgetter(t)(digits).dtype for t in TENSORS} == {torch.uint8, torch.int64}
    assert digits.shape == (1, 28, 28)
    assert digits.n_classes == 10
    assert digits.classes == tuple("0123456789")
    assert int(digits.train.images.min()) == 0
    assert int(digits.train.images.max()) == 255


def test_digits_load_equal_bit_for_bit_twice(digits: ImageSplits) -> None:
    assert equal(digits, load(DataConfig()))


def test_the_three_sets_of_digits_share_no_image(digits: ImageSplits) -> None:
    # All 1,797 differ, so that content tells them apart.
    everything = [
        h for t in ("train.images", "validation.images", "test.images") for h in hashes(attrgetter(t)(digits))
    ]
    assert len(set(everything)) == len(everything) == 1797


@pytest.mark.parametrize(
    "config",
    [DataConfig(limit=3), DataConfig(limit=500, validation_fraction=0.5), DataConfig(split_seed=7, scaling="unit")],
)
def test_the_test_digits_are_always_the_same(digits: ImageSplits, config: DataConfig) -> None:
    other = load(config)
    assert torch.equal(other.test.images, digits.test.images)
    assert torch.equal(other.test.labels, digits.test.labels)


def test_the_drawn_digits_do_not_change_with_versions_and_machines(digits: ImageSplits) -> None:
    # A split or a pixel that moved would make results of two versions incomparable, silently.
    contents = b"".join(attrgetter(t)(digits).numpy().tobytes() for t in TENSORS)
    assert hashlib.sha256(contents).hexdigest() == "4932f8554c2b8f62cdf31ec0331d9946bff9a9be1b111240f42baecd0a6f4913"


def test_digits_are_those_of_scikit_learn_resized_bilinearly_to_the_nearest_byte(digits: ImageSplits) -> None:
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    eights, labels = load_digits(return_X_y=True)
    # Exact arithmetic: pixel i of 28 lies at (i + .5) * 8/28 - .5 = (4i - 5) / 14 of the eight.
    weights = np.zeros((28, 8), dtype=np.int64)
    for i in range(28):
        at = min(max(4 * i - 5, 0), 7 * 14)
        low = min(at // 14, 6)
        weights[i, low + 1] = at - 14 * low
        weights[i, low] = 14 - weights[i, low + 1]
    exact = weights @ eights.reshape(-1, 8, 8).astype(np.int64) @ weights.T  # of 16 * 14 * 14
    nearest_byte = (2 * 255 * exact + 16 * 196) // (2 * 16 * 196)
    expected = {(nearest_byte[i].astype(np.uint8).tobytes(), int(labels[i])) for i in range(len(labels))}
    ours = {
        (image.numpy().tobytes(), int(label))
        for part in ("train", "validation", "test")
        for image, label in zip(getattr(digits, part).images, getattr(digits, part).labels, strict=True)
    }
    assert ours == expected


def test_digits_are_read_through_scikit_learn_where_its_file_lies_elsewhere(
    digits: ImageSplits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "find_spec", lambda _: None)
    assert equal(digits, load(DataConfig()))


@pytest.mark.slow
def test_digits_load_without_torchvision_and_without_importing_scikit_learn() -> None:
    code = (
        "import sys; from lrsearch.training.data import DataConfig, load; load(DataConfig());"
        "print([m for m in ('torchvision', 'sklearn', 'optuna', 'sqlalchemy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- what is drawn ----------------------------------------------------------------------------------------------------


@given(
    n_pool=st.integers(3, 2000),
    limit=st.integers(3, 2000) | st.none(),
    fraction=st.floats(0, 1, exclude_min=True, exclude_max=True),
    seed=st.integers(0, 2**32 - 1),
)
def test_training_and_validation_images_are_disjoint_and_together_the_limit(
    n_pool: int, limit: int | None, fraction: float, seed: int
) -> None:
    config = DataConfig(limit=limit, validation_fraction=fraction, split_seed=seed)
    try:
        train, validation = draw(config, n_pool)
    except StudyFileError:
        drawn = n_pool if limit is None else limit
        assert drawn > n_pool or drawn - max(1, round(drawn * fraction)) < 2
        return
    together = torch.cat((train, validation))
    assert len(together) == (limit or n_pool)
    assert len(set(together.tolist())) == len(together)
    assert 0 <= int(together.min()) <= int(together.max()) < n_pool
    assert len(train) >= 2
    assert len(validation) == max(1, round(len(together) * fraction))


def test_a_larger_limit_draws_the_images_of_a_smaller_one() -> None:
    small, large = (set(torch.cat(draw(DataConfig(limit=n), 1000)).tolist()) for n in (100, 300))
    assert small < large


def test_another_split_seed_draws_other_images() -> None:
    first, second = (draw(DataConfig(limit=100, split_seed=s), 1000)[0] for s in (0, 1))
    assert not torch.equal(first, second)


@pytest.mark.parametrize(("limit", "fraction"), [(None, 0.2), (10, 0.01), (77, 0.5), (999, 0.333), (3, 0.2)])
def test_the_study_file_counts_training_images_as_the_split_does(limit: int | None, fraction: float) -> None:
    counted = spec.DatasetSpec(limit=limit, validation_fraction=fraction).n_train
    assert counted == len(load(DataConfig(limit=limit, validation_fraction=fraction)).train.labels)


def test_the_study_file_knows_the_scalings_that_are_offered() -> None:
    assert get_args(get_args(spec.DatasetSpec.model_fields["scaling"].annotation)[0]) == data.SCALINGS


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (
            DataConfig(WRONG_NAME),
            "dataset.name: unknown data set 'mnits' (did you mean 'mnist'?); known: digits, mnist",
        ),
        (
            DataConfig(scaling=WRONG_NAME),
            "dataset.scaling: unknown scaling 'mnits' (did you mean 'unit'?); known: standard, unit",
        ),
        (DataConfig(validation_fraction=0.0), "dataset.validation_fraction: must lie between 0 and 1"),
        (DataConfig(validation_fraction=1.0), "dataset.validation_fraction: must lie between 0 and 1"),
        (DataConfig(validation_fraction=-0.1), "got -0.1"),
        (DataConfig(validation_fraction=float("nan")), "got nan"),
        (
            DataConfig(limit=2),
            "dataset.limit: must be at least 3, two images to train on and one to validate on, got 2",
        ),
        (DataConfig(limit=0), "dataset.limit: must be at least 3"),
        (DataConfig(limit=1001), "dataset.limit: must be at most 1000 for digits, got 1001"),
        (
            DataConfig(limit=10, validation_fraction=0.9),
            "dataset.validation_fraction: 0.9 of 10 images leaves 1 to train on",
        ),
        (DataConfig(split_seed=-1), "dataset.split_seed: must lie in 0..4294967295, got -1"),
        (DataConfig(split_seed=2**32), "dataset.split_seed: must lie in"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_its_key(config: DataConfig, sentence: str) -> None:
    with pytest.raises(StudyFileError) as caught:
        load(config)
    assert sentence in str(caught.value)


# --- normalisation ----------------------------------------------------------------------------------------------------


def plain(splits: ImageSplits, images: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(v, dtype=torch.float64).view(-1, 1, 1) for v in (splits.mean, splits.std))
    return (images.double() / 255 - mean) / std


def coloured(scaling: data.Scaling = "standard") -> ImageSplits:
    images = torch.randint(0, 256, (50, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    images[:, 1] //= 4
    official = download.OfficialSets(images, torch.arange(50) % 10, images[:9], torch.arange(9), tuple("0123456789"))
    return data.split(official, DataConfig("cifar10", scaling=scaling))


@pytest.mark.parametrize("scaling", data.SCALINGS)
def test_normalising_is_the_plain_formula(scaling: data.Scaling) -> None:
    for splits in (load(DataConfig(scaling=scaling)), coloured(scaling)):
        normal = splits.normalize(splits.validation.images)
        assert normal.dtype == torch.float32
        assert normal.shape == splits.validation.images.shape
        torch.testing.assert_close(normal.double(), plain(splits, splits.validation.images), rtol=1e-6, atol=1e-6)


def test_normalising_leaves_the_bytes_as_they_are(digits: ImageSplits) -> None:
    before = digits.validation.images.clone()
    digits.normalize(digits.validation.images)
    assert torch.equal(digits.validation.images, before)


def test_standardised_training_images_have_mean_0_and_standard_deviation_1_in_every_channel() -> None:
    splits = coloured()
    normal = splits.normalize(splits.train.images).double()
    torch.testing.assert_close(normal.mean((0, 2, 3)), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-6)
    torch.testing.assert_close(
        normal.std((0, 2, 3), unbiased=False), torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-6
    )


def test_statistics_come_from_the_training_images_only(digits: ImageSplits) -> None:
    scaled = digits.train.images.double() / 255
    assert digits.mean == pytest.approx((scaled.mean().item(),), rel=1e-12)
    assert digits.std == pytest.approx((scaled.std(unbiased=False).item(),), rel=1e-12)


def test_unit_scaling_is_torchvisions_to_tensor_bit_for_bit() -> None:
    from torchvision.transforms.functional import to_tensor  # type: ignore[import-untyped]

    splits = load(DataConfig(scaling="unit"))
    assert (splits.mean, splits.std) == ((0.0,), (1.0,))
    every_byte = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(splits.normalize(every_byte)[0], to_tensor(every_byte[0, 0].numpy()))


def test_a_pixel_is_normalised_alike_in_every_batch() -> None:
    splits = coloured()
    whole = splits.normalize(splits.train.images)
    for size in (1, 3, 7):
        pieces = torch.cat([splits.normalize(b) for b in torch.split(splits.train.images, size)])
        assert torch.equal(pieces, whole)


def test_images_without_contrast_cannot_be_standardised() -> None:
    grey = torch.full((10, 1, 4, 4), 7, dtype=torch.uint8)
    official = download.OfficialSets(grey, torch.zeros(10).long(), grey, torch.zeros(10).long(), ("a",))
    with pytest.raises(DataError, match=r"one value in every pixel of channel 0 .* dataset\.scaling = \"unit\""):
        data.split(official, DataConfig("mnist"))
    assert data.split(official, DataConfig("mnist", scaling="unit")).std == (1.0,)


@pytest.mark.parametrize("device", ["meta", *(["cuda"] if torch.cuda.is_available() else [])])
def test_splits_move_to_a_device_as_a_whole(digits: ImageSplits, device: str) -> None:
    moved = digits.to(device)
    assert moved.device.type == device
    assert {attrgetter(t)(moved).device.type for t in TENSORS} == {device}
    assert moved.normalize(moved.train.images[:5]).device.type == device
    assert digits.device.type == "cpu"
    if device != "meta":
        ours = moved.normalize(moved.train.images).cpu()
        torch.testing.assert_close(ours, digits.normalize(digits.train.images), rtol=1e-6, atol=1e-6)


# --- the real MNIST ---------------------------------------------------------------------------------------------------


def test_mnist_is_what_torchvision_reads(mnist_root: Path) -> None:
    from torchvision import datasets  # type: ignore[import-untyped]

    official = download.read("mnist", mnist_root, download=False, progress=False)
    for train, images, labels in (
        (True, official.train_images, official.train_labels),
        (False, official.test_images, official.test_labels),
    ):
        theirs = datasets.MNIST(mnist_root, train=train)
        assert torch.equal(images[:, 0], theirs.data)
        assert torch.equal(labels, theirs.targets)
    assert download.layout_of("mnist").files == tuple(name.removesuffix(".gz") for name, _ in datasets.MNIST.resources)


def test_mnist_has_its_known_statistics(mnist_root: Path) -> None:
    official = download.read("mnist", mnist_root, download=False, progress=False)
    assert official.train_images.shape == (60_000, 1, 28, 28)
    (mean,), (std,) = statistics(ImageSet(official.train_images, official.train_labels))
    assert (round(mean, 4), round(std, 4)) == (0.1307, 0.3081)


def test_mnist_is_drawn_from_its_training_images_and_tested_on_its_test_images(mnist_root: Path) -> None:
    splits = load(DataConfig("mnist", limit=1000), mnist_root)
    assert [len(attrgetter(t)(splits)) for t in TENSORS] == [800, 800, 200, 200, 10_000, 10_000]
    assert equal(splits, load(DataConfig("mnist", limit=1000), mnist_root))
    official = download.read("mnist", mnist_root, download=False, progress=False)
    train, validation = draw(DataConfig("mnist", limit=1000), 60_000)
    assert torch.equal(splits.train.images, official.train_images[train])
    assert torch.equal(splits.validation.labels, official.train_labels[validation])
    assert torch.equal(splits.test.images, official.test_images)


def test_all_of_mnist_is_48000_12000_and_10000(mnist_root: Path) -> None:
    splits = load(DataConfig("mnist"), mnist_root)
    assert [len(attrgetter(t)(splits)) for t in TENSORS] == [48_000, 48_000, 12_000, 12_000, 10_000, 10_000]


def test_the_drawn_images_of_mnist_share_no_content(mnist_root: Path) -> None:
    splits = load(DataConfig("mnist"), mnist_root)
    train, validation, test = (
        set(hashes(i)) for i in (splits.train.images, splits.validation.images, splits.test.images)
    )
    assert not train & validation
    assert not train & test
    assert not validation & test


def test_a_limit_above_mnists_training_images_is_refused(mnist_root: Path) -> None:
    with pytest.raises(StudyFileError, match=r"dataset\.limit: must be at most 60000 for mnist, got 60001"):
        load(DataConfig("mnist", limit=60_001), mnist_root)
