"""torchvision's data sets: found in a folder that has torchvision's layout, or downloaded into it by torchvision.

A download happens in a folder of its own beside the data set and moves in file by file when all of it has arrived and
was read: what is interrupted is never mistaken for a data set. Files that lie there are never overwritten.
"""

import contextlib
import errno
import io
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch

from lrsearch.errors import DataError
from lrsearch.spec.datasets import DATASETS
from lrsearch.training import idx

WHERE = "--data-dir or LRSEARCH_DATA_DIR"

NETWORK_TIMEOUT_SECONDS = 30.0
"""Without an answer for so long, a mirror counts as unreachable; torchvision itself would wait for ever."""

CANNOT_WRITE = frozenset(
    {
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EEXIST,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ENAMETOOLONG,
    }
)
"""Errors of the data folder, not of the network."""


@dataclass(frozen=True, eq=False)
class OfficialSets:
    """A data set as its authors divided it: images uint8 ``[n, c, h, w]``, labels int64 ``[n]``."""

    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """Where torchvision keeps a data set, relative to the data folder."""

    class_name: str
    """In torchvision.datasets."""
    folder: Path
    files: tuple[str, ...]
    archives: tuple[Path, ...]
    """What torchvision downloads and unpacks."""
    classes: tuple[str, ...]
    read: "Callable[[Layout, Path], OfficialSets]"
    """From the layout and the data folder to the sets."""
    parts: tuple[dict[str, Any], ...] = ({"train": True}, {"train": False})
    """How torchvision's class is asked for the training and for the test images."""

    @property
    def found_by(self) -> Path:
        """What somebody looks for who has the data set."""
        return self.folder if self.folder.parts else Path(self.files[0])


SVHN_FILES = ("train_32x32.mat", "test_32x32.mat")
SVHN_PARTS: tuple[dict[str, Any], ...] = ({"split": "train"}, {"split": "test"})
IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def layout_of(name: str) -> Layout:
    """Return where torchvision keeps a data set."""
    known = DATASETS[name]
    assert known.torchvision is not None, f"{name} is none of torchvision's"
    if known.torchvision == "CIFAR10":
        files = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")
        folder, archives = Path("cifar-10-batches-py"), (Path("cifar-10-python.tar.gz"),)
        return Layout(known.torchvision, folder, files, archives, known.classes, _read_cifar)
    if known.torchvision == "CIFAR100":
        folder, archives = Path("cifar-100-python"), (Path("cifar-100-python.tar.gz"),)
        return Layout(known.torchvision, folder, ("train", "test", "meta"), archives, known.classes, _read_cifar)
    if known.torchvision == "SVHN":
        # torchvision puts them into the data folder itself.
        return Layout(known.torchvision, Path(), SVHN_FILES, (), known.classes, _read_svhn, SVHN_PARTS)
    folder = Path(known.torchvision, "raw")
    packed = tuple(folder / f"{f}.gz" for f in IDX_FILES)
    return Layout(known.torchvision, folder, IDX_FILES, packed, known.classes, _read_idx)


def default_data_dir() -> Path:
    """Return the folder for data sets when none is given: ``lrsearch`` in the user's cache."""
    import platformdirs

    return platformdirs.user_cache_path("lrsearch")


def read(name: str, data_dir: Path, *, download: bool, progress: bool) -> OfficialSets:
    """Return a data set from ``data_dir``, downloading what is missing if ``download``.

    Raises:
        DataError: missing and not to be had, a folder that cannot be written, or a corrupt file.
    """
    layout = layout_of(name)
    if missing := _missing(layout, data_dir):
        if not download:
            raise DataError(_unobtainable(name, data_dir, missing, "was not to be downloaded"))
        _download(name, data_dir, missing, progress=progress)
    return layout.read(layout, data_dir)


def _missing(layout: Layout, data_dir: Path) -> tuple[str, ...]:
    try:
        return tuple(f for f in layout.files if not (data_dir / layout.folder / f).is_file())
    except OSError as error:
        raise DataError(
            f"the data folder {data_dir} cannot be read: {error.strerror or error}; make it readable, or name another "
            f"folder with {WHERE}"
        ) from error


def _unobtainable(name: str, data_dir: Path, missing: tuple[str, ...], why: str) -> str:
    layout = layout_of(name)
    others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    return (
        f"the data set {name} is not in {data_dir} ({layout.folder / missing[0]}{others} missing) and {why}: put its "
        f"files there, uncompressed, or name the folder that holds {layout.found_by} with {WHERE}; or connect to the "
        f"network; or use the data set 'digits', which needs no download"
    )


def _download(name: str, data_dir: Path, missing: tuple[str, ...], *, progress: bool) -> None:
    """Have torchvision download the whole set into a folder of its own, then move in the files that are missing."""
    layout = layout_of(name)
    target = data_dir / layout.folder
    try:
        with made_folder(target), tempfile.TemporaryDirectory(prefix=f".{name}-download-", dir=data_dir) as temporary:
            arrivals = Path(temporary)
            # An archive that lies there already is used, if torchvision finds its checksum right.
            for archive in layout.archives:
                if (data_dir / archive).is_file():
                    (arrivals / archive).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(data_dir / archive, arrivals / archive)
            if progress:
                sys.stderr.write(f"downloading the data set {name} to {target}\n")
            _fetch(name, data_dir, arrivals, missing, progress=progress)
            for file in missing:
                (arrivals / layout.folder / file).replace(target / file)
    except OSError as error:
        raise DataError(
            f"the data folder {data_dir} cannot be written: {error.strerror or error}; make it writable, or name "
            f"another folder with {WHERE}"
        ) from error


@contextlib.contextmanager
def made_folder(path: Path) -> Iterator[None]:
    """Have the folder ``path``; if what is done in it fails, folders that were made for it and are empty go again."""
    made = [p for p in (path, *path.parents) if not p.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def _fetch(name: str, data_dir: Path, arrivals: Path, missing: tuple[str, ...], *, progress: bool) -> None:
    """Run torchvision's download of one data set into ``arrivals``.

    Raises:
        DataError: it did not arrive.
        OSError: the folder cannot be written.
    """
    from torchvision import datasets

    layout = layout_of(name)
    dataset: Any = getattr(datasets, layout.class_name)
    try:
        with bar(shown=progress and sys.stderr.isatty()), timeout(NETWORK_TIMEOUT_SECONDS):
            for part in layout.parts:
                dataset(arrivals, **part, download=True)
    except Exception as error:
        # Whatever torchvision, urllib, gzip, tarfile or pickle let through: either the folder or the delivery is bad.
        if isinstance(error, OSError) and not isinstance(error, URLError) and error.errno in CANNOT_WRITE:
            raise
        why = f"could not be downloaded ({reason(error)})"
        raise DataError(_unobtainable(name, data_dir, missing, why)) from error


@contextlib.contextmanager
def bar(*, shown: bool) -> Iterator[None]:
    """Let torchvision's progress bar reach stderr, or not."""
    if shown:
        yield
    else:
        with contextlib.redirect_stderr(io.StringIO()):
            yield


@contextlib.contextmanager
def timeout(seconds: float) -> Iterator[None]:
    """Have what is opened meanwhile wait for so long at most [seconds]."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def reason(error: Exception) -> str:
    """Return the error in a few words; torchvision lists every mirror it tried, the last line says why."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    words = lines[-1] if lines else type(error).__name__
    if "corrupted" in words:
        return "what arrived does not match its checksum"
    return re.sub(r"^\[Errno -?\d+\] ", "", words.removeprefix("<urlopen error ").removesuffix(">")).rstrip(".")


def _read_idx(layout: Layout, data_dir: Path) -> OfficialSets:
    n_classes = len(layout.classes)
    paths = [data_dir / layout.folder / f for f in layout.files]
    train_images = idx.read_images(paths[0])
    train_labels = idx.read_labels(paths[1], len(train_images), n_classes)
    test_images = idx.read_images(paths[2])
    test_labels = idx.read_labels(paths[3], len(test_images), n_classes)
    if test_images.shape[1:] != train_images.shape[1:]:
        train_size, test_size = ("x".join(map(str, i.shape[2:])) for i in (train_images, test_images))
        raise DataError(
            f"{paths[2]} is corrupt: its images are {test_size} where those of training are {train_size}; {idx.REMEDY}"
        )
    return OfficialSets(train_images, train_labels, test_images, test_labels, layout.classes)


def _read_cifar(layout: Layout, data_dir: Path) -> OfficialSets:
    train, test = _by_torchvision(layout, data_dir)
    pairs = [(part.data.transpose(0, 3, 1, 2), part.targets) for part in (train, test)]
    return _checked(layout, data_dir, pairs)


def _read_svhn(layout: Layout, data_dir: Path) -> OfficialSets:
    train, test = _by_torchvision(layout, data_dir)
    return _checked(layout, data_dir, [(part.data, part.labels) for part in (train, test)])


def _by_torchvision(layout: Layout, data_dir: Path) -> list[Any]:
    """Return torchvision's training and test set.

    Raises:
        DataError: naming the file that is corrupt.
    """
    from torchvision import datasets

    cls: Any = getattr(datasets, layout.class_name)
    try:
        return [cls(data_dir, **part) for part in layout.parts]
    except Exception as error:
        # torchvision compares checksums before it reads, and does not say which file failed.
        raise DataError(f"{_fault(data_dir / layout.folder, _checksums(cls), error)}; {idx.REMEDY}") from error


def _checked(layout: Layout, data_dir: Path, pairs: "list[tuple[Any, Any]]") -> OfficialSets:
    """Return two arrays ``[n, c, h, w]`` with their labels as tensors.

    Raises:
        DataError: a label that no image can have, or too few or too many of them.
    """
    sets = [(torch.from_numpy(images.copy()), torch.tensor(labels)) for images, labels in pairs]
    for images, labels in sets:
        if (fault := idx.label_fault(labels, len(images), len(layout.classes))) is not None:
            raise DataError(f"{data_dir / layout.found_by} is corrupt: {fault}; {idx.REMEDY}")
    (train_images, train_labels), (test_images, test_labels) = sets
    return OfficialSets(train_images, train_labels, test_images, test_labels, layout.classes)


def _checksums(cls: Any) -> dict[str, str]:
    """Return the MD5 sums that torchvision knows, by the names of the files."""
    if hasattr(cls, "split_list"):
        return {file: md5 for _, file, md5 in (cls.split_list[part["split"]] for part in SVHN_PARTS)}
    return dict([*cls.train_list, *cls.test_list, (cls.meta["filename"], cls.meta["md5"])])


def _fault(folder: Path, md5_of: dict[str, str], error: Exception) -> str:
    """Say which file torchvision stumbled over with ``error``, and why."""
    from torchvision.datasets.utils import check_integrity

    for file, md5 in md5_of.items():
        try:
            right = check_integrity(folder / file, md5)
        except OSError as unreadable:
            return f"{folder / file} cannot be read: {unreadable.strerror or unreadable}"
        if not right:
            return f"{folder / file} is corrupt: its checksum is wrong"
    return f"{folder} is corrupt: {reason(error)}"
