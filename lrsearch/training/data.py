"""Data sets as uint8 tensors that lie on the device: three sets, drawn once, normalised where they are used."""

import hashlib
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import psutil
import torch
from torch.nn import functional

from lrsearch.errors import DataError, StudyFileError, nearest
from lrsearch.spec.datasets import DATASETS
from lrsearch.spec.study import DatasetSpec
from lrsearch.training.download import OfficialSets, default_data_dir
from lrsearch.training.weights import Origin
from lrsearch.trial import Facts

if TYPE_CHECKING:
    from lrsearch.pictures.decode import Decoding

log = logging.getLogger(__name__)

Scaling = Literal["standard", "unit", "weights"]

SCALINGS: tuple[Scaling, ...] = get_args(Scaling)

DIGITS_TEST_SEED = 0
"""Which 797 digits are the test set: no setting, so that every study is judged on the same ones."""
DIGITS_BRIGHTEST = 16
DIGITS_SIZE = 28
"""Height and width to which the 8x8 digits are resized [pixels]."""

LEAST_TRAIN_IMAGES = 2
LEAST_VALIDATION_IMAGES = 1
LARGEST_SEED = 2**32 - 1
RESIDENT_SHARE = 0.5
"""Of the free memory of a device."""
STATISTICS_BATCH = 4096
"""[examples]"""


@dataclass(frozen=True, slots=True)
class DataConfig:
    """Which images, how many of them for the search, and how they are scaled."""

    name: str = "digits"
    limit: int | None = None
    """Images drawn for training and validation together [examples]; None draws all. The test set is never cut."""
    validation_fraction: float = 0.2
    """Part (0..1) of the drawn images that validates, rounded to whole images, at least one."""
    split_seed: int = 0
    """Decides which images are drawn and which of them validate; 0..2**32-1."""
    scaling: Scaling = "standard"
    """``unit``: 0..1; ``standard``: that, minus the mean and over the standard deviation of the training images;
    ``weights``: by those of ``origin``."""
    origin: Origin | None = None
    """What comes with the weights that the model starts from; None: they are drawn."""


@dataclass(frozen=True, eq=False, slots=True)
class ImageSet:
    """Images as uint8 and their labels: all on the device, or labels there and images read as they are needed."""

    images: torch.Tensor
    """uint8 ``[m, c, h, w]``; on the device, or a memory map of a file."""
    labels: torch.Tensor
    """int64 ``[n]`` on the device, each in 0..n_classes-1."""
    rows: torch.Tensor | None = None
    """int64 ``[n]`` on the CPU: which of ``images`` these are; None where they are all of them, in their order."""

    def __len__(self) -> int:
        """Return how many there are [examples]."""
        return len(self.labels)

    @property
    def streamed(self) -> bool:
        """Whether images are read as they are needed."""
        return self.rows is not None

    @property
    def all_images(self) -> torch.Tensor:
        """All of them as uint8 ``[n, c, h, w]``; read now where they are streamed."""
        return self.images if self.rows is None else self.images.index_select(0, self.rows)

    def to(self, device: torch.device | str, *, stream: bool = False) -> "ImageSet":
        """Return the same set on ``device``; with ``stream`` the images stay where they are."""
        labels = self.labels.to(device)
        if not stream:
            return ImageSet(self.all_images.to(device), labels)
        return ImageSet(self.images, labels, torch.arange(len(self)) if self.rows is None else self.rows)

    def take(self, order: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images uint8 ``[k, c, h, w]`` and labels ``[k]`` on the device; ``order`` int64 ``[k]`` in 0..n-1.

        ``order`` lies where ``placed`` put it.
        """
        if self.rows is None:
            # Not images[order]: gathering bytes so takes 18 times as long on the CPU (380 us against 21 for 800).
            return self.images.index_select(0, order), self.labels.index_select(0, order)
        # In the order of the file, which a disk reads faster; then in the order that was asked for.
        wanted, back = self.rows[order].sort()
        images = self.images.index_select(0, wanted).index_select(0, back.argsort())
        device = self.labels.device
        if device.type == "cuda":
            images = images.pin_memory().to(device, non_blocking=True)
        return images.to(device), self.labels.index_select(0, order.to(device, non_blocking=True))

    def placed(self, order: torch.Tensor) -> torch.Tensor:
        """Return ``order`` (CPU) where ``take`` wants it: on the device, or on the CPU where images are streamed."""
        return order if self.streamed else order.to(self.labels.device, non_blocking=True)

    def batches(self, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield images and labels on the device in their order, ``size`` at a time [examples]."""
        if self.rows is None:
            yield from zip(self.images.split(size), self.labels.split(size), strict=True)
        else:
            for order in torch.arange(len(self)).split(size):
                yield self.take(order)

    def counts(self, n_classes: int) -> tuple[int, ...]:
        """Return the images of each class [examples]."""
        return tuple(torch.bincount(self.labels, minlength=n_classes).tolist())

    def and_then(self, other: "ImageSet") -> "ImageSet":
        """Return both sets as one, this one first."""
        labels = torch.cat((self.labels, other.labels))
        if self.rows is None or other.rows is None:
            return ImageSet(torch.cat((self.all_images, other.all_images)), labels)
        return ImageSet(self.images, labels, torch.cat((self.rows, other.rows)))


@dataclass(frozen=True, eq=False)
class ImageSplits:
    """Training, validation and test images on one device, as uint8, and how to normalise them."""

    train: ImageSet
    validation: ImageSet
    """May be empty, see ``together``."""
    test: ImageSet
    classes: tuple[str, ...]
    """Names, by label."""
    mean: tuple[float, ...]
    """Of each channel of the training images on the 0..1 scale; 0 when the scaling is ``unit``."""
    std: tuple[float, ...]
    """Likewise (of the population); 1 when the scaling is ``unit``."""
    fingerprint: str = ""
    """SHA-256 of what they are, where whoever read them knows it already."""
    how: "Decoding | None" = None
    """What a person's own pictures were brought to, as others must be; None for published images."""

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return len(self.classes)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @property
    def device(self) -> torch.device:
        """Where the labels lie, and the images come to."""
        return self.train.labels.device

    def to(self, device: torch.device | str, *, stream: bool = False) -> "ImageSplits":
        """Return the same splits on ``device``; with ``stream`` the images are read as they are needed."""
        train, validation, test = (one.to(device, stream=stream) for one in (self.train, self.validation, self.test))
        return replace(self, train=train, validation=validation, test=test)

    def facts(self) -> Facts:
        """Return what these images are: the same facts wherever they lie, the same fingerprint for the same bytes."""
        fingerprint = self.fingerprint
        if not fingerprint:
            content = hashlib.sha256()
            for one in (self.train, self.validation, self.test):
                content.update(one.all_images.cpu().numpy().data)
                content.update(one.labels.cpu().numpy().data)
            fingerprint = content.hexdigest()
        return Facts(
            n_train=len(self.train),
            n_validation=len(self.validation),
            n_test=len(self.test),
            shape=self.shape,
            classes=self.classes,
            mean=self.mean,
            std=self.std,
            train_counts=self.train.counts(self.n_classes),
            validation_counts=self.validation.counts(self.n_classes),
            test_counts=self.test.counts(self.n_classes),
            fingerprint=fingerprint,
        )

    def together(self) -> "ImageSplits":
        """Return splits that train on the training and the validation images together, and validate on none.

        Normalisation stays: a learning rate that was found for images scaled in one way is kept for the same scale.
        """
        none = self.validation
        rows = None if none.rows is None else none.rows[:0]
        nothing = ImageSet(none.images if rows is not None else none.images[:0], none.labels[:0], rows)
        return replace(self, train=self.train.and_then(self.validation), validation=nothing, fingerprint="")

    def normalize(self, images: torch.Tensor) -> torch.Tensor:
        """Return uint8 ``[n, c, h, w]`` images of this data set as float32, scaled: ``(x / 255 - mean) / std``.

        Each pixel's result depends on that pixel alone, bit for bit, however the images are batched; with the scaling
        ``unit`` it is torchvision's ``ToTensor``, bit for bit.
        """
        scaled = images.to(torch.float32)
        if self._affine is None:
            return scaled.div_(255)
        # One product and one sum in place, measured at half to a third of the time of the plain formula. Not addcmul:
        # it was slower, and a fused multiply-add may round differently at the end of a vector.
        factor, shift = self._affine
        return scaled.mul_(factor).add_(shift)

    @cached_property
    def _affine(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Factor and shift ``[c, 1, 1]`` float32 on the device, from bytes to normalised; None for 0..1."""
        if all(m == 0 for m in self.mean) and all(s == 1 for s in self.std):
            return None
        mean, std = (torch.tensor(v, dtype=torch.float64).view(-1, 1, 1) for v in (self.mean, self.std))
        return (1 / (255 * std)).float().to(self.device), (-mean / std).float().to(self.device)


def load(
    config: DataConfig, data_dir: Path | None = None, *, download: bool = True, progress: bool = False
) -> ImageSplits:
    """Return the three sets of a published data set, on the CPU; two loads of one configuration are equal bit for bit.

    Args:
        config: which images.
        data_dir: folder with torchvision's layout (``MNIST/raw/...``); None: ``lrsearch`` in the user's cache.
            ``digits`` comes with scikit-learn and needs none.
        download: whether what is missing may be downloaded, into ``data_dir``.
        progress: whether a download says so on stderr, with torchvision's bar if that is a terminal.

    Raises:
        StudyFileError: a configuration that cannot be met.
        DataError: images that are missing and not to be had, or corrupt, or a folder that cannot be written.
    """
    check(config)
    folder = default_data_dir() if data_dir is None else data_dir.expanduser()
    module, _, function = DATASETS[config.name].reader.partition(":")
    read: Callable[..., OfficialSets] = getattr(import_module(module), function)
    return split(read(config.name, folder, download=download, progress=progress), config)


def load_own(
    dataset: DatasetSpec, scaling: Scaling, origin: Origin | None, where: Path | None = None, *, progress: bool = False
) -> ImageSplits:
    """Return the three sets of a person's own pictures, streamed from the memory map of those that were decoded.

    Args:
        dataset: which pictures.
        scaling: how they are normalised; ``weights`` as ``origin`` says.
        origin: what comes with the weights that the model starts from; None: they are drawn.
        where: stands in for the place that the data set names, where that is not on this machine.
        progress: whether decoding shows its progress on stderr.

    Raises:
        StudyFileError: a configuration that cannot be met.
        DataError: pictures that are missing or cannot be read.
    """
    from lrsearch.pictures import own  # Pillow with it

    colour, size = (False, None) if origin is None else (origin.colour, origin.size)
    read = own.read(dataset, where, colour=colour, size=size, progress=progress)
    for sentence in read.warnings:
        log.warning("%s", sentence)
    for sentence in read.said:
        log.info("%s", sentence)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the map cannot be written to, and nobody does
        images = torch.from_numpy(read.images)
    labels = torch.from_numpy(read.labels)
    train, validation, test = (
        ImageSet(images, labels[rows], rows) for rows in map(torch.from_numpy, (read.train, read.validation, read.test))
    )
    mean, std = _scale(dataset.name, train, scaling, origin)
    how = replace(read.how, channels=images.shape[1])  # one is kept where no picture turned out to have colours
    return ImageSplits(train, validation, test, read.classes, mean, std, read.fingerprint, how)


def fits(splits: ImageSplits, device: torch.device) -> bool:
    """Whether images may lie on the device as a whole: where they take at most half of its free memory."""
    sets = (splits.train, splits.validation, splits.test)
    if not any(one.streamed for one in sets):
        return True  # they lie in memory already
    n_bytes = sum(map(len, sets)) * math.prod(splits.shape)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return n_bytes <= free * RESIDENT_SHARE


def _scale(
    name: str, train: ImageSet, scaling: Scaling, origin: Origin | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation by which images are normalised.

    Raises:
        DataError: training images without any contrast, which cannot be standardised.
    """
    n_channels = train.images.shape[1]
    if scaling == "weights" and origin is not None and origin.mean is not None and origin.std is not None:
        if len(origin.mean) != n_channels:
            raise DataError(
                f"the model's weights want images of {len(origin.mean)} channels, and those of {name} have "
                f'{n_channels}: set dataset.channels = {len(origin.mean)}, or dataset.scaling = "standard"'
            )
        return origin.mean, origin.std
    if scaling == "unit":
        return (0.0,) * n_channels, (1.0,) * n_channels
    mean, std = statistics(train)
    if 0 in std:
        raise DataError(
            f"the {len(train)} training images of {name} have one value in every pixel of channel "
            f'{std.index(0)} and cannot be standardised; raise dataset.limit, or use dataset.scaling = "unit"'
        )
    return mean, std


def check(config: DataConfig) -> None:
    """Refuse what is wrong whatever the images are.

    Raises:
        StudyFileError: naming the key.
    """
    if config.name not in DATASETS:
        hint = nearest(config.name, tuple(DATASETS))
        raise StudyFileError(f"dataset.name: unknown data set {config.name!r}{hint}; known: {', '.join(DATASETS)}")
    if config.scaling not in SCALINGS:
        raise StudyFileError(
            f"dataset.scaling: unknown scaling {config.scaling!r}{nearest(config.scaling, SCALINGS)}; "
            f"known: {', '.join(SCALINGS)}"
        )
    if not 0 < config.validation_fraction < 1:
        raise StudyFileError(
            f"dataset.validation_fraction: must lie between 0 and 1, both left out, got {config.validation_fraction:g}"
        )
    if config.limit is not None and config.limit < LEAST_TRAIN_IMAGES + LEAST_VALIDATION_IMAGES:
        raise StudyFileError(
            f"dataset.limit: must be at least {LEAST_TRAIN_IMAGES + LEAST_VALIDATION_IMAGES}, "
            f"two images to train on and one to validate on, got {config.limit}"
        )
    if not 0 <= config.split_seed <= LARGEST_SEED:
        raise StudyFileError(f"dataset.split_seed: must lie in 0..{LARGEST_SEED}, got {config.split_seed}")


def draw(config: DataConfig, n_pool: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the indices of the training and of the validation images, int64, among ``n_pool`` [examples].

    A plain permutation: a larger limit draws the images of a smaller one and more.

    Raises:
        StudyFileError: a limit above ``n_pool``, or fewer than two images left to train on.
    """
    limit = n_pool if config.limit is None else config.limit
    if limit > n_pool:
        raise StudyFileError(f"dataset.limit: must be at most {n_pool} for {config.name}, got {limit}")
    n_validation = max(LEAST_VALIDATION_IMAGES, round(limit * config.validation_fraction))
    n_train = limit - n_validation
    if n_train < LEAST_TRAIN_IMAGES:
        raise StudyFileError(
            f"dataset.validation_fraction: {config.validation_fraction:g} of {limit} images leaves {n_train} "
            f"to train on where at least {LEAST_TRAIN_IMAGES} are needed; lower it, or raise dataset.limit"
        )
    drawn = _permutation(n_pool, config.split_seed)[:limit]
    return drawn[:n_train], drawn[n_train:]


def statistics(images: ImageSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and population standard deviation of each channel, on the 0..1 scale."""
    levels = torch.arange(256, dtype=torch.float64) / 255
    counts = torch.zeros(images.images.shape[1], 256, dtype=torch.int64)
    for some, _ in images.batches(STATISTICS_BATCH):
        # A histogram of the 256 values is exact, and as quick as one sum.
        counts += torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in some.unbind(1)]).cpu()
    means, stds = [], []
    for weights in (counts.double() / counts.sum(1, keepdim=True)).unbind():
        mean = weights @ levels
        means.append(mean.item())
        stds.append((weights @ (levels - mean).square()).sqrt().item())
    return tuple(means), tuple(stds)


def split(official: OfficialSets, config: DataConfig) -> ImageSplits:
    """Draw training and validation images from the official training set; the official test set stays whole.

    Raises:
        StudyFileError: see ``draw``.
        DataError: training images without any contrast, which cannot be standardised.
    """
    train, validation = (
        ImageSet(official.train_images[rows], official.train_labels[rows])
        for rows in draw(config, len(official.train_labels))
    )
    mean, std = _scale(config.name, train, config.scaling, config.origin)
    test = ImageSet(official.test_images, official.test_labels)
    return ImageSplits(train, validation, test, official.classes, mean, std)


def _permutation(n: int, seed: int) -> torch.Tensor:
    # NumPy's old generator on purpose: its stream is frozen (NEP 19), so a split outlives every upgrade; those of
    # torch and of NumPy's new generators may change from one version to the next.
    order = np.random.RandomState(seed).permutation(n)
    return torch.from_numpy(order).long()


def digits(name: str, data_dir: Path, *, download: bool, progress: bool) -> OfficialSets:
    """Return scikit-learn's 1,797 handwritten digits (8x8, 0..16) as bytes of 28x28; 797 of them are the test set.

    Source: Alpaydin, Kaynak: Optical Recognition of Handwritten Digits, UCI, 1998 (its test part).
    """
    del data_dir, download, progress  # they come with scikit-learn
    known, rows = DATASETS[name], _digit_rows()
    eights = torch.from_numpy(rows[:, :-1]).view(-1, 1, 8, 8)
    resized = functional.interpolate(eights, size=(DIGITS_SIZE, DIGITS_SIZE), mode="bilinear", align_corners=False)
    # Values are multiples of 255/3136, among them 127.5. The nudge, far below one multiple, lets it round up on every
    # machine, whichever way the last bit of the interpolation went.
    images = resized.mul_(255 / DIGITS_BRIGHTEST).add_(0.5 + 1e-6).to(torch.uint8)
    labels = torch.from_numpy(rows[:, -1]).long()
    order = _permutation(len(rows), DIGITS_TEST_SEED)
    search, test = order[: known.n_pool], order[known.n_pool :]
    return OfficialSets(images[search], labels[search], images[test], labels[test], known.classes)


def _digit_rows() -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    """Return ``load_digits``' table ``[1797, 65]``: 64 pixels and the label.

    The file is read where scikit-learn has it: importing the package for it takes .7 s, reading it .01 s.
    """
    package = find_spec("sklearn")
    for folder in (package.submodule_search_locations or ()) if package is not None else ():
        path = Path(folder, "datasets", "data", "digits.csv.gz")
        if path.is_file():
            return np.loadtxt(path, delimiter=",", dtype=np.float64)
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return np.column_stack((pixels, labels))
