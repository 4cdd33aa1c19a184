"""Which tensor of a file is which of a network: by their names, or by their order where no name is common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from lrsearch.errors import StudyFileError, nearest
from lrsearch.training.levels import levels
from lrsearch.training.states import KERNEL_DIMS

COUNTER = "num_batches_tracked"
"""Buffer of batch norm that older files do not hold, and that nothing reads unless momentum is None."""
MOST_NAMES = 3
"""In a sentence."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """How weights were put into a network."""

    anew: tuple[str, ...] = ()
    """Names of what was drawn all the same: the head, where the classes are others."""
    by_order: bool = False
    """Whether they were told apart by their order, because the names have nothing in common."""


class Fitting:
    """Which tensors of a file are which of a network.

    Args:
        model: the network.
        tensors: those of the file, by name.
        what: key and name of the file, with which sentences begin.
        shape: channels, height and width of an image.
        n_classes: of the network's head.
    """

    def __init__(
        self,
        model: nn.Module,
        tensors: Mapping[str, torch.Tensor],
        what: str,
        shape: tuple[int, int, int],
        n_classes: int,
    ) -> None:
        self._model, self._shape, self._n_classes = model, shape, n_classes
        self._ours: dict[str, torch.Tensor] = model.state_dict()
        self._theirs = _without_prefix(tensors, self._ours)
        self._what = what

    @property
    def has_common_names(self) -> bool:
        """Whether one of theirs is called as one of ours."""
        return not self._ours.keys().isdisjoint(self._theirs)

    def by_name(self) -> tuple[dict[str, torch.Tensor], Loaded]:
        """Return the tensors under our names.

        Raises:
            StudyFileError: one of theirs or of ours has no counterpart of its shape.
        """
        found, anew = {}, []
        there = {t.data_ptr() for name, t in self._ours.items() if name in self._theirs and t.numel()}
        for name, ours in self._ours.items():
            theirs = self._theirs.get(name)
            if theirs is not None and theirs.shape == ours.shape:
                found[name] = theirs
            elif self._may_differ(name, theirs):
                anew.append(name)
            elif theirs is not None:
                raise self._refused(name, theirs, ours)
            elif not name.endswith(COUNTER) and ours.data_ptr() not in there:
                raise StudyFileError(f"{self._what} does not fit the network, whose tensor '{name}' it does not hold")
        if extra := [n for n in self._theirs if n not in self._ours and not n.endswith(COUNTER)]:
            hint = nearest(extra[0], [name for name in self._ours if name not in self._theirs])
            raise StudyFileError(f"{self._what} does not fit the network: it has no tensor '{extra[0]}'{hint}")
        return found, Loaded(tuple(anew))

    def by_order(self, *, allowed: bool) -> tuple[dict[str, torch.Tensor], Loaded]:
        """Return the tensors under our names, the first for the first.

        Raises:
            StudyFileError: not ``allowed``, or one differs in shape.
        """
        names = f"its first tensor is '{next(iter(self._theirs), '')}', the network's '{next(iter(self._ours), '')}'"
        if not allowed or len(self._theirs) != len(self._ours):
            raise StudyFileError(f"{self._what} does not fit the network, with which it has no name in common: {names}")
        found, anew = {}, []
        for (name, ours), (there, theirs) in zip(self._ours.items(), self._theirs.items(), strict=True):
            if theirs.shape == ours.shape and theirs.is_floating_point() == ours.is_floating_point():
                found[name] = theirs
            elif self._may_differ(name, theirs):
                anew.append(name)
            else:
                raise StudyFileError(
                    f"{self._what} does not fit the network: no name is common to both, and of the tensors in their "
                    f"order '{there}' has the shape {[*theirs.shape]}, and '{name}' {[*ours.shape]}"
                )
        return found, Loaded(tuple(anew), by_order=True)

    def _may_differ(self, name: str, theirs: torch.Tensor | None) -> bool:
        """Whether a tensor belongs to the head, and theirs is one for other classes, or is not there."""
        ours = self._ours[name]
        if theirs is not None and (theirs.ndim != ours.ndim or theirs.shape[1:] != ours.shape[1:]):
            return False
        return ours.shape[:1] == (self._n_classes,) and name in self._head

    @cached_property
    def _head(self) -> tuple[str, ...]:
        return levels(self._model, self._shape, self._n_classes)[-1]

    def _refused(self, name: str, theirs: torch.Tensor, ours: torch.Tensor) -> StudyFileError:
        shapes = f"'{name}' has the shape {[*theirs.shape]} there and {[*ours.shape]} here"
        said = f"{self._what} does not fit the network: {shapes}, and only a head may be one for other classes"
        is_first = ours.ndim == theirs.ndim == KERNEL_DIMS and ours.shape[1] == self._shape[0]
        if is_first and theirs.shape[1] != ours.shape[1] and theirs.shape[2:] == ours.shape[2:]:
            said += f": images of {theirs.shape[1]} channels are wanted, see dataset.channels"
        return StudyFileError(said)


def _without_prefix(tensors: Mapping[str, torch.Tensor], ours: Mapping[str, object]) -> dict[str, torch.Tensor]:
    """Return tensors without what stands before all of their names, such as ``module.`` of a parallel training."""
    found = dict(tensors)
    while found and ours.keys().isdisjoint(found):
        firsts = {name.partition(".")[0] for name in found}
        if len(firsts) > 1 or not all("." in name for name in found):
            return dict(tensors)
        found = {name.partition(".")[2]: one for name, one in found.items()}
    return found


def some(names: Sequence[str]) -> str:
    """Return names for a sentence: the first few, and how many more there are.

    >>> some(["a", "b"]), some(["a", "b", "c", "d", "e"])
    ('a, b', 'a, b, c and 2 more')
    """
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more:,} more" if more > 0 else "")
