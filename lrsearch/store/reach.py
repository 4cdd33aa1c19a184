"""The search space as it stands: where a study says so, the best trials have moved the edges of its learning rates."""

from collections.abc import Mapping, Sequence

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from lrsearch.spec.bounds import Tried, extended_space, space_that_holds
from lrsearch.spec.space import SearchSpace
from lrsearch.spec.study import StudySpec
from lrsearch.store import optuna_private
from lrsearch.store import space as spaces
from lrsearch.store.tables import OUTCOME_ATTR, ROLE_ATTR
from lrsearch.trial import OptimizerName, State


class Reach:
    """How far the learning rates of a study reach: a function of the trials that have ended, in the order they did.

    Nothing of it is kept in the database, so that every worker that has read the same trials draws from the same space.
    """

    def __init__(self, spec: StudySpec) -> None:
        self._spec = spec
        self._read: dict[int, FrozenTrial] = {}
        self.space = spec.space
        """What settings are drawn from."""
        self.distributions: Mapping[str, BaseDistribution] = {}
        """Of the learning rates that may move, by Optuna's name; none where none may."""

    @property
    def trials(self) -> list[FrozenTrial]:
        """What was read, in the order in which the trials began."""
        return [self._read[trial_id] for trial_id in sorted(self._read)]

    def read(self, news: Sequence[FrozenTrial]) -> bool:
        """Take note of what is new of the trials; return whether the space has moved by it."""
        if not self._spec.space.auto_extend:
            return False
        self._read |= {optuna_private.trial_id(trial): trial for trial in news if trial.state != TrialState.WAITING}
        tried: dict[OptimizerName, list[Tried]] = {}
        rates: dict[OptimizerName, list[float]] = {}
        for trial in sorted(self.trials, key=_ended):
            name = trial.params.get("optimizer", next(iter(self._spec.space.optimizers)))
            lr = trial.params.get(f"peak_lr_{name}")
            if lr is None:
                continue  # one rate, which does not move, or a trial of another program that has not asked for one
            rates.setdefault(name, []).append(lr)
            if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
                tried.setdefault(name, []).append(_tried(trial, lr))
        moved = extended_space(self._spec.space, tried, maximize=self._spec.metric.maximize)
        # A trial in training may have been drawn from a wider space, when a trial counted that has been deleted since.
        moved = space_that_holds(moved, rates)
        if moved == self.space:
            return False
        self.space = moved
        everything = spaces.unconditional_distributions(moved)
        names = (f"peak_lr_{optimizer}" for optimizer in moved.optimizers)
        self.distributions = {name: everything[name] for name in names if name in everything}
        return True


def space_of(spec: StudySpec, trials: Sequence[FrozenTrial]) -> SearchSpace:
    """Return the search space as the trials of a study have left it, those of every role given."""
    reach = Reach(spec)
    reach.read([trial for trial in trials if ROLE_ATTR not in trial.user_attrs])
    return reach.space


def _ended(trial: FrozenTrial) -> tuple[bool, float, int]:
    at = trial.datetime_complete
    return at is None, 0.0 if at is None else at.timestamp(), trial.number


def _tried(trial: FrozenTrial, lr: float) -> Tried:
    diverged = trial.user_attrs.get(OUTCOME_ATTR) == State.DIVERGED
    value = trial.value if trial.state == TrialState.COMPLETE and not diverged else None
    return Tried(lr, value, diverged)
