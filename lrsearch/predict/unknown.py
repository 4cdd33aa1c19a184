"""Unknown pictures in a folder through kept weights: what each is taken for, and which could not be read."""

import csv
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TextIO

import numpy as np
import torch
from torch import nn

from lrsearch import cores
from lrsearch.errors import UsageError
from lrsearch.pictures import decode
from lrsearch.pictures.decode import Decoding, PictureError, Pixels
from lrsearch.pictures.folder import NOT_READ, READ
from lrsearch.training import outputs
from lrsearch.training.data import ImageSplits
from lrsearch.training.precision import forward_of
from lrsearch.trial import Precision

BATCH: Final = 64
"""Pictures that are decoded and judged at once [examples]."""
PLACES: Final = ("", "second_", "third_")
"""How the columns of the likeliest classes begin, the likeliest first; so many classes are named for each picture."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A picture and what it is taken for."""

    name: str
    """Relative to the folder, with ``/``."""
    likeliest: tuple[tuple[str, float], ...]
    """Classes and their probabilities [0..1], the likeliest first."""


@dataclass(frozen=True, slots=True)
class Unread:
    """A picture that could not be read."""

    name: str
    reason: str


def pictures_in(folder: Path) -> list[Path]:
    """Return the files of a folder, and of those below, whose names end as those of pictures do, in their order.

    What is hidden is passed over.

    Raises:
        UsageError: there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        there = "is a file: one picture is looked at with --image" if folder.exists() else "is not there"
        raise UsageError(f"--folder must be a folder of pictures, and {folder} {there}")
    endings = (*READ, *NOT_READ)
    found = [
        path
        for path in folder.rglob("*")
        if path.name.lower().endswith(endings)
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not found:
        raise UsageError(f"--folder must hold pictures ({' '.join(READ)}), and there is none in {folder}")
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def judged(
    model: nn.Module, splits: ImageSplits, folder: Path, paths: Sequence[Path], precision: Precision = "fp32"
) -> Iterator[Answered | Unread]:
    """Yield what a model takes each picture for, in their order, some at a time.

    Args:
        model: with its weights.
        splits: the images that it was trained on: their classes, what they were brought to by the same decoder (of
            published ones the sides are made to fit), and how they were normalised.
        folder: to which names are relative.
        paths: of the pictures.
        precision: in which the model was judged.
    """
    channels, height, width = splits.shape
    wanted = splits.how or Decoding(height, width, channels)
    model.eval()
    forward = forward_of(model, precision, splits.device)
    # The decoder sets Python's filters of warnings for a moment; done by several threads at once they would stay so.
    with warnings.catch_warnings(), ThreadPoolExecutor(cores.available()) as threads:
        for at in range(0, len(paths), BATCH):
            some = paths[at : at + BATCH]
            read = list(threads.map(partial(_read, how=wanted), some))
            scores = iter(_scores(forward, splits, [one for one in read if not isinstance(one, str)]))
            for path, one in zip(some, read, strict=True):
                name = path.relative_to(folder).as_posix()
                if isinstance(one, str):
                    yield Unread(name, one)
                else:
                    yield Answered(name, next(scores))


def _read(path: Path, how: Decoding) -> Pixels | str:
    """Return a picture, uint8 ``[c, h, w]``, or why it cannot be read."""
    try:
        return decode.decode(decode.read_file(path), how, path).pixels
    except PictureError as error:
        return error.reason
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"


@torch.inference_mode()
def _scores(
    forward: Callable[[torch.Tensor], object], splits: ImageSplits, pictures: Sequence[Pixels]
) -> Iterator[tuple[tuple[str, float], ...]]:
    """Yield for each picture, uint8 ``[c, h, w]``, the likeliest classes and their probabilities [0..1]."""
    if not pictures:
        return
    images = torch.from_numpy(np.stack(pictures)).to(splits.device)
    logits = outputs.logits_of(forward(splits.normalize(images)))
    values, labels = logits.double().softmax(1).topk(min(len(PLACES), splits.n_classes))
    for row, of in zip(values.tolist(), labels.tolist(), strict=True):
        yield tuple((splits.classes[label], value) for label, value in zip(of, row, strict=True))


def write(file: TextIO, found: Iterator[Answered | Unread], n_classes: int) -> list[Unread]:
    """Write a line of CSV for each picture that was read; return the others.

    Columns are ``file``, ``class`` and ``probability``, and the same of the second and third likeliest class.
    """
    writer = csv.writer(file, lineterminator="\n")
    header = ["file"]
    for nth in PLACES[:n_classes]:
        header += [f"{nth}class", f"{nth}probability"]
    writer.writerow(header)
    unread = []
    for one in found:
        if isinstance(one, Unread):
            unread.append(one)
            continue
        row = [one.name]
        for label, probability in one.likeliest:
            row += [label, f"{probability:.6g}"]
        writer.writerow(row)
    return unread
