"""Pictures that a person's own function returns: arrays, tensors, or a dataset that is read by number.

Tensors are known by what they can do, not by their package: nothing here needs PyTorch.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from lrsearch import own_code
from lrsearch.errors import StudyFileError, nearest
from lrsearch.pictures import cache, decode
from lrsearch.pictures.cache import Stored
from lrsearch.pictures.choice import Chosen, choose
from lrsearch.pictures.decode import Decoded, Decoding, Header, Pixels
from lrsearch.pictures.found import Found, Listing, SetName, composed, given_classes, in_order
from lrsearch.pictures.meter import meter
from lrsearch.pictures.pieces import Reading, digest_of
from lrsearch.spec.sources import Code
from lrsearch.spec.study import DatasetSpec
from lrsearch.text import shown

KEY: Final = "dataset.name"
SETS: Final[tuple[SetName, ...]] = ("train", "validation", "test")
KEYS: Final = (*SETS, "classes")
READ_TWICE: Final = 16
"""Items of a dataset that are read once more: a flip by chance leaves one of them as it was in one of two cases."""
LOOKED_AT: Final = 256
"""Items of a dataset whose size decides the size of all."""
AT_ONCE: Final = 256
"""Images of an array that are copied at once."""
FORMS: Final = (
    "(images, labels) as arrays or tensors, or a dataset whose items are (picture, label), or a mapping of train, "
    "validation, test to such, with classes"
)


@dataclass(frozen=True, eq=False, slots=True)
class _Arrays:
    """Images of one size as one array."""

    name: SetName
    images: np.ndarray[Any, Any]
    """``[n, h, w, c]``."""
    numbers: list[int]

    @property
    def headers(self) -> list[Header]:
        """The one that all have."""
        _, height, width, channels = self.images.shape
        return [Header(width, height, "L" if channels == 1 else "RGB")]

    def decoded(self, how: Decoding) -> Iterator[Decoded]:
        """Yield the images in the size and channels that are wanted."""
        _, height, width, channels = self.images.shape
        as_it_is = (how.height, how.width, how.channels) == (height, width, channels)
        for at in range(0, len(self.images), AT_ONCE):
            block = _bytes(self.images[at : at + AT_ONCE], self.name)
            if not as_it_is:
                for row, one in enumerate(block):
                    yield decode.of_image(decode.as_image(one), how, f"{self.name}/{at + row}")
                continue
            coloured = (block != block[..., :1]).any(axis=(1, 2, 3))
            for one, colours in zip(np.ascontiguousarray(block.transpose(0, 3, 1, 2)), coloured, strict=True):
                yield Decoded(one, (), "", bool(colours))


@dataclass(frozen=True, eq=False, slots=True)
class _Items:
    """Pictures that are read one by one; their labels are known when all have been read."""

    name: SetName
    dataset: Any
    code: own_code.OwnFunction
    numbers: list[int]

    @property
    def headers(self) -> list[Header]:
        """Those of some of the items, evenly spaced."""
        n = len(self.dataset)
        rows = sorted({i * n // LOOKED_AT for i in range(LOOKED_AT)} if n > LOOKED_AT else range(n))
        pictures = (self.read(row)[0] for row in rows)
        return [Header(one.width, one.height, one.mode) for one in pictures]

    def check(self) -> None:
        """Refuse a dataset whose items are others each time they are read."""
        for row in range(min(READ_TWICE, len(self.dataset))):
            (first, label), (second, other) = self.read(row), self.read(row)
            if label != other or first.size != second.size or first.tobytes() != second.tobytes():
                raise StudyFileError(
                    f"{KEY}: item {row} of {self.name} must be the same each time it is read, and is not: "
                    f"leave random transforms out of {self.code.code}, augmentation is no part of the data"
                )

    def decoded(self, how: Decoding) -> Iterator[Decoded]:
        """Yield the pictures in the size and channels that are wanted, and note their labels."""
        for row in range(len(self.dataset)):
            picture, label = self.read(row)
            self.numbers.append(label)
            yield decode.of_image(picture, how, f"{self.name}/{row}")

    def read(self, row: int) -> tuple[Image.Image, int]:
        """Return one picture and its label."""
        place = f"item {row} of {self.name}"
        with _theirs(self.code, f"reading {place}"):
            item = self.dataset[row]
        if not (isinstance(item, tuple | list) and len(item) == 2):
            got = f"a mapping of {', '.join(map(str, item))}" if isinstance(item, Mapping) else f"{type(item).__name__}"
            raise StudyFileError(
                f"{KEY}: {place} must be (picture, label), got {got}; wrap it in a dataset whose items are such pairs"
            )
        picture, label = item
        if not isinstance(picture, Image.Image):
            picture = decode.as_image(_bytes(_channels_last(_array(picture, self.code, place), 2, place), place))
        if decode.is_deep(picture.mode) or picture.mode == "F":
            raise StudyFileError(
                f"{KEY}: {place} must be a picture of bytes, and has Pillow's mode {picture.mode}: bring it to 8 bits "
                f"in {self.code.code}"
            )
        return picture, _whole(_array(label, self.code, place), place)


Source = _Arrays | _Items


def load(
    code: Code, dataset: DatasetSpec, where: Path | None, at: Path, *, colour: bool, size: int | None, progress: bool
) -> tuple[Listing, Stored, Chosen]:
    """Return what a person's own function gives: all pictures, where they are stored, what they were brought to.

    It is called each time, because nobody else can know whether it would return something else.

    Args:
        code: the function. It is called with ``dataset.args``, and with ``data_dir`` if its signature has that and
            ``where`` is given.
        dataset: what the study file says.
        where: a folder, or None.
        at: the folder of the cache.
        colour: whether the model's weights want three channels.
        size: height and width that these weights want [pixels], or None.
        progress: whether a bar is drawn.

    Raises:
        StudyFileError: it cannot be found or called, or returns something else than images and labels.
        DataError: the cache cannot be used.
    """
    if dataset.group is not None:
        raise StudyFileError("dataset.group: is for folder:PATH and csv:FILE; a function returns its sets divided")
    function = own_code.find(code, KEY)
    given = function.call({} if where is None else {"data_dir": where}, dataset.args)
    sets, classes = _sets(given, function)
    for one in sets:
        if isinstance(one, _Items):
            one.check()
    headers = [header for one in sets for header in one.headers]
    chosen = choose(dataset, headers, colour=colour, size=size)
    sizes = {(header.height, header.width) for header in headers}
    if len(sizes) == 1 and dataset.image_size is None and size is None:
        # They have been brought to one size by whoever made them, be it a square or not.
        ((height, width),) = sizes
        chosen = replace(chosen, how=replace(chosen.how, height=height, width=width), said=())
    how = chosen.how
    n = sum(len(one.images) if isinstance(one, _Arrays) else len(one.dataset) for one in sets)
    with meter("reading pictures", n, shown=progress) as done:
        pixels = (_told(one, done) for part in sets for one in part.decoded(how))
        shape = (n, how.channels, how.height, how.width)
        stored = cache.of_pixels(pixels, shape, at, any_channels=chosen.any_channels)
    return _listing(sets, classes, dataset, str(code)), stored, chosen


def _told(one: Decoded, done: Callable[[int], None]) -> tuple[Pixels, Reading]:
    done(1)
    return one.pixels, Reading("", one.coloured, digest_of(one.pixels), one.done)


def _listing(sets: Sequence[Source], classes: tuple[str, ...] | None, dataset: DatasetSpec, what: str) -> Listing:
    if dataset.classes is not None and classes is not None:
        raise StudyFileError(f"dataset.classes: {what} returns classes itself: leave one of the two out")
    names = classes or given_classes(dataset.classes, Path())
    numbers = {number for one in sets if one.name == "train" for number in one.numbers}
    by_number = {number: str(number) for number in sorted(numbers)} if names is None else dict(enumerate(names))
    found = []
    for one in sets:
        for row, number in enumerate(one.numbers):
            if number not in by_number:
                known = f"0 to {len(by_number) - 1}, the classes" if names else "a label of a training image"
                raise StudyFileError(f"{KEY}: {what}: the label of {one.name}/{row} must be {known}, got {number}")
            found.append(Found(f"{one.name}/{row}", Path(), by_number[number], one.name))
    return Listing(Path(), tuple(found), in_order(found, tuple(by_number.values()), what))


def _sets(given: Any, function: own_code.OwnFunction) -> tuple[list[Source], tuple[str, ...] | None]:
    classes = None
    if isinstance(given, Mapping):
        for key in given:
            if key not in KEYS:
                raise StudyFileError(
                    f"{KEY}: {function.code} must return a mapping of {', '.join(KEYS)}, got '{shown(str(key))}'"
                    f"{nearest(str(key), KEYS)}"
                )
        if given.get("classes") is not None:
            classes = tuple(composed(str(name)) for name in given["classes"])
        if given.get("train") is None:
            raise StudyFileError(f"{KEY}: {function.code} must return training images under 'train', and returns none")
        named: list[tuple[SetName, Any]] = [(name, given[name]) for name in SETS if given.get(name) is not None]
    else:
        named = [("train", given)]
    return [_set(name, one, function) for name, one in named], classes


def _set(name: SetName, given: Any, function: own_code.OwnFunction) -> Source:
    what = f"{function.code}: {name}"
    kinds = [kind.__name__ for kind in type(given).__mro__]
    if "DataLoader" in kinds:
        raise StudyFileError(
            f"{KEY}: {what} must be a dataset, got a DataLoader: return its dataset, the batches are drawn here"
        )
    if isinstance(given, tuple | list) and len(given) == 2 and len(getattr(given[0], "shape", ())) > 2:
        images, labels = (_array(one, function, name) for one in given)
        if images.ndim not in (3, 4):
            raise StudyFileError(
                f"{KEY}: {what}: images must be [n, h, w], [n, h, w, c] or [n, c, h, w], got {list(images.shape)}"
            )
        if labels.shape != images.shape[:1]:
            raise StudyFileError(
                f"{KEY}: {what}: labels must be [{len(images)}], a class number for each image, "
                f"got {list(labels.shape)}"
            )
        images = _channels_last(images, 3, what)
        _check_range(images, what)
        return _checked(_Arrays(name, images, [_whole(one, what) for one in labels]), len(images), what)
    if (
        "IterableDataset" in kinds
        or not (hasattr(given, "__getitem__") and hasattr(given, "__len__"))
        or isinstance(given, str)
    ):
        raise StudyFileError(
            f"{KEY}: {what} must be {FORMS}; got {type(given).__name__}"
            + (", which has no length and no items by number: return a list of its items" * hasattr(given, "__iter__"))
        )
    with _theirs(function, f"the length of {name}"):
        n = len(given)
    return _checked(_Items(name, given, function, []), n, what)


def _checked(one: Source, n: int, what: str) -> Source:
    if n == 0:
        raise StudyFileError(f"{KEY}: {what} must hold pictures, and is empty")
    return one


def _theirs(function: own_code.OwnFunction, what: str) -> AbstractContextManager[None]:
    return own_code.own_lines(KEY, f"{function.code}, {what},", function.path)


def _array(given: Any, function: own_code.OwnFunction, what: str) -> np.ndarray[Any, Any]:
    """Return an array, a tensor of any device, or a number as an array."""
    with _theirs(function, f"{what} as an array"):
        for step in ("detach", "cpu", "numpy"):
            given = getattr(given, step)() if hasattr(given, step) else given
        return np.asarray(given)


def _channels_last(images: np.ndarray[Any, Any], n_spatial: int, what: str) -> np.ndarray[Any, Any]:
    """Return images ``[..., h, w, c]``; where the channels stand is seen by their number, 1 or 3."""
    if images.ndim == n_spatial:
        return images[..., None]
    if images.ndim != n_spatial + 1:
        raise StudyFileError(f"{KEY}: {what} must be [h, w], [h, w, c] or [c, h, w], got {list(images.shape)}")
    first, last = (images.shape[axis] in (1, 3) for axis in (-3, -1))
    if first and not last:
        return np.moveaxis(images, -3, -1)
    if last and not first:
        return images
    why = "may be either" if first else "has neither"
    raise StudyFileError(
        f"{KEY}: {what} must have 1 or 3 channels, at the front or at the end, and {list(images.shape)} {why}"
    )


def _check_range(images: np.ndarray[Any, Any], what: str) -> None:
    """Refuse numbers that are no bytes and no parts of white."""
    if images.dtype in (np.uint8, np.bool_) or not images.size:
        return
    if not (np.issubdtype(images.dtype, np.integer) or np.issubdtype(images.dtype, np.floating)):
        raise StudyFileError(f"{KEY}: {what}: images must be uint8, or numbers from 0 to 1, got {images.dtype}")
    low, high = images.min(), images.max()
    most = 255 if np.issubdtype(images.dtype, np.integer) else 1
    if not (low >= 0 and high <= most):
        raise StudyFileError(
            f"{KEY}: {what}: images of {images.dtype} must lie between 0 and {most}, got {low:g} to {high:g}; leave "
            f"out what normalises them, which is done here"
        )


def _bytes(images: np.ndarray[Any, Any], what: str) -> Pixels:
    _check_range(images, what)
    if images.dtype == np.uint8:
        return images
    return np.rint(images * 255.0 if images.dtype == np.bool_ or images.dtype.kind == "f" else images).astype(np.uint8)


def _whole(label: np.ndarray[Any, Any], what: str) -> int:
    if label.shape == () and label.dtype.kind in "biuf" and float(label).is_integer() and float(label) >= 0:
        return int(label)
    shape = "" if label.shape == () else f" of shape {list(label.shape)}"
    raise StudyFileError(f"{KEY}: {what}: a label must be a class number, 0 or more, got {label.tolist()!r:.40}{shape}")
