"""The data sets: what is drawn, how it is normalised, what a download and a corrupt file come to.

Downloads run torchvision's own code against a real server on this machine.
"""

import gzip
import hashlib
import io
import os
import pickle
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lrsearch import spec
from lrsearch.errors import DataError, StudyFileError
from lrsearch.training import data, download
from lrsearch.training.data import NAMES, DataConfig, ImageSplits, draw, load, statistics

IDX = download.IDX_FILES
TENSORS = (
    "train_images",
    "train_labels",
    "validation_images",
    "validation_labels",
    "test_images",
    "test_labels",
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
    return all(torch.equal(getattr(a, t), getattr(b, t)) for t in TENSORS) and (a.mean, a.std) == (b.mean, b.std)


# --- digits -----------------------------------------------------------------------------------------------------------


def test_digits_are_800_200_and_797_images_of_28x28_bytes(digits: ImageSplits) -> None:
    assert digits.train_images.shape == (800, 1, 28, 28)
    assert digits.validation_images.shape == (200, 1, 28, 28)
    assert digits.test_images.shape == (797, 1, 28, 28)
    assert [len(getattr(digits, t)) for t in TENSORS] == [800, 800, 200, 200, 797, 797]
    assert {getattr(digits, t).dtype for t in TENSORS} == {torch.uint8, torch.int64}
    assert digits.shape == (1, 28, 28)
    assert digits.n_classes == 10
    assert digits.classes == tuple("0123456789")
    assert int(digits.train_images.min()) == 0
    assert int(digits.train_images.max()) == 255


def test_digits_load_equal_bit_for_bit_twice(digits: ImageSplits) -> None:
    assert equal(digits, load(DataConfig()))


def test_the_three_sets_of_digits_share_no_image(digits: ImageSplits) -> None:
    # All 1,797 differ, so that content tells them apart.
    everything = [h for t in ("train_images", "validation_images", "test_images") for h in hashes(getattr(digits, t))]
    assert len(set(everything)) == len(everything) == 1797


@pytest.mark.parametrize(
    "config",
    [DataConfig(limit=3), DataConfig(limit=500, validation_fraction=0.5), DataConfig(split_seed=7, scaling="unit")],
)
def test_the_test_digits_are_always_the_same(digits: ImageSplits, config: DataConfig) -> None:
    other = load(config)
    assert torch.equal(other.test_images, digits.test_images)
    assert torch.equal(other.test_labels, digits.test_labels)


def test_the_drawn_digits_do_not_change_with_versions_and_machines(digits: ImageSplits) -> None:
    # A split or a pixel that moved would make results of two versions incomparable, silently.
    contents = b"".join(getattr(digits, t).numpy().tobytes() for t in TENSORS)
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
        for image, label in zip(getattr(digits, f"{part}_images"), getattr(digits, f"{part}_labels"), strict=True)
    }
    assert ours == expected


def test_digits_are_read_through_scikit_learn_where_its_file_lies_elsewhere(
    digits: ImageSplits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "find_spec", lambda _: None)
    assert equal(digits, load(DataConfig()))


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
    assert counted == len(load(DataConfig(limit=limit, validation_fraction=fraction)).train_labels)


def test_the_study_file_knows_the_names_and_scalings_that_are_offered() -> None:
    assert get_args(spec.DatasetName) == NAMES
    assert set(spec.POOL_SIZE) == set(NAMES)
    assert get_args(spec.DatasetSpec.model_fields["scaling"].annotation) == data.SCALINGS


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (
            DataConfig(name="mnits"),
            "dataset.name: unknown data set 'mnits' (did you mean 'mnist'?); known: digits, mnist",
        ),  # type: ignore[arg-type]
        (DataConfig(scaling="units"), "dataset.scaling: unknown scaling 'units' (did you mean 'unit'?)"),  # type: ignore[arg-type]
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
        normal = splits.normalize(splits.validation_images)
        assert normal.dtype == torch.float32
        assert normal.shape == splits.validation_images.shape
        torch.testing.assert_close(normal.double(), plain(splits, splits.validation_images), rtol=1e-6, atol=1e-6)


def test_normalising_leaves_the_bytes_as_they_are(digits: ImageSplits) -> None:
    before = digits.validation_images.clone()
    digits.normalize(digits.validation_images)
    assert torch.equal(digits.validation_images, before)


def test_standardised_training_images_have_mean_0_and_standard_deviation_1_in_every_channel() -> None:
    splits = coloured()
    normal = splits.normalize(splits.train_images).double()
    torch.testing.assert_close(normal.mean((0, 2, 3)), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-6)
    torch.testing.assert_close(
        normal.std((0, 2, 3), unbiased=False), torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-6
    )


def test_statistics_come_from_the_training_images_only(digits: ImageSplits) -> None:
    scaled = digits.train_images.double() / 255
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
    whole = splits.normalize(splits.train_images)
    for size in (1, 3, 7):
        pieces = torch.cat([splits.normalize(b) for b in splits.train_images.split(size)])
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
    assert {getattr(moved, t).device.type for t in TENSORS} == {device}
    assert moved.normalize(moved.train_images[:5]).device.type == device
    assert digits.device.type == "cpu"
    if device != "meta":
        ours = moved.normalize(moved.train_images).cpu()
        torch.testing.assert_close(ours, digits.normalize(digits.train_images), rtol=1e-6, atol=1e-6)


# --- the real MNIST ---------------------------------------------------------------------------------------------------


def test_mnist_is_what_torchvision_reads(mnist_root: Path) -> None:
    from torchvision import datasets

    official = download.read("mnist", mnist_root, download=False, progress=False)
    for train, images, labels in (
        (True, official.train_images, official.train_labels),
        (False, official.test_images, official.test_labels),
    ):
        theirs = datasets.MNIST(mnist_root, train=train)
        assert torch.equal(images[:, 0], theirs.data)
        assert torch.equal(labels, theirs.targets)
    assert download.LAYOUTS["mnist"].files == tuple(name.removesuffix(".gz") for name, _ in datasets.MNIST.resources)


def test_mnist_has_its_known_statistics(mnist_root: Path) -> None:
    official = download.read("mnist", mnist_root, download=False, progress=False)
    assert official.train_images.shape == (60_000, 1, 28, 28)
    (mean,), (std,) = statistics(official.train_images)
    assert (round(mean, 4), round(std, 4)) == (0.1307, 0.3081)


def test_mnist_is_drawn_from_its_training_images_and_tested_on_its_test_images(mnist_root: Path) -> None:
    splits = load(DataConfig("mnist", limit=1000), mnist_root)
    assert [len(getattr(splits, t)) for t in TENSORS] == [800, 800, 200, 200, 10_000, 10_000]
    assert equal(splits, load(DataConfig("mnist", limit=1000), mnist_root))
    official = download.read("mnist", mnist_root, download=False, progress=False)
    train, validation = draw(DataConfig("mnist", limit=1000), 60_000)
    assert torch.equal(splits.train_images, official.train_images[train])
    assert torch.equal(splits.validation_labels, official.train_labels[validation])
    assert torch.equal(splits.test_images, official.test_images)


def test_all_of_mnist_is_48000_12000_and_10000(mnist_root: Path) -> None:
    splits = load(DataConfig("mnist"), mnist_root)
    assert [len(getattr(splits, t)) for t in TENSORS] == [48_000, 48_000, 12_000, 12_000, 10_000, 10_000]


def test_the_drawn_images_of_mnist_share_no_content(mnist_root: Path) -> None:
    splits = load(DataConfig("mnist"), mnist_root)
    train, validation, test = (
        set(hashes(i)) for i in (splits.train_images, splits.validation_images, splits.test_images)
    )
    assert not train & validation
    assert not train & test
    assert not validation & test


def test_a_limit_above_mnists_training_images_is_refused(mnist_root: Path) -> None:
    with pytest.raises(StudyFileError, match=r"dataset\.limit: must be at most 60000 for mnist, got 60001"):
        load(DataConfig("mnist", limit=60_001), mnist_root)


# --- small sets in the real formats, and a server for them ------------------------------------------------------------


def idx(values: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    header = bytes((0, 0, 8, values.ndim)) + b"".join(size.to_bytes(4, "big") for size in values.shape)
    return header + values.tobytes()


def small_mnist(n_train: int = 60, n_test: int = 20) -> dict[str, bytes]:
    """Return the four files of a data set in MNIST's format."""
    rng = np.random.default_rng(0)
    contents = []
    for n in (n_train, n_test):
        contents += [rng.integers(0, 256, (n, 28, 28)), np.arange(n) % 10]
    return {name: idx(c.astype(np.uint8)) for name, c in zip(IDX, contents, strict=True)}


def small_cifar10() -> dict[str, bytes]:
    """Return the files of a data set in CIFAR-10's format."""
    rng = np.random.default_rng(0)
    files = {}
    for name in download.LAYOUTS["cifar10"].files[:-1]:
        batch = {"data": rng.integers(0, 256, (12, 3072)).astype(np.uint8), "labels": [i % 10 for i in range(12)]}
        files[name] = pickle.dumps(batch)
    files["batches.meta"] = pickle.dumps({"label_names": list(download.LAYOUTS["cifar10"].classes)})
    return files


def put(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def packed(files: dict[str, bytes]) -> bytes:
    """Return CIFAR-10's archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


@dataclass
class Mirror:
    """A server on this machine, and what it does with a file."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    cut: str = ""
    """The file whose second half never comes; the connection closes."""
    stalled: str = ""
    """The file whose second half never comes; the connection stays open."""
    half_sent: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    state = Mirror()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            state.asked.append(name)
            if name not in state.files:
                self.send_error(404)
                return
            content = state.files[name]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            try:
                if name in (state.cut, state.stalled):
                    self.wfile.write(content[: len(content) // 2])
                    # torchvision asks once to follow redirects and once for the file.
                    if state.asked.count(name) > 1:
                        state.half_sent.set()
                    if name == state.stalled:
                        state.release.wait(60)
                else:
                    self.wfile.write(content)
            except OSError:
                pass  # the client has hung up

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    state.release.set()
    server.shutdown()
    thread.join()
    server.server_close()


def serve_mnist(mirror: Mirror, monkeypatch: pytest.MonkeyPatch, class_name: str = "MNIST") -> dict[str, bytes]:
    """Put a small MNIST on the mirror and make torchvision download from there; return its files."""
    from torchvision import datasets

    files = small_mnist()
    mirror.files = {f"{name}.gz": gzip.compress(content, 1, mtime=0) for name, content in files.items()}
    cls = getattr(datasets, class_name)
    monkeypatch.setattr(cls, "mirrors", [mirror.url])
    monkeypatch.setattr(cls, "resources", [(name, md5(content)) for name, content in mirror.files.items()])
    return files


def expect_cifar10(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the checksums of these files the ones that torchvision expects."""
    from torchvision import datasets

    sums = {name: md5(content) for name, content in files.items()}
    monkeypatch.setattr(
        datasets.CIFAR10, "train_list", [[f"data_batch_{i}", sums[f"data_batch_{i}"]] for i in range(1, 6)]
    )
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    meta = {**datasets.CIFAR10.meta, "md5": sums["batches.meta"]}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)


def serve_cifar10(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    from torchvision import datasets

    files = small_cifar10()
    expect_cifar10(files, monkeypatch)
    archive = packed(files)
    mirror.files = {"cifar-10-python.tar.gz": archive}
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{mirror.url}cifar-10-python.tar.gz")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(archive))
    return files


def tree(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


def both_remedies(sentence: str, folder: Path) -> bool:
    return (
        str(folder) in sentence
        and "--data-dir or LRSEARCH_DATA_DIR" in sentence
        and "connect to the network" in sentence
        and "'digits'" in sentence
        and "\n" not in sentence
        and "http" not in sentence
    )


# --- downloads --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "class_name"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_a_missing_set_is_downloaded_once_into_torchvisions_layout(
    name: Any,
    class_name: str,
    mirror: Mirror,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from torchvision import datasets

    files = serve_mnist(mirror, monkeypatch, class_name)
    root = tmp_path / "not" / "yet"
    first = load(DataConfig(name), root)
    assert tree(root) == {class_name, f"{class_name}/raw", *(f"{class_name}/raw/{f}" for f in IDX)}
    assert {f: (root / class_name / "raw" / f).read_bytes() for f in IDX} == files
    assert len(first.test_labels) == 20
    assert len(getattr(datasets, class_name)(root, download=False)) == 60
    mirror.asked.clear()
    assert equal(first, load(DataConfig(name), root))
    assert mirror.asked == []
    assert capfd.readouterr() == ("", "")


def test_cifar10_is_downloaded_and_read_as_colour_images(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = serve_cifar10(mirror, monkeypatch)
    splits = load(DataConfig("cifar10", scaling="unit"), tmp_path)
    assert tree(tmp_path) == {"cifar-10-batches-py", *(f"cifar-10-batches-py/{f}" for f in files)}
    assert splits.shape == (3, 32, 32)
    assert [len(getattr(splits, t)) for t in TENSORS] == [48, 48, 12, 12, 12, 12]
    assert splits.classes[3] == "cat"
    raw = pickle.loads(files["test_batch"])
    assert np.array_equal(splits.test_images.numpy().reshape(12, 3072), raw["data"])
    assert splits.test_labels.tolist() == raw["labels"]
    assert splits.test_images.is_contiguous()
    assert equal(splits, load(DataConfig("cifar10", scaling="unit"), tmp_path, download=False))


def test_a_download_says_so_on_stderr_when_progress_is_wanted(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    serve_mnist(mirror, monkeypatch)
    load(DataConfig("mnist"), tmp_path, progress=True)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"downloading the data set mnist to {tmp_path / 'MNIST' / 'raw'}\n"


@pytest.mark.parametrize("progress", [True, False])
def test_the_bar_is_drawn_on_a_terminal_only_and_only_if_wanted(
    progress: bool, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    serve_mnist(mirror, monkeypatch)
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    load(DataConfig("mnist"), tmp_path, progress=progress)
    assert ("100%" in terminal.getvalue()) is progress
    assert bool(terminal.getvalue()) is progress


def test_archives_laid_by_hand_are_unpacked_without_a_network(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_mnist(mirror, monkeypatch)
    put(tmp_path / "MNIST" / "raw", mirror.files)
    load(DataConfig("mnist"), tmp_path)
    assert mirror.asked == []


def test_a_download_leaves_files_that_lie_there_as_they_are(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_mnist(mirror, monkeypatch)
    mine = small_mnist(n_train=33)
    put(tmp_path / "MNIST" / "raw", {name: mine[name] for name in IDX[:2]})
    assert len(load(DataConfig("mnist"), tmp_path).train_labels) == 33 - 7
    assert (tmp_path / "MNIST" / "raw" / IDX[0]).read_bytes() == mine[IDX[0]]


def test_without_files_and_without_a_network_one_sentence_says_the_remedies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import datasets

    nobody = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    url = f"http://127.0.0.1:{nobody.server_address[1]}/"
    nobody.server_close()
    monkeypatch.setattr(datasets.MNIST, "mirrors", [url, url])
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{url}cifar-10-python.tar.gz")
    root = tmp_path / "cache"
    for name, folder in (("mnist", "MNIST/raw"), ("cifar10", "cifar-10-batches-py")):
        with pytest.raises(DataError) as caught:
            load(DataConfig(name), root)  # type: ignore[arg-type]
        assert both_remedies(str(caught.value), root)
        assert folder in str(caught.value)
        assert "Connection refused" in str(caught.value)
    assert tree(tmp_path) == set()


def test_a_server_that_never_answers_counts_as_unreachable(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_mnist(mirror, monkeypatch)
    mirror.stalled = "train-images-idx3-ubyte.gz"
    monkeypatch.setattr(download, "NETWORK_TIMEOUT_SECONDS", 0.2)
    with pytest.raises(DataError) as caught:
        load(DataConfig("mnist"), tmp_path)
    assert both_remedies(str(caught.value), tmp_path)
    assert "timed out" in str(caught.value)
    assert tree(tmp_path) == set()


def test_a_missing_set_that_may_not_be_downloaded_is_named_with_its_remedies(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load(DataConfig("fashion-mnist"), tmp_path / "nothing", download=False)
    assert both_remedies(str(caught.value), tmp_path / "nothing")
    assert "FashionMNIST/raw/train-images-idx3-ubyte and 3 more missing" in str(caught.value)
    assert tree(tmp_path) == set()


def test_one_missing_file_is_a_missing_set(tmp_path: Path) -> None:
    files = small_mnist()
    del files[IDX[3]]
    put(tmp_path / "MNIST" / "raw", files)
    with pytest.raises(DataError, match=r"\(MNIST/raw/t10k-labels-idx1-ubyte missing\)"):
        load(DataConfig("mnist"), tmp_path, download=False)


@pytest.mark.parametrize("fault", ["cut off", "another file", "not there", "broken gz"])
def test_what_does_not_arrive_whole_is_not_mistaken_for_a_data_set(
    fault: str, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import datasets

    serve_mnist(mirror, monkeypatch)
    last = "t10k-labels-idx1-ubyte.gz"
    good = mirror.files[last]
    match fault:
        case "cut off":
            mirror.cut = last
        case "another file":
            mirror.files[last] = b"<html>log in to this network</html>"
        case "not there":
            del mirror.files[last]
        case "broken gz":
            mirror.files[last] = good[:-9]
            resources = [*datasets.MNIST.resources[:-1], (last, md5(good[:-9]))]
            monkeypatch.setattr(datasets.MNIST, "resources", resources)
    with pytest.raises(DataError) as caught:
        load(DataConfig("mnist"), tmp_path)
    assert both_remedies(str(caught.value), tmp_path)
    assert "could not be downloaded" in str(caught.value)
    assert tree(tmp_path) == set()
    # Whole again, it is downloaded.
    mirror.cut = ""
    serve_mnist(mirror, monkeypatch)
    assert len(load(DataConfig("mnist"), tmp_path).test_labels) == 20


def test_a_process_killed_in_its_download_leaves_no_data_set_behind(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_mnist(mirror, monkeypatch)
    mirror.stalled = "t10k-images-idx3-ubyte.gz"
    code = (
        "import sys; from pathlib import Path; from torchvision import datasets\n"
        "from lrsearch.training.data import DataConfig, load\n"
        "datasets.MNIST.mirrors = [sys.argv[1]]\n"
        "datasets.MNIST.resources = [tuple(r.split('=')) for r in sys.argv[3:]]\n"
        "load(DataConfig('mnist'), Path(sys.argv[2]))\n"
    )
    sums = [f"{name}={md5(content)}" for name, content in mirror.files.items()]
    victim = subprocess.Popen([sys.executable, "-c", code, mirror.url, str(tmp_path), *sums])
    try:
        assert mirror.half_sent.wait(60)
    finally:
        victim.kill()
        victim.wait()
    assert any("train-images" in f for f in tree(tmp_path)), "it was killed too early to tell"
    with pytest.raises(DataError, match="missing"):
        load(DataConfig("mnist"), tmp_path, download=False)
    mirror.stalled = ""
    assert len(load(DataConfig("mnist"), tmp_path).test_labels) == 20


# --- folders that do not serve ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocked", ["data", "data/MNIST", "data/MNIST/raw"])
def test_a_file_where_a_folder_must_be_cannot_be_written(
    blocked: str, tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_mnist(mirror, monkeypatch)
    (tmp_path / blocked).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / blocked).write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(DataError) as caught:
        load(DataConfig("mnist"), tmp_path / "data")
    assert f"the data folder {tmp_path / 'data'} cannot be written" in str(caught.value)
    assert "--data-dir or LRSEARCH_DATA_DIR" in str(caught.value)
    assert tree(tmp_path) == before
    assert mirror.asked == []


def test_a_full_disk_is_not_called_a_bad_network(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import utils  # type: ignore[import-untyped]

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    serve_mnist(mirror, monkeypatch)
    monkeypatch.setattr(utils, "_urlretrieve", full)
    with pytest.raises(DataError, match="cannot be written: No space left on device"):
        load(DataConfig("mnist"), tmp_path)


def test_a_folder_that_cannot_be_looked_into_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: File name too long"):
        load(DataConfig("mnist"), tmp_path / ("x" * 300))


def test_without_a_folder_the_users_cache_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import platformdirs

    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / name)
    put(tmp_path / "lrsearch" / "MNIST" / "raw", small_mnist())
    assert len(load(DataConfig("mnist"), download=False).test_labels) == 20


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    put(tmp_path / "sets" / "MNIST" / "raw", small_mnist())
    assert len(load(DataConfig("mnist"), Path("~/sets"), download=False).test_labels) == 20


# --- corrupt files ----------------------------------------------------------------------------------------------------

LABELS = idx((np.arange(60) % 10).astype(np.uint8))


@pytest.mark.parametrize(
    ("file", "damage", "words"),
    [
        (0, lambda b: b[:-1], "its header promises 60 x 28 x 28 bytes of data, 47,056 in all, and it holds 47,055"),
        (0, lambda b: b + b"x", "and it holds 47,057"),
        (0, lambda b: b[:9], "it ends within its header, after 9 bytes"),
        (0, lambda _: b"", "it ends within its header, after 0 bytes"),
        (0, gzip.compress, "it is still compressed"),
        (0, lambda b: b"\x00\x00\x0d\x03" + b[4:], "it starts with 0x00000d03 where 0x00000803 must stand"),
        (0, lambda _: LABELS, "it starts with 0x00000801 where 0x00000803 must stand"),
        (0, lambda b: b[:4] + bytes(12), "its header promises 0 x 0 x 0 bytes of data"),
        (1, lambda b: b[:8] + b[9:], "its header promises 60 bytes of data, 68 in all, and it holds 67"),
        (1, lambda _: idx(np.zeros(59, dtype=np.uint8)), "it holds 59 labels for 60 images"),
        (1, lambda b: b[:-1] + b"\x0a", "it holds the label 10, known are 0..9"),
        (2, lambda b: b[:-1], "its header promises 20 x 28 x 28"),
        (
            2,
            lambda _: idx(np.zeros((20, 8, 9), dtype=np.uint8)),
            "its images are 8x9 where those of training are 28x28",
        ),
        (3, lambda _: LABELS, "it holds 60 labels for 20 images"),
    ],
)
def test_a_corrupt_idx_file_is_named_with_its_fault_and_remedy(
    file: int, damage: Callable[[bytes], bytes], words: str, tmp_path: Path
) -> None:
    files = small_mnist()
    files[IDX[file]] = damage(files[IDX[file]])
    put(tmp_path / "MNIST" / "raw", files)
    with pytest.raises(DataError) as caught:
        load(DataConfig("mnist"), tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'MNIST' / 'raw' / IDX[file]} is corrupt: ")
    assert words in str(caught.value)
    assert str(caught.value).endswith("delete it and let it download again, or put a good copy in its place")


def test_a_corrupt_file_deleted_is_downloaded_again(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = serve_mnist(mirror, monkeypatch)
    put(tmp_path / "MNIST" / "raw", {**files, IDX[0]: b""})
    with pytest.raises(DataError, match="is corrupt"):
        load(DataConfig("mnist"), tmp_path)
    (tmp_path / "MNIST" / "raw" / IDX[0]).unlink()
    assert len(load(DataConfig("mnist"), tmp_path).train_labels) == 48


def test_an_idx_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "MNIST" / "raw", small_mnist())

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(np, "fromfile", denied)
    with pytest.raises(DataError, match="train-images-idx3-ubyte cannot be read: Permission denied"):
        load(DataConfig("mnist"), tmp_path)


@pytest.mark.parametrize("file", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_corrupt_file_of_cifar10_is_named(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = small_cifar10()
    expect_cifar10(files, monkeypatch)
    put(tmp_path / "cifar-10-batches-py", {**files, file: files[file][:-7]})
    with pytest.raises(DataError) as caught:
        load(DataConfig("cifar10"), tmp_path)
    path = tmp_path / "cifar-10-batches-py" / file
    assert str(caught.value).startswith(f"{path} is corrupt: its checksum is wrong; delete it")


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (b"\x80\x04no pickle", "cifar-10-batches-py is corrupt: "),
        (
            pickle.dumps({"data": np.zeros((12, 3072), np.uint8), "labels": [0] * 11}),
            "cifar-10-batches-py is corrupt: it holds 59 labels for 60 images",
        ),
        (
            pickle.dumps({"data": np.zeros((12, 3072), np.uint8), "labels": [10] * 12}),
            "cifar-10-batches-py is corrupt: it holds the label 10, known are 0..9",
        ),
    ],
)
def test_files_of_cifar10_whose_checksums_are_right_are_still_looked_at(
    broken: bytes, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {**small_cifar10(), "data_batch_2": broken}
    expect_cifar10(files, monkeypatch)
    put(tmp_path / "cifar-10-batches-py", files)
    with pytest.raises(DataError) as caught:
        load(DataConfig("cifar10"), tmp_path)
    assert words in str(caught.value)


def test_a_configuration_that_cannot_be_drawn_is_refused_before_anything_is_downloaded(tmp_path: Path) -> None:
    with pytest.raises(StudyFileError):
        load(replace(DataConfig("mnist"), limit=1), tmp_path)
    assert tree(tmp_path) == set()
