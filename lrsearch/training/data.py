"""Data sets as uint8 tensors that lie on the device: three sets, drawn once, normalised where they are used."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch.nn import functional

from lrsearch.errors import DataError, StudyFileError, nearest
from lrsearch.spec.datasets import DATASETS
from lrsearch.training.download import OfficialSets, default_data_dir
from lrsearch.trial import Facts

Scaling = Literal["standard", "unit"]

SCALINGS: tuple[Scaling, ...] = get_args(Scaling)

DIGITS_TEST_SEED = 0
"""Which 797 digits are the test set: no setting, so that every study is judged on the same ones."""
DIGITS_BRIGHTEST = 16
DIGITS_SIZE = 28
"""Height and width to which the 8x8 digits are resized [pixels]."""

LEAST_TRAIN_IMAGES = 2
LEAST_VALIDATION_IMAGES = 1
LARGEST_SEED = 2**32 - 1


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
    """``unit``: 0..1; ``standard``: that, minus the mean and over the standard deviation of the training images."""


@dataclass(frozen=True, eq=False)
class ImageSplits:
    """Training, validation and test images on one device, as uint8, and how to normalise them."""

    train_images: torch.Tensor
    """uint8 ``[n, c, h, w]``."""
    train_labels: torch.Tensor
    """int64 ``[n]``, each in 0..n_classes-1."""
    validation_images: torch.Tensor
    """May be none, see ``together``."""
    validation_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor
    classes: tuple[str, ...]
    """Names, by label."""
    mean: tuple[float, ...]
    """Of each channel of the training images on the 0..1 scale; 0 when the scaling is ``unit``."""
    std: tuple[float, ...]
    """Likewise (of the population); 1 when the scaling is ``unit``."""

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return len(self.classes)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.train_images.shape[1:]
        return channels, height, width

    @property
    def device(self) -> torch.device:
        """Where the images lie."""
        return self.train_images.device

    def to(self, device: torch.device | str) -> "ImageSplits":
        """Return the same splits on ``device``."""
        return replace(
            self,
            train_images=self.train_images.to(device),
            train_labels=self.train_labels.to(device),
            validation_images=self.validation_images.to(device),
            validation_labels=self.validation_labels.to(device),
            test_images=self.test_images.to(device),
            test_labels=self.test_labels.to(device),
        )

    def facts(self) -> Facts:
        """Return what these images are: the same facts wherever they lie, the same fingerprint for the same bytes."""
        content = hashlib.sha256()
        for images, labels in (
            (self.train_images, self.train_labels),
            (self.validation_images, self.validation_labels),
            (self.test_images, self.test_labels),
        ):
            content.update(images.cpu().numpy().data)
            content.update(labels.cpu().numpy().data)
        validation, test = (
            tuple(torch.bincount(labels, minlength=self.n_classes).tolist())
            for labels in (self.validation_labels, self.test_labels)
        )
        return Facts(
            n_train=len(self.train_labels),
            n_validation=len(self.validation_labels),
            n_test=len(self.test_labels),
            shape=self.shape,
            classes=self.classes,
            mean=self.mean,
            std=self.std,
            validation_counts=validation,
            test_counts=test,
            fingerprint=content.hexdigest(),
        )

    def together(self) -> "ImageSplits":
        """Return splits that train on the training and the validation images together, and validate on none.

        Normalisation stays: a learning rate that was found for images scaled in one way is kept for the same scale.
        """
        return replace(
            self,
            train_images=torch.cat((self.train_images, self.validation_images)),
            train_labels=torch.cat((self.train_labels, self.validation_labels)),
            validation_images=self.validation_images[:0],
            validation_labels=self.validation_labels[:0],
        )

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
    """Return the three sets of a study, on the CPU; two loads of one configuration are equal bit for bit.

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


def statistics(images: torch.Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and population standard deviation of each channel of uint8 ``[n, c, h, w]``, on the 0..1 scale."""
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in images.unbind(1):
        # A histogram of the 256 values is exact, and as quick as one sum.
        weights = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
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
    train, validation = draw(config, len(official.train_labels))
    train_images = official.train_images[train]
    n_channels = train_images.shape[1]
    mean, std = (0.0,) * n_channels, (1.0,) * n_channels
    if config.scaling == "standard":
        mean, std = statistics(train_images)
        if 0 in std:
            raise DataError(
                f"the {len(train)} training images of {config.name} have one value in every pixel of channel "
                f'{std.index(0)} and cannot be standardised; raise dataset.limit, or use dataset.scaling = "unit"'
            )
    return ImageSplits(
        train_images=train_images,
        train_labels=official.train_labels[train],
        validation_images=official.train_images[validation],
        validation_labels=official.train_labels[validation],
        test_images=official.test_images,
        test_labels=official.test_labels,
        classes=official.classes,
        mean=mean,
        std=std,
    )


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
