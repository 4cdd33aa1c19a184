"""What a person's own loop may do wrong with the learning rate, said at the end of its first epoch."""

from dataclasses import dataclass

from lrsearch.own_code import OwnCodeError


class LoopError(OwnCodeError):
    """A person's own loop that does not keep to what a ``Run`` needs; every trial of it would be wrong alike."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What was counted in a first epoch."""

    told: int
    """Calls of ``run.step()``."""
    made: int
    """Updates that the optimizer has made; one that a gradient scaler skipped is none."""
    made_before: int
    """Of them those before the first call."""
    steps_per_epoch: int
    """Updates that an epoch should have."""

    def fault(self) -> str | None:
        """Return in a sentence what is wrong, or None.

        >>> Counts(0, 20, 0, 20).fault()
        'the loop never calls run.step(), and its optimizer made 20 updates: call it after each optimizer.step()'
        """
        told, made = f"{self.told:,}", f"{self.made:,}"
        rule = "call it once after each optimizer.step()"
        if not self.told:
            and_made = f", and its optimizer made {made} updates" if self.made else ""
            return f"the loop never calls run.step(){and_made}: call it after each optimizer.step()"
        if self.made and self.told >= 2 * self.made:
            return f"the loop calls run.step() {told} times in its first epoch for {made} updates: {rule}"
        if self.told < self.made:
            return f"the loop calls run.step() {told} times in its first epoch for {made} updates: {rule}"
        if self.made == self.told and not self.made_before:
            return f"the loop calls run.step() before optimizer.step(), which would use the next learning rate: {rule}"
        if self.told != self.steps_per_epoch:
            return (
                f"the loop made {told} updates in its first epoch, and loop.n_train or loop.steps_per_epoch says "
                f"{self.steps_per_epoch:,} for this batch size: set loop.steps_per_epoch, or keep to "
                f"run.config.batch_size (training.drop_last says whether a last, smaller batch is left out)"
            )
        return None
