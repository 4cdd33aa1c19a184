"""The network of a complete trial with the weights that its training ended with, and what pictures it takes."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from lrsearch import run
from lrsearch.api import process
from lrsearch.errors import UsageError
from lrsearch.pictures import decode
from lrsearch.pictures.decode import Decoding
from lrsearch.predict.run import kept_weights, with_weights
from lrsearch.run import Here
from lrsearch.spec.study import StudySpec
from lrsearch.store.study import Study
from lrsearch.training.data import ImageSet, ImageSplits
from lrsearch.trial import Trial

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, slots=True)
class TrialNetwork:
    """A network, on the CPU and in evaluation."""

    network: nn.Module
    splits: ImageSplits
    """One image of each set: what all are brought to, and how they are normalised."""

    def inputs(self, pictures: object) -> torch.Tensor:
        """Return pictures as the network takes them, float32 ``[n, c, h, w]`` on the CPU.

        Args:
            pictures: a path, a picture of Pillow's or bytes ``[h, w]`` or ``[h, w, c]``; or a sequence of such.

        Raises:
            UsageError: it is none of these.
            DataError: a picture that cannot be read.
        """
        several = isinstance(pictures, Sequence) and not isinstance(pictures, str | bytes)
        some: Sequence[Any] = pictures if several else [pictures]  # type: ignore[assignment]
        if not len(some):
            raise UsageError("inputs: must be given at least one picture, got none")
        channels, height, width = self.splits.shape
        how = self.splits.how or Decoding(height, width, channels)
        pixels = np.stack([_pixels(one, how) for one in some])
        return self.splits.normalize(torch.from_numpy(pixels))


def read(study: Study, trial: Trial, spec: StudySpec, here: Here, artifacts: str | None) -> TrialNetwork:
    """Return the network of a trial with its weights as they were kept, or trained once more for them.

    Args:
        study: in the database.
        trial: of it, complete.
        spec: of it, as this process finds functions and pictures.
        here: what it is trained with where it is.
        artifacts: where its weights lie; None: where the study says.

    Raises:
        UsageError: its trainings are a person's own loop.
        LrsearchError: images or functions are not there, or are others; or it cannot be trained once more.
    """
    spec.check_has_images()
    weights = kept_weights(study, trial, artifacts, or_none=True)
    with process.as_it_was():
        engine = run.prepare_images(spec, replace(here, device="cpu") if weights is not None else here)
        if weights is None:
            log.warning("trial %d is trained once more, for its weights, which were not kept", trial.number)
        network, _ = with_weights(study, trial, weights, engine)
        one = engine.splits.train
        image, label = one.take(one.placed(torch.tensor([0])))
        few = ImageSet(image.cpu().clone(), label.cpu().clone())
        splits = replace(engine.splits, train=few, validation=few, test=few)
    return TrialNetwork(network.cpu().eval(), splits)


def _pixels(picture: object, how: Decoding) -> decode.Pixels:
    """Return one picture, uint8 ``[c, h, w]``."""
    if isinstance(picture, str | PathLike):
        path = Path(fspath(picture))
        try:
            return decode.decode(decode.read_file(path), how, path).pixels
        except OSError as error:
            raise UsageError(f"inputs: {path} cannot be read: {error.strerror or error}") from None
    if isinstance(picture, Image.Image):
        return decode.of_image(picture, how, "the picture").pixels
    pixels = np.asarray(picture)
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[-1] not in (1, 3)):
        raise UsageError(
            f"inputs: must be a path, a picture of Pillow's, or bytes [h, w] or [h, w, c], got "
            f"{type(picture).__name__} {pixels.dtype} {[*pixels.shape]}"
        )
    image = decode.as_image(pixels[..., None] if pixels.ndim == 2 else pixels)
    return decode.of_image(image, how, "the picture").pixels
