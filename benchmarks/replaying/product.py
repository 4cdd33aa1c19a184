"""lrsearch itself as a method: its strategy over a view, its samplers and its pruners, without a database.

What ``store.claims`` reads from the database for a decision is kept here in memory, in the same terms; the deciding is
that of the product. ``replaying.through_claims`` goes the whole way, and a test holds the two against each other.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from lrsearch.domain import Fixed
from lrsearch.schedules import comparable_from
from lrsearch.spec import file as study_file
from lrsearch.spec import parameters
from lrsearch.spec.study import StudySpec
from lrsearch.store import portfolio
from lrsearch.store.proposals import Mirror, sampler_of
from lrsearch.store.space import distribution
from lrsearch.store.tables import OUTCOME_ATTR, SLOT_ATTR
from lrsearch.strategy import strategies
from lrsearch.strategy.view import (
    Begin,
    FreeSlot,
    Reached,
    Resume,
    RungRow,
    ScoreCurve,
    Settle,
    SlotState,
    Standing,
    View,
    standing_still,
)
from lrsearch.trial import State, TrialConfig
from replaying.methods import Fate, GoOn, Named, Problem, Start
from replaying.named import PRUNERS, SAMPLERS

MANY = 1_000_000
"""Trials of a budget that ends by its cost alone."""


class Deciding:
    """The product's own deciding.

    Args:
        problem: the study, whose strategy, or sampler and pruner, decide.
    """

    def __init__(self, problem: Problem) -> None:
        self.spec, self.strategy = problem.spec, strategies.of(problem.spec)
        self.initial = portfolio.initial(self.spec)
        self._curves: list[ScoreCurve] = []
        self._params: list[Mapping[str, Any]] = []
        self._paused: dict[int, FreeSlot] = {}
        self._n_first = self._n_ended = self._n_complete = self._n_epochs = 0
        self._rungs: list[dict[int, RungRow]] = [{} for _ in range(self.spec.epochs + 1)]
        """Of each epoch, the scores of the trials that came so far."""
        self._first_compared: list[int] = []
        self._stops: dict[tuple[int, int], bool] = {}
        self._mirror = Mirror(self.spec.metric.direction)

    # --- a method -----------------------------------------------------------------------------------------------------

    def ask(self) -> Start | GoOn | None:
        """As ``Method.ask``."""
        while True:
            step = self.strategy.what_next(self._view())
            match step:
                case Settle(slot):
                    self._settle(int(slot))
                case Resume(slot):
                    trial = int(slot)
                    del self._paused[trial]
                    self._change(trial, paused=False)
                    return GoOn(trial)
                case Begin():
                    return Start(self._setting(step))
                case _:
                    return None

    def began(self, trial: int, config: TrialConfig, params: Mapping[str, Any]) -> None:
        """As ``Method.began``."""
        assert trial == len(self._curves)
        self._curves.append(ScoreCurve(str(trial), config, State.RUNNING))
        self._params.append(dict(params))
        self._first_compared.append(comparable_from(config.schedule, self.spec.epochs))
        self._mirror.sync([self._frozen(trial, TrialState.RUNNING, None)])

    def looks_at(self, epoch: int) -> bool:
        """As ``Method.looks_at``: where a strategy stops depends on the trial, and is asked in ``reached``."""
        return self.strategy.reads_curves or self.strategy.looks_at(self.spec.pruner, epoch, self.spec.epochs)

    def reached(self, trial: int, scores: Sequence[float]) -> Fate:
        """As ``Method.reached``."""
        epoch = len(scores)
        self.seen(trial, scores)
        if self.strategy.reads_curves and not self._stops_at(trial, epoch):
            return "keep"
        found = self.strategy.judge(self._reached(trial, scores))
        if found.fate == "keep":
            return "keep"
        if found.fate == "pause":
            self._paused[trial] = FreeSlot(str(trial), SlotState.PAUSED, epoch)
            self._change(trial, paused=True)
            return "pause"
        self._end(trial, State.PRUNED, scores[-1])
        return "end"

    def ended(self, trial: int, scores: Sequence[float], value: float | None) -> None:
        """As ``Method.ended``."""
        self.seen(trial, scores)
        self._end(trial, State.DIVERGED if value is None else State.COMPLETE, value)

    def seen(self, trial: int, scores: Sequence[float]) -> None:
        """As ``Method.seen``."""
        known = self._curves[trial].epochs
        self._n_epochs += len(scores) - known
        for epoch in range(known + 1, len(scores) + 1):
            comparable = epoch >= self._first_compared[trial]
            self._rungs[epoch][trial] = RungRow(scores[epoch - 1], complete=False, comparable=comparable, number=trial)
        self._change(trial, scores=tuple(scores))

    # --- what claims read of the database -----------------------------------------------------------------------------

    def _stops_at(self, trial: int, epoch: int) -> bool:
        """Whether the strategy looks at a trial after an epoch: alike for all that are compared from the same on."""
        key = self._first_compared[trial], epoch
        if key not in self._stops:
            self._stops[key] = self.strategy.stops_at(self.spec, self._curves[trial].config, epoch)
        return self._stops[key]

    def _reached(self, trial: int, scores: Sequence[float]) -> Reached:
        epoch, comparable = len(scores), len(scores) >= self._first_compared[trial]
        if self.strategy.reads_curves:
            view = standing_still(self._view(), str(trial))
            return Reached(self.spec, epoch, comparable, None, slot=str(trial), view=view)
        own, others = list[float](), list[RungRow]()
        if comparable:
            own, others = list(scores), [row for one, row in self._rungs[epoch].items() if one != trial]
        return Reached(self.spec, epoch, comparable, None, own, others, self._n_complete, trial)

    def _view(self) -> View:
        budget = self.spec.budget
        of_all = budget.epochs(self.spec.epochs)
        under_way = len(self._curves) - self._n_ended - len(self._paused)
        standing = Standing(
            budget=budget,
            stopped=None,
            hours_left=None,
            total=len(self._curves),
            open=len(self._curves) - self._n_ended,
            finished=self._n_ended,
            failed=0,
            paused=len(self._paused),
            # A trial under way has one epoch in hand.
            epochs_left=None if of_all is None else of_all - self._n_epochs - under_way,
        )
        free = tuple(self._paused[trial] for trial in sorted(self._paused))
        first = tuple(one.origin for one in self.initial)
        curves = tuple(self._curves) if self.strategy.reads_curves else ()
        return View(self.spec, standing, free, first, n_first=self._n_first, curves=curves, space=self.spec.space)

    def _change(self, trial: int, **changes: Any) -> None:
        self._curves[trial] = replace(self._curves[trial], **changes)

    def _end(self, trial: int, state: State, value: float | None) -> None:
        self._n_ended += 1
        if state == State.COMPLETE:
            self._n_complete += 1
            for row in self._rungs:
                if trial in row:
                    row[trial] = replace(row[trial], complete=True)
        self._change(trial, state=state, paused=False, value=value if state == State.COMPLETE else None)
        ended = TrialState.COMPLETE if state == State.COMPLETE else TrialState.PRUNED
        self._mirror.sync([self._frozen(trial, ended, value, state)])

    def _settle(self, trial: int) -> None:
        del self._paused[trial]
        scores = self._curves[trial].scores
        self._end(trial, State.PRUNED, scores[-1] if scores else None)

    # --- settings -----------------------------------------------------------------------------------------------------

    def _setting(self, begin: Begin) -> Mapping[str, Any]:
        """Return what is trained: what the strategy, or a first setting, says, and of the sampler what is left open."""
        fixed = begin.params
        if begin.nth_first is not None:
            fixed, self._n_first = self.initial[begin.nth_first].params, self._n_first + 1
        if fixed is not None and self._is_complete(fixed):
            return fixed
        position = len(self._curves)
        sampler = sampler_of(self.spec.sampler, self.spec.seed, position)
        return dict(self._mirror.ask(str(position), sampler, self.spec.space, fixed).params)

    def _is_complete(self, params: Mapping[str, Any]) -> bool:
        space = self.spec.space
        optimizer = params.get("optimizer", next(iter(space.optimizers)))
        schedule = params.get("schedule", next(iter(space.schedules)))
        needed = parameters.shared(space) | parameters.conditional(space, optimizer, schedule)
        return all(name in params for name, domain in needed.items() if not isinstance(domain, Fixed))

    def _frozen(self, trial: int, state: TrialState, value: float | None, outcome: State | None = None) -> FrozenTrial:
        """Return a trial as Optuna's tables would hold it."""
        params = dict(self._params[trial])
        everything = parameters.everything(self.spec.space)
        distributions = {name: found for name in params if (found := distribution(everything[name])) is not None}
        attrs = {SLOT_ATTR: str(trial)} | ({} if outcome is None else {OUTCOME_ATTR: outcome.value})
        scores = self._curves[trial].scores
        finite = {epoch: score for epoch, score in enumerate(scores, 1) if not math.isnan(score)}
        return FrozenTrial(
            number=trial,
            trial_id=trial,
            state=state,
            value=value,
            datetime_start=None,
            datetime_complete=None,
            params=params,
            distributions=distributions,
            user_attrs=attrs,
            system_attrs={},
            intermediate_values=finite,
        )


# --- the methods ------------------------------------------------------------------------------------------------------


def with_keys(spec: StudySpec, keys: Mapping[str, Any]) -> StudySpec:
    """Return the study with further keys of its file."""
    plain = spec.to_plain()
    return study_file.build({**plain, **keys}, f"the replay of '{spec.name}'").measured(spec.measured_facts)


def strategy_of(problem: Problem) -> Deciding:
    """Return the product with the strategy that is made for learning rates."""
    keys = {"strategy": {"name": "lr", "branching": False}, "budget": {"trainings": problem.limit}}
    own = {key: value for key, value in problem.spec.to_plain().items() if key not in ("sampler", "pruner")}
    spec = study_file.build({**own, **keys}, f"the replay of '{problem.spec.name}'")
    spec = spec.measured(problem.spec.measured_facts)
    return Deciding(Problem(spec, problem.limit, problem.workers))


def sampler_and_pruner(sampler: str, pruner: str, portfolio: bool, problem: Problem) -> Deciding:  # noqa: FBT001
    """Return the product with a sampler and a pruner of the study file."""
    keys = {
        "sampler": {"name": sampler, "portfolio": portfolio},
        "pruner": {"name": pruner},
        "budget": {"trials": MANY},
    }
    spec = with_keys(problem.spec, keys)
    return Deciding(Problem(spec, problem.limit, problem.workers))


METHODS: dict[str, Named] = {
    "lr": Named(strategy_of),
    "product": Named(partial(sampler_and_pruner, "tpe", "gradual", True)),  # noqa: FBT003
    "product-asha": Named(partial(sampler_and_pruner, "tpe", "asha", True)),  # noqa: FBT003
    **{
        f"{sampler}+{pruner}": Named(partial(sampler_and_pruner, sampler, pruner, False))  # noqa: FBT003
        for sampler in SAMPLERS
        for pruner in PRUNERS
    },
}
"""Sampler and pruner as a study file names them, without the first settings; ``product``: the default, with them."""
