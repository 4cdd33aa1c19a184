"""What decides in a study: when the search ends, who proposes settings, and who ends, or pauses, trials."""

import math
import zlib
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from lrsearch.spec.space import Strict

MOST = 1_000_000
"""Of anything that is counted: what is more is a slip of the keys, and finds no room in a database's columns."""


class BudgetSpec(Strict):
    """When the search ends: whichever comes first."""

    trials: Annotated[int, Field(ge=1, le=MOST)] | None = None
    """Total of complete, pruned and diverged trials; 50 when neither hours nor trainings are given."""
    hours: Annotated[float, Field(gt=0, le=MOST)] | None = None
    """Training time of all trials together [hours]."""
    trainings: Annotated[float, Field(gt=0, le=MOST)] | None = None
    """Epochs of all trials together, counted in whole trainings: 8 are 80 epochs where a training has 10."""
    max_failures: Annotated[int, Field(ge=0, le=MOST)] = 5
    """Failed trials (out of memory, crash) do not count as trials; more of them than this end the study."""
    stop: Literal["converged"] | None = None
    """``converged``: end before the budget does, once the rest of it is expected to gain less than noise hides."""

    @model_validator(mode="before")
    @classmethod
    def _default(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and all(raw.get(key) is None for key in ("trials", "hours", "trainings")):
            return {**raw, "trials": 50}
        return raw

    def epochs(self, of_a_training: int) -> int | None:
        """Return how many epochs all trials may have together; None: as many as they like."""
        return None if self.trainings is None else math.floor(self.trainings * of_a_training + 1e-9)


Startup = Annotated[int, Field(ge=0, le=MOST)]
"""Finished trials before a sampler stops drawing at random; the first settings count."""


class TpeSpec(Strict):
    """Optuna's tree-structured Parzen estimators, multivariate and by group."""

    name: Literal["tpe"] = "tpe"
    n_startup_trials: Startup = 10
    portfolio: bool = True
    """Whether settings known to work elsewhere are tried first."""


class GpSpec(Strict):
    """Optuna's Gaussian process."""

    name: Literal["gp"] = "gp"
    n_startup_trials: Startup = 10
    portfolio: bool = True


class RandomSpec(Strict):
    """Settings drawn independently of each other."""

    name: Literal["random"] = "random"
    portfolio: bool = True


class QmcSpec(Strict):
    """Optuna's quasi-random sequence."""

    name: Literal["qmc"] = "qmc"
    portfolio: bool = True


class CmaesSpec(Strict):
    """Optuna's CMA-ES: a cloud of settings that moves and stretches towards the better ones."""

    name: Literal["cmaes"] = "cmaes"
    n_startup_trials: Startup = 1
    portfolio: bool = True


class GridSpec(Strict):
    """Every setting of a grid once, in an order that the seed shuffles."""

    name: Literal["grid"] = "grid"
    points: Annotated[int, Field(ge=1, le=1000)] = 5
    """Values of a range, its ends among them, at equal distances, on the log axis where it has one."""
    portfolio: bool = False
    """Whether settings known to work elsewhere are tried first, which are none of the grid."""


SamplerSpec = TpeSpec | RandomSpec | GpSpec | QmcSpec | CmaesSpec | GridSpec
"""Who proposes the next setting."""


class AshaSpec(Strict):
    """Asynchronous successive halving; Optuna's names and meanings, steps counted in epochs."""

    name: Literal["asha"] = "asha"
    min_resource: Annotated[int, Field(ge=1, le=MOST)] | None = None
    """The first rung [epochs]; a fifth of the training by default."""
    reduction_factor: Annotated[int, Field(ge=2, le=MOST)] = 3
    """One in so many goes on from a rung; the next is so many times later."""
    min_early_stopping_rate: Annotated[int, Field(ge=0, le=MOST)] = 0
    """Rungs left out at the start."""

    def first_rung(self, epochs: int) -> int:
        """Return ``min_resource``, the default filled in, for a training of so many epochs."""
        return max(1, epochs // 5) if self.min_resource is None else self.min_resource

    def rungs(self, epochs: int) -> tuple[int, ...]:
        """Return the epochs at which trials are compared.

        ``min_resource * reduction_factor ** (min_early_stopping_rate + k)``, k = 0, 1, ..., below ``epochs``.
        """
        rung, left_out, out = self.first_rung(epochs), self.min_early_stopping_rate, list[int]()
        while rung < epochs:
            if left_out:
                left_out -= 1
            else:
                out.append(rung)
            rung *= self.reduction_factor
        return tuple(out)

    def compares_at(self, epoch: int, epochs: int) -> bool:
        """Whether trials of ``epochs`` are compared at ``epoch`` (1-based, completed)."""
        return epoch in self.rungs(epochs)

    def compares_from(self, epochs: int) -> int | None:
        """Return the first epoch (1-based, completed) at which trials are compared; None if there is none.

        The last epoch is not compared: a trial that has come so far is complete.
        """
        return next(iter(self.rungs(epochs)), None)


class GradualSpec(Strict):
    """Successive halving in small steps: after every epoch a few of the worst of those that came so far end.

    Of all trials about ``((first + 1) / (epoch + 1)) ** power`` of those that were compared first go on after an epoch.
    """

    name: Literal["gradual"] = "gradual"
    min_resource: Annotated[int, Field(ge=1, le=MOST)] | None = None
    """The first epoch after which trials are compared [epochs]; a tenth of the training by default."""
    power: Annotated[float, Field(gt=0, le=10)] = 1.4
    """How steeply they become fewer; see ``share``."""

    def first_rung(self, epochs: int) -> int:
        """As ``AshaSpec.first_rung``."""
        return max(1, epochs // 10) if self.min_resource is None else self.min_resource

    def share(self, epoch: int) -> float:
        """Return the part [0..1] of the trials that came to an epoch (1-based, completed) which goes on."""
        return float((epoch / (epoch + 1)) ** self.power)

    def compares_at(self, epoch: int, epochs: int) -> bool:
        """As ``AshaSpec.compares_at``."""
        return self.first_rung(epochs) <= epoch < epochs

    def compares_from(self, epochs: int) -> int | None:
        """As ``AshaSpec.compares_from``."""
        first = self.first_rung(epochs)
        return first if first < epochs else None


class HyperbandSpec(Strict):
    """Successive halving in brackets, of which the first begin to compare sooner; Optuna's names and meanings.

    Source: Li et al. 2018, arXiv 1603.06560; optuna.pruners.HyperbandPruner.
    """

    name: Literal["hyperband"] = "hyperband"
    min_resource: Annotated[int, Field(ge=1, le=MOST)] | None = None
    """The first rung of the first bracket [epochs]; 1 by default."""
    reduction_factor: Annotated[int, Field(ge=2, le=MOST)] = 3
    """As ``AshaSpec.reduction_factor``."""

    def first_rung(self, epochs: int) -> int:
        """Return ``min_resource``, the default filled in."""
        del epochs
        return 1 if self.min_resource is None else self.min_resource

    def shares(self, epochs: int) -> tuple[int, ...]:
        """Return for each bracket how many of the trials are in it, in proportion; none where nothing is compared.

        Of ``n`` brackets, bracket ``i`` has ``ceil(n * reduction_factor ** (n - 1 - i) / (n - i))``.

        >>> HyperbandSpec().shares(10)
        (9, 5, 3)
        """
        n, rung = 0, self.first_rung(epochs)
        while rung <= epochs:
            n, rung = n + 1, rung * self.reduction_factor
        return tuple(-(-n * self.reduction_factor ** (n - 1 - i) // (n - i)) for i in range(n))

    def bracket(self, seed: int, number: int, epochs: int) -> int:
        """Return the bracket of a trial, from 0: a hash of the study's seed and its number, spread by ``shares``."""
        shares = self.shares(epochs)
        place = zlib.crc32(f"{seed}_{number}".encode()) % sum(shares) if shares else 0
        for i, share in enumerate(shares):
            place -= share
            if place < 0:
                return i
        return 0

    def rungs(self, epochs: int, bracket: int = 0) -> tuple[int, ...]:
        """Return the epochs at which the trials of a bracket are compared; those of the first hold all others'."""
        return AshaSpec(
            min_resource=self.first_rung(epochs),
            reduction_factor=self.reduction_factor,
            min_early_stopping_rate=bracket,
        ).rungs(epochs)

    def compares_at(self, epoch: int, epochs: int) -> bool:
        """As ``AshaSpec.compares_at``, whatever the bracket."""
        return epoch in self.rungs(epochs)

    def compares_from(self, epochs: int) -> int | None:
        """As ``AshaSpec.compares_from``, of the first bracket."""
        return next(iter(self.rungs(epochs)), None)


class MedianSpec(Strict):
    """Against the median of complete trials; Optuna's names and meanings, steps counted in epochs."""

    name: Literal["median"] = "median"
    n_startup_trials: Annotated[int, Field(ge=0, le=MOST)] = 5
    """Complete trials before the first comparison."""
    n_warmup_steps: Annotated[int, Field(ge=0, le=MOST)] = 0
    """Epochs before the first comparison."""
    interval_steps: Annotated[int, Field(ge=1, le=MOST)] = 1
    """Epochs between comparisons."""
    n_min_trials: Annotated[int, Field(ge=1, le=MOST)] = 1
    """Scores at an epoch below which nothing is pruned."""

    def compares_at(self, epoch: int, epochs: int) -> bool:
        """As ``AshaSpec.compares_at``."""
        begun = epoch - self.n_warmup_steps
        # Optuna's steps begin at 0: the comparison due there is made at the first score there is.
        return epoch < epochs and begun >= 0 and (epoch == 1 or begun % self.interval_steps == 0)

    def compares_from(self, epochs: int) -> int | None:
        """As ``AshaSpec.compares_from``."""
        first = max(1, self.n_warmup_steps)
        return first if first < epochs else None


class NoPrunerSpec(Strict):
    """Every trial is trained through."""

    name: Literal["none"] = "none"

    def compares_at(self, epoch: int, epochs: int) -> bool:
        """Return False: trials are never compared."""
        del epoch, epochs
        return False

    def compares_from(self, epochs: int) -> int | None:
        """Return None: trials are never compared."""
        del epochs
        return None


PrunerSpec = AshaSpec | GradualSpec | HyperbandSpec | MedianSpec | NoPrunerSpec
"""Who ends a trial early; a table that does not name it means the first."""


class LrSpec(Strict):
    """One model of learning rates and schedules proposes settings, pauses trials and says which of them go on."""

    name: Literal["lr"] = "lr"
    branching: bool = True
    """Whether a trial whose learning rates begin as those of another one goes on from there."""


FORMER_PRUNER = AshaSpec()
"""What a study that named no pruner was filed with once; it keeps it."""

KINDS: dict[str, dict[str, type[Strict]]] = {
    table: {kind.model_fields["name"].default: kind for kind in get_args(union)}
    for table, union in (("sampler", SamplerSpec), ("pruner", PrunerSpec))
}
"""Of the tables whose keys depend on their name: the kinds, the default first."""
