"""The loss of fp16, scaled so that small gradients are not lost; an update whose gradients overflow is left out.

torch's ``GradScaler`` seeks the scale: it halves it where a gradient overflows, which happens at the start, and doubles
it after 2000 updates where none did. An update that is left out counts all the same: the schedule, the average and the
order of the images go on, so that the learning rate of an update is known beforehand.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

N_SEEKING = 50
"""Updates at the start of a training that may be left out: the scale is sought."""
N_LEAST = 50
"""Updates after these before a training is called overflowing."""
MOST = 0.05
"""Part of these that may be left out."""


@dataclass(frozen=True, slots=True)
class Skips:
    """How many updates were left out."""

    n: int = 0
    """Updates so far."""
    n_skipped: int = 0
    """Of all of them."""
    n_late: int = 0
    """Of those after the first ``N_SEEKING``."""

    def after(self, skipped: Sequence[bool]) -> tuple["Skips", "Skips | None"]:
        """Return the count after more updates, and that after the first with which they are too many, or None.

        >>> Skips().after([True] * 20 + [False] * 100)
        (Skips(n=120, n_skipped=20, n_late=0), None)
        >>> Skips().after([False] * 40 + [True] * 80)[1]
        Skips(n=100, n_skipped=60, n_late=50)
        """
        count, too_many = self, None
        for one in skipped:
            n = count.n + 1
            count = Skips(n, count.n_skipped + one, count.n_late + (one and n > N_SEEKING))
            if too_many is None and n >= N_SEEKING + N_LEAST and count.n_late > MOST * (n - N_SEEKING):
                too_many = count
        return count, too_many

    @property
    def are_all(self) -> bool:
        """Whether no update was made at all."""
        return 0 < self.n == self.n_skipped


class LossScale:
    """Scales the loss of one training, makes its updates, and counts those that are left out.

    Args:
        optimizer: of the training.
        update: makes one update of it, see ``optimizers.updater``.
        device: where it trains.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, update: Callable[[], None], device: torch.device) -> None:
        self._scaler = torch.amp.GradScaler(device.type)
        self._stepped = _Stepped(optimizer, update)
        self._device = device
        self._begun = False
        self.skips = Skips()
        self._unseen: list[torch.Tensor] = []  # of each update that nobody has looked at: above 0 where left out

    @property
    def scale(self) -> float:
        """What losses are multiplied by; reads the device."""
        return self._scaler.get_scale()

    def scaled(self, loss: torch.Tensor) -> torch.Tensor:
        """Return a loss to go backward from."""
        return self._scaler.scale(loss)

    def update(self) -> None:
        """Make an update of the gradients of scaled losses, unless one of them overflows."""
        stepped = self._stepped
        stepped.skipped = None
        # mypy: what a scaler asks of an optimizer, see ``_Stepped``.
        self._scaler.step(stepped)  # type: ignore[arg-type]
        self._scaler.update()
        skipped = torch.ones((), device=self._device) if stepped.skipped is None else stepped.skipped
        self._unseen.append(skipped)
        if not self._begun:
            # torch's fused SGD has by now made its momentum without a value. One wait an update, until one is made.
            self._begun = not bool(skipped)
            if not self._begun:
                stepped.forget()

    def look(self) -> Skips | None:
        """Count the updates since the last look; return the count with which too many were left out, or None."""
        if not self._unseen:
            return None
        skipped = [value > 0 for value in torch.stack(self._unseen).tolist()]
        self._unseen.clear()
        self.skips, found = self.skips.after(skipped)
        return found

    def state(self) -> dict[str, Any]:
        """Return what ``restore`` takes."""
        unseen = torch.stack(self._unseen) if self._unseen else torch.empty(0)
        return {
            "scaler": self._scaler.state_dict(),
            "begun": self._begun,
            "skips": asdict(self.skips),
            "unseen": unseen,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self._scaler.load_state_dict(dict(state["scaler"]))
        self._begun, self.skips = state["begun"], Skips(**state["skips"])
        self._unseen = list(state["unseen"].to(self._device).unbind())


class _Stepped:
    """What a ``GradScaler`` asks of an optimizer, whose step is made without torch's wrapper; see ``updater``.

    Fused kernels take the scale and whether a gradient overflowed as tensors, and leave an update out by themselves:
    nobody waits for the device. Of the others the scaler makes no step then, and waits.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, update: Callable[[], None]) -> None:
        self._optimizer, self._update = optimizer, update
        self._step_supports_amp_scaling = bool(getattr(optimizer, "_step_supports_amp_scaling", False))
        self.skipped: torch.Tensor | None = None
        """Of the last step: above 0 where it was left out; None where there was none."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The optimizer's."""
        return self._optimizer.param_groups

    def step(self) -> None:
        """Make an update, with what the scaler left here."""
        if not self._step_supports_amp_scaling:
            self._update()
            parameter = self.param_groups[0]["params"][0]
            self.skipped = torch.zeros((), device=parameter.device)
            return
        lent = {name: getattr(self, name) for name in ("grad_scale", "found_inf")}
        vars(self._optimizer).update(lent)
        try:
            self._update()
        finally:
            for name in lent:
                delattr(self._optimizer, name)
        self.skipped = lent["found_inf"]

    def forget(self) -> None:
        """Forget the state that the optimizer has made for an update that was left out."""
        self._optimizer.state.clear()
