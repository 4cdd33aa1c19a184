"""The one schedule with feedback: torch's ReduceLROnPlateau, asked after each epoch."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lrsearch import families
from lrsearch.training.optimizers import without_the_compiler
from lrsearch.trial import ScheduleConfig


@dataclass
class Plateau:
    """torch's ReduceLROnPlateau, deciding on a unit learning rate; the schedule's factors carry the peak."""

    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.ReduceLROnPlateau

    @property
    def scale(self) -> float:
        """What the learning rate is multiplied by, 0..1."""
        return float(self.optimizer.param_groups[0]["lr"])

    def step(self, val_loss: float) -> None:
        """Take an epoch's validation loss into account."""
        self.scheduler.step(val_loss)

    def state(self) -> dict[str, Any]:
        """Return plain values that ``restore`` takes."""
        return {"scale": self.scale, "scheduler": self.scheduler.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Stand where ``state`` was taken."""
        self.optimizer.param_groups[0]["lr"] = state["scale"]
        self.scheduler.load_state_dict(state["scheduler"])


@without_the_compiler()
def plateau_of(schedule: ScheduleConfig) -> Plateau | None:
    """Return the plateau at its start; None for every other family."""
    if not families.of(schedule).feedback:
        return None
    unit = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        unit,
        factor=schedule.drop_factor or 0.1,
        patience=schedule.patience_epochs or 0,
        min_lr=schedule.final_fraction or 0.0,
    )
    return Plateau(unit, scheduler)
