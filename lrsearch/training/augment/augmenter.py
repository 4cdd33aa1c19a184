"""The training images of a study, changed on their device as the study file says: batches at a time, each by itself."""

from typing import Any

import numpy as np
import torch

from lrsearch.spec.training import AugmentSpec
from lrsearch.training.augment import colour, geometry, mixing, trivial
from lrsearch.training.augment.draw import Source, joined
from lrsearch.training.augment.parameters import Parameters, parameters
from lrsearch.training.data import ImageSplits

RECOLOURING = {"brightness": colour.brightened, "contrast": colour.contrasted, "saturation": colour.saturated}


class Augmenter:
    """Changes the images of a training: their colours as bytes, their places normalised, so that 0 is the mean."""

    def __init__(self, spec: AugmentSpec, splits: ImageSplits, seed: int) -> None:
        self._spec, self._splits = spec, splits
        self._source = Source(spec, seed)
        self._frame = geometry.Framing(spec.crop or 0)

    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor, first: int, batch: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images and labels of some updates as they are trained on.

        Args:
            images: uint8 ``[n, c, h, w]``, on the device.
            labels: int64 ``[n]``.
            first: the number of the first update, 0-based.
            batch: images of each update; the last may have fewer.

        Returns:
            float32 ``[n, c, h, w]``, and the labels; where images are blended float32 ``[n, 3]``, see ``mixed_labels``.
        """
        starts = range(0, len(images), batch)
        parts = [self._source.at(first + i, min(batch, len(images) - at)) for i, at in enumerate(starts)]
        return self.changed(images, labels, parameters(self._spec, joined(parts), *images.shape[2:]))

    def changed(self, images: torch.Tensor, labels: torch.Tensor, by: Parameters) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images and labels, changed in the order of the parameters."""
        out = images.to(torch.float32)
        for key, factor in by.factors.items():
            out = RECOLOURING[key](out, _placed(factor, out))
        if by.op is not None:
            out = _recoloured(out, by)
        out = _moved(self._splits.normalize(out), by)
        if by.shift is not None:
            out = self._frame.cut(out, *(_placed(one, out) for one in by.shift))
        if by.flip is not None:
            out = geometry.mirrored(out, _placed(np.flatnonzero(by.flip), out))
        if by.erased is not None:
            out.masked_fill_(mixing.inside(_placed(by.erased, out), *out.shape[2:]), 0.0)
        if by.partner is None:
            return out, labels
        return _blended(out, by, labels)


def _recoloured(images: torch.Tensor, by: Parameters) -> torch.Tensor:
    """Return images on the scale 0..255, each changed by its op of TrivialAugment; in place."""
    assert by.op is not None
    assert by.strength is not None
    order = np.argsort(by.op, kind="stable")
    ends = np.bincount(by.op, minlength=len(trivial.OPS)).cumsum()
    which, strength = _placed(order, images), _placed(by.strength[order], images)
    for number, name in enumerate(trivial.OPS):
        some = slice(ends[number - 1] if number else 0, ends[number])
        if name in trivial.RECOLOURING and some.start < some.stop:
            recolour = trivial.RECOLOURING[name]
            images.index_copy_(0, which[some], recolour(images.index_select(0, which[some]), strength[some]))
    return images


def _moved(images: torch.Tensor, by: Parameters) -> torch.Tensor:
    """Return normalised images, those that come from elsewhere read there; in place where these are not all."""
    if by.cut is None and by.moved is None:
        return images
    cut = None if by.cut is None else _placed(by.cut, images).float()
    maps = None if by.maps is None else _placed(by.maps[:, :2], images)
    if by.moved is None or cut is not None or by.moved.all():
        return geometry.warped(images, maps, cut)
    assert maps is not None
    which = _placed(np.flatnonzero(by.moved), images)
    return images.index_copy_(
        0, which, geometry.warped(images.index_select(0, which), maps.index_select(0, which), None)
    )


def _blended(images: torch.Tensor, by: Parameters, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each image with what it takes over of its partner, and the labels of both."""
    assert by.partner is not None
    assert by.kept is not None
    partner = _placed(by.partner, images)
    others = images.index_select(0, partner)
    if by.share is not None:
        images = torch.lerp(others, images, _placed(by.share, images).view(-1, 1, 1, 1))
    if by.patch is not None:
        images = torch.where(mixing.inside(_placed(by.patch, images), *images.shape[2:]), others, images)
    return images, mixing.mixed_labels(labels, labels.index_select(0, partner), _placed(by.kept, images))


def _placed(values: np.ndarray[Any, np.dtype[Any]], images: torch.Tensor) -> torch.Tensor:
    """Return numbers of the host where the images lie, without waiting for the device; float32 or int64."""
    tensor = torch.from_numpy(values)
    if tensor.is_floating_point():
        tensor = tensor.float()
    if images.device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(images.device, non_blocking=True)
