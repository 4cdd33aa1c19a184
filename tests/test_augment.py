"""Every change of training images is torchvision's, image by image, and each image of a batch has its own draw."""

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from lrsearch.spec.training import AugmentSpec
from lrsearch.training.augment import colour, geometry, trivial
from lrsearch.training.augment.augmenter import Augmenter
from lrsearch.training.augment.draw import NUMBERS, Draws, Source, joined
from lrsearch.training.augment.parameters import Parameters, parameters
from lrsearch.training.data import ImageSet, ImageSplits

N = 64
BILINEAR = v2.InterpolationMode.BILINEAR
LEVEL = 1 / 255
EXACT = 1e-5
"""Rounding of float32, on the scale 0..1."""
BETWEEN = 0.01 * LEVEL
"""What torchvision and we differ by where places lie between pixels: both round the place, and noise changes by a whole
level within a two hundredth of a pixel."""
ON_BYTES = 2 * LEVEL
"""What it loses where it is given bytes: it cuts off fractions, of an image and of the grey that it is blended with."""
SHAPES = ((3, 32, 32), (1, 28, 28), (3, 24, 40))


def noise(shape: tuple[int, int, int], n: int = N) -> torch.Tensor:
    return torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def splits_of(images: torch.Tensor) -> ImageSplits:
    one = ImageSet(images, torch.arange(len(images)) % 5)
    channels = images.shape[1]
    return ImageSplits(one, one, one, tuple("abcde"), (0.4, 0.5, 0.45)[:channels], (0.2, 0.25, 0.3)[:channels])


class Batch:
    """A batch that was changed, with what was drawn for it, on the scale 0..1."""

    def __init__(self, keys: str, images: torch.Tensor, seed: int = 1, step: int = 3) -> None:
        self.spec = AugmentSpec.model_validate(keys)
        self.splits = splits_of(images)
        self.bytes, self.images = images, images / 255
        height, width = images.shape[2:]
        self.drawn: Draws = Source(self.spec, seed).at(step, len(images))
        self.by: Parameters = parameters(self.spec, self.drawn, height, width)
        self.mean, self.std = (torch.tensor(v).view(-1, 1, 1) for v in (self.splits.mean, self.splits.std))
        changed, self.labels = Augmenter(self.spec, self.splits, seed)(
            images, self.splits.train.labels, step, len(images)
        )
        self.changed = changed * self.std + self.mean

    def normalised(self, i: int, change: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Return what becomes of image i by a change of the normalised image."""
        return change((self.images[i] - self.mean) / self.std) * self.std + self.mean

    def holds(self, i: int, wanted: torch.Tensor, within: float) -> None:
        worst = (self.changed[i] - wanted).abs().max().item()
        assert worst <= within, (i, worst / LEVEL)


# --- each change is torchvision's ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("key", ["brightness", "contrast", "saturation"])
def test_colours_are_torchvisions(key: str, shape: tuple[int, int, int]) -> None:
    if key == "saturation" and shape[0] == 1:
        return
    made = Batch(f"{key}=0.6", noise(shape))
    adjust = getattr(functional, f"adjust_{key}")
    for i, factor in enumerate(made.by.factors[key]):
        made.holds(i, adjust(made.images[i], factor), EXACT)
        made.holds(i, adjust(made.bytes[i], factor) / 255, ON_BYTES)
    assert made.by.factors[key].min() < 0.6
    assert made.by.factors[key].max() > 1.4


def test_colours_act_in_the_order_of_their_keys() -> None:
    made = Batch("saturation=0.5, contrast=0.5, brightness=0.5", noise((3, 16, 16)))
    for i in range(N):
        factors = {key: values[i] for key, values in made.by.factors.items()}
        assert list(factors) == ["brightness", "contrast", "saturation"]
        wanted = functional.adjust_contrast(
            functional.adjust_brightness(made.images[i], factors["brightness"]), factors["contrast"]
        )
        made.holds(i, functional.adjust_saturation(wanted, factors["saturation"]), EXACT)


@pytest.mark.parametrize("shape", SHAPES)
def test_affine_maps_are_torchvisions(shape: tuple[int, int, int]) -> None:
    _, height, width = shape
    made = Batch("affine=180, translate=0.3, scale=0.5, shear=40", noise(shape))
    signed = {key: 2 * values - 1 for key, values in made.drawn.uniform.items()}
    for i in range(N):
        angle, scale, shear = (
            180 * signed["affine"][0][i],
            1 + 0.5 * signed["scale"][0][i],
            40 * signed["shear"][0][i],
        )
        right, down = 0.3 * width * signed["translate"][0][i], 0.3 * height * signed["translate"][1][i]

        def affine(image: torch.Tensor, how: tuple[float, ...] = (angle, right, down, scale, shear)) -> torch.Tensor:
            return functional.affine(image, how[0], [how[1], how[2]], how[3], [how[4], 0.0], BILINEAR)

        made.holds(i, made.normalised(i, affine), BETWEEN)


@pytest.mark.parametrize("shape", SHAPES)
def test_resized_crops_are_torchvisions(shape: tuple[int, int, int]) -> None:
    _, height, width = shape
    made = Batch("resized_crop=0.05", noise(shape))
    assert made.by.cut is not None
    for i, (top, left, tall, wide) in enumerate(made.by.cut.tolist()):
        wanted = functional.resized_crop(made.images[i], top, left, tall, wide, [height, width], BILINEAR)
        made.holds(i, wanted, BETWEEN)
        on_bytes = functional.resized_crop(made.bytes[i], top, left, tall, wide, [height, width], BILINEAR)
        made.holds(i, on_bytes / 255, ON_BYTES)


def test_an_affine_map_and_a_resized_crop_are_read_at_once() -> None:
    """Torchvision reads twice, which blurs: where colours rise evenly that makes no difference, inside of the image."""
    across, down = torch.meshgrid(torch.arange(40), torch.arange(40), indexing="xy")
    images = (2 * across + 3 * down + 20).to(torch.uint8).expand(N, 1, 40, 40)
    made = Batch("affine=30, scale=0.1, resized_crop=0.3", images)
    assert made.by.maps is not None
    assert made.by.cut is not None
    angle, scale = (2 * made.drawn.uniform[key][0] - 1 for key in ("affine", "scale"))
    n_compared = 0
    for i, (top, left, tall, wide) in enumerate(made.by.cut.tolist()):
        marked = torch.cat((made.images[i], torch.ones(1, 40, 40)))
        moved = functional.affine(marked, 30 * angle[i], [0.0, 0.0], 1 + 0.1 * scale[i], [0.0, 0.0], BILINEAR)
        wanted, whole = functional.resized_crop(moved, top, left, tall, wide, [40, 40], BILINEAR).split(1)
        inside = whole == 1
        n_compared += int(inside.sum())
        assert ((made.changed[i] - wanted).abs() * inside).max() <= BETWEEN
    assert n_compared > 0.5 * N * 40 * 40


@pytest.mark.parametrize("shape", SHAPES)
def test_flips_and_crops_are_torchvisions_bit_for_bit(shape: tuple[int, int, int]) -> None:
    _, height, width = shape
    made = Batch("flip, crop=5", noise(shape))
    assert made.by.flip is not None
    assert made.by.shift is not None
    normal = made.splits.normalize(made.bytes)
    changed, _ = Augmenter(made.spec, made.splits, 1)(made.bytes, made.splits.train.labels, 3, N)
    for i in range(N):
        top, left = made.by.shift[:, i].tolist()
        wanted = functional.crop(functional.pad(normal[i], [5]), top, left, height, width)
        wanted = functional.horizontal_flip(wanted) if made.by.flip[i] else wanted
        assert torch.equal(changed[i], wanted)


TORCHVISIONS = {
    "identity": "Identity",
    "shear_x": "ShearX",
    "shear_y": "ShearY",
    "translate_x": "TranslateX",
    "translate_y": "TranslateY",
    "rotate": "Rotate",
    "brightness": "Brightness",
    "saturation": "Color",
    "contrast": "Contrast",
    "sharpness": "Sharpness",
    "posterize": "Posterize",
    "solarize": "Solarize",
    "autocontrast": "AutoContrast",
    "equalize": "Equalize",
}
"""Names of ``TrivialAugmentWide``, by ours."""


def torchvisions(name: str, strength: float, image: torch.Tensor) -> torch.Tensor:
    wide = v2.TrivialAugmentWide(interpolation=BILINEAR)
    return wide._apply_image_or_video_transform(
        image, TORCHVISIONS[name], strength, interpolation=BILINEAR, fill={torch.Tensor: None}
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_every_change_of_trivial_augment_is_torchvisions(shape: tuple[int, int, int]) -> None:
    made = Batch("trivial", noise(shape, 512))
    assert made.by.op is not None
    assert made.by.strength is not None
    moves = trivial.moves(made.by.op)
    for i, (number, strength) in enumerate(zip(made.by.op, made.by.strength.tolist(), strict=True)):
        name = trivial.OPS[number]
        if moves[i]:
            made.holds(i, made.normalised(i, lambda one, name=name, by=strength: torchvisions(name, by, one)), BETWEEN)
            continue
        if name != "posterize":  # of floats torchvision makes other levels than of bytes
            made.holds(i, torchvisions(name, strength, made.images[i]), EXACT)
        made.holds(i, torchvisions(name, strength, made.bytes[i]) / 255, ON_BYTES)
    assert set(made.by.op.tolist()) == set(range(len(trivial.OPS)))


def test_the_strengths_of_trivial_augment_are_torchvisions() -> None:
    for number, name in enumerate(trivial.OPS):
        of, signed = v2.TrivialAugmentWide._AUGMENTATION_SPACE[TORCHVISIONS[name]]
        theirs = of(trivial.STRENGTHS, 32, 32)
        ours = trivial._TABLE[number]
        assert np.allclose(ours, 0 if theirs is None else theirs.numpy(), atol=1e-6), name
        assert signed == (trivial.SIGNED.start <= number < trivial.SIGNED.stop)


PLAIN = torch.full((2, 3, 5, 5), 77.0)
FEW = torch.tensor([3.0, 9.0, 200.0]).repeat(9).view(1, 1, 3, 9)


def test_images_of_few_values_are_changed_as_torchvision_does() -> None:
    assert torch.equal(colour.stretched(PLAIN.clone()), PLAIN)
    assert torch.equal(colour.equalized(PLAIN.clone()), PLAIN)
    for images in (FEW, FEW.repeat(1, 3, 40, 40)):
        wanted = functional.equalize(images.to(torch.uint8)).float()
        assert torch.equal(colour.equalized(images.clone()), wanted)
    tiny = torch.rand(2, 3, 2, 9)
    assert torch.equal(colour.sharpened(tiny.clone(), torch.tensor([0.1, 1.9])), tiny)


def test_what_is_erased_is_a_rectangle_of_the_mean() -> None:
    made = Batch("erase=0.5", noise((3, 32, 32), 512))
    assert made.by.erased is not None
    n_erased = 0
    for i, (top, left, tall, wide) in enumerate(made.by.erased.tolist()):
        if tall:
            n_erased += 1
            assert 0.015 < tall * wide / 1024 < 0.36
        made.holds(
            i,
            made.normalised(i, lambda one, at=(top, left, tall, wide): functional.erase(one, *at, torch.zeros(()))),
            EXACT,
        )
    assert 200 < n_erased < 312


@pytest.mark.parametrize("keys", ["mixup=0.4", "cutmix=1.0", "mixup=0.4, cutmix=1.0"])
def test_blended_images_and_labels_are_torchvisions(keys: str) -> None:
    made = Batch(keys, noise((3, 32, 32)))
    assert made.by.partner is not None
    assert made.by.kept is not None
    ways: Counter[str] = Counter()
    labels = made.splits.train.labels
    for i, j in enumerate(made.by.partner.tolist()):
        pair = torch.stack((made.images[i], made.images[j]))
        both = {"labels": labels[[i, j]], "batch_size": 2}
        share = float(made.by.kept[i])
        if made.by.patch is not None and made.by.patch[i, 2:].all():
            top, left, tall, wide = made.by.patch[i].tolist()
            theirs: v2.Transform = v2.CutMix(num_classes=5)
            both |= {"box": (left, top, left + wide, top + tall), "lam_adjusted": share}
            assert share == pytest.approx(1 - tall * wide / 1024)
            ways["cutmix"] += 1
        else:
            theirs, both = v2.MixUp(num_classes=5), both | {"lam": share}
            ways["mixup"] += 1
        made.holds(i, theirs.transform(pair, both)[0], EXACT)
        first, second, counts = made.labels[i].tolist()
        wanted = theirs.transform(both["labels"], both)[0]
        ours = torch.zeros(5).index_add(0, torch.tensor([int(first), int(second)]), torch.tensor([counts, 1 - counts]))
        assert torch.allclose(ours, wanted, atol=1e-6)
        assert i != j
    assert sorted(made.by.partner.tolist()) == list(range(N))
    if "," in keys:
        assert min(ways.values()) > N / 4


def test_a_batch_of_one_image_is_blended_with_itself() -> None:
    made = Batch("mixup=0.4, cutmix=1.0", noise((3, 16, 16), 1))
    made.holds(0, made.images[0], EXACT)
    assert made.labels[0, 0] == made.labels[0, 1] == 0


# --- what is drawn ---------------------------------------------------------------------------------------------------

PICTURE = noise((3, 32, 32), 1)


@pytest.mark.parametrize(
    ("keys", "least"),
    [
        ("brightness=0.4", N),
        ("contrast=0.4", N),
        ("saturation=0.4", N),
        ("affine=20", N),
        ("translate=0.2", N),
        ("scale=0.2", N),
        ("shear=20", N),
        ("resized_crop=0.1", N - 2),  # of whole pixels: two may be alike
        ("erase=1", N - 2),
        ("trivial", 40),  # autocontrast has one strength, and so have three others
        ("crop=4", 40),  # of 81 places
        ("flip", 2),
        ("flip, crop=8, affine=20, brightness=0.4", N),
    ],
)
def test_64_times_one_image_get_64_draws(keys: str, least: int) -> None:
    made = Batch(keys, PICTURE.expand(N, -1, -1, -1))
    assert len({one.numpy().tobytes() for one in made.changed}) >= least


def test_64_images_are_blended_by_64_shares() -> None:
    for keys, least in (("mixup=0.4", N), ("cutmix=1.0", 40)):
        kept = Batch(keys, PICTURE.expand(N, -1, -1, -1)).by.kept
        assert kept is not None
        assert len(set(kept.tolist())) >= least


ALL = (
    "flip, crop=3, affine=10, translate=0.1, scale=0.1, shear=5, resized_crop=0.3, brightness=0.2, contrast=0.2, "
    "saturation=0.2, trivial, erase=0.3, mixup=0.3, cutmix=0.5"
)


def test_seed_and_number_of_the_update_decide_the_draws() -> None:
    images, labels = noise((3, 16, 16)), torch.arange(N) % 5
    spec = AugmentSpec.model_validate(ALL)

    def changed(seed: int, step: int) -> torch.Tensor:
        return Augmenter(spec, splits_of(images), seed)(images, labels, step, N)[0]

    first = changed(1, 3)
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - to show that it does not matter
    assert torch.equal(first, changed(1, 3))
    assert not torch.equal(first, changed(1, 4))
    assert not torch.equal(first, changed(2, 3))


def test_a_batch_is_changed_alike_in_whatever_company() -> None:
    """Updates that are changed at once, or begin later, draw the same; float32 rounds alike here."""
    images, labels = noise((3, 16, 16), 150), torch.arange(150) % 5
    spec = AugmentSpec.model_validate(ALL)
    change = Augmenter(spec, splits_of(images), 1)
    whole, mixed = change(images, labels, 7, 32)
    for i, at in enumerate(range(0, 150, 32)):
        one, of = change(images[at : at + 32], labels[at : at + 32], 7 + i, 32)
        assert torch.allclose(whole[at : at + 32], one, atol=1e-6)
        assert torch.equal(mixed[at : at + 32], of)
    assert len(one) == 22


def test_every_key_that_draws_has_numbers_of_its_own() -> None:
    drawn = Source(AugmentSpec.model_validate(ALL), 1).at(0, N)
    assert set(drawn.uniform) == set(NUMBERS)
    rows = np.concatenate(list(drawn.uniform.values()))
    assert len(rows) == sum(NUMBERS.values())
    assert len({row.tobytes() for row in rows}) == len(rows)
    assert rows.min() >= 0
    assert rows.max() < 1
    assert np.abs(rows.mean(1) - 0.5).max() < 5 / math.sqrt(12 * N)


def drawn_for(keys: str, n: int, height: int = 32, width: int = 32) -> Parameters:
    spec = AugmentSpec.model_validate(keys)
    source = Source(spec, 0)
    return parameters(spec, joined([source.at(step, 64) for step in range(n // 64)]), height, width)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 60), (4, 4)])
def test_resized_crops_are_drawn_as_torchvision_draws_them(height: int, width: int) -> None:
    cut = drawn_for("resized_crop=0.2", 6400, height, width).cut
    assert cut is not None
    top, left, tall, wide = cut.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + tall <= height).all()
    assert (left + wide <= width).all()
    torch.manual_seed(0)
    theirs = v2.RandomResizedCrop(8, scale=(0.2, 1.0))
    image = torch.zeros(3, height, width)
    drawn = np.array(
        [
            [one[k] for k in ("top", "left", "height", "width")]
            for one in (theirs.make_params([image]) for _ in range(6400))
        ]
    )
    for ours, their in zip(cut.T, drawn.T, strict=True):
        error = math.sqrt((ours.var() + their.var()) / 6400)
        assert abs(ours.mean() - their.mean()) < 4 * error + 1e-9


def test_other_draws_have_their_distributions() -> None:
    by = drawn_for("flip, crop=2, trivial, erase=0.25, mixup=0.2, cutmix=1.0", 12800)
    assert by.flip is not None
    assert by.flip.mean() == pytest.approx(0.5, abs=0.02)
    assert by.shift is not None
    for places in by.shift:
        assert np.bincount(places, minlength=5) / 12800 == pytest.approx(0.2, abs=0.015)
    assert by.op is not None
    assert np.bincount(by.op, minlength=14) / 12800 == pytest.approx(1 / 14, abs=0.01)
    assert by.strength is not None
    assert (by.strength[by.op == trivial.OPS.index("rotate")] < 0).mean() == pytest.approx(0.5, abs=0.06)
    assert by.erased is not None
    assert by.erased[:, 2].astype(bool).mean() == pytest.approx(0.25, abs=0.015)
    assert by.share is not None
    blended = by.share[by.share < 1]
    # A Beta distribution of alpha has the variance 1 / (4 (2 alpha + 1)).
    assert blended.mean() == pytest.approx(0.5, abs=0.02)
    assert blended.var() == pytest.approx(1 / 5.6, abs=0.01)


def test_a_shear_of_nothing_leaves_everything() -> None:
    none = np.zeros(3)
    maps = geometry.inverse(none, (none, none), none + 1, (none, none), (5.0, -3.0))
    assert np.array_equal(maps, np.broadcast_to(np.eye(3), (3, 3, 3)))
