"""Which step promises most for what it costs: a new setting, or a rung further for one that stands still."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from lrsearch.schedules import comparable_from
from lrsearch.spec.space import SearchSpace
from lrsearch.spec.study import StudySpec
from lrsearch.strategy.branches import can_share
from lrsearch.strategy.lr.constants import NARROW, WIDE, Constants
from lrsearch.strategy.lr.edge import chance_to_live, edges, inside
from lrsearch.strategy.lr.features import Floats
from lrsearch.strategy.lr.kinship import common
from lrsearch.strategy.lr.looks import Looks, Rungs, known_looks, looks
from lrsearch.strategy.lr.model import Points, Posterior, posterior
from lrsearch.strategy.lr.settings import Setting, Settings
from lrsearch.strategy.view import KnownTraining, ScoreCurve
from lrsearch.trial import State, TrialConfig

STEMS = 3
"""Trials whose kept states are considered with other schedules."""


@dataclass(frozen=True, slots=True)
class Means:
    """What may still be spent."""

    epochs_left: int | None = None
    """None: as many as it takes."""
    may_begin: bool = True
    """Whether a new setting may be begun."""
    slot_price: float = 0.0
    """What a setting is charged beside its epochs, where settings are counted [trainings]. It is charged to branches
    alone: what others cost lies above it."""
    only_begin: bool = False
    """Whether nothing else may be done: the settings that are to be tried take what is left."""


@dataclass(frozen=True, slots=True)
class Forward:
    """A step: begin a setting, or go on with a trial, up to an epoch."""

    slot: str | None
    """Of the trial; None: a new setting."""
    setting: Setting | None
    epoch: int
    """The rung to which it goes."""
    why: str
    parent: str | None = None
    """The slot of the trial from whose kept state a new setting goes on,"""
    shared: int = 0
    """and the epoch of that state."""
    promise: "Promise | None" = None
    """None before a trial is complete."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What going on can be expected to bring, in shares [0..1], or shares of the scale of what is none."""

    gain: float
    """The most that any step is expected to gain over the best complete trial, >= 0."""
    noise: float
    """Standard deviation of what a training has of its own: what the model does not tell from its setting."""


@dataclass(frozen=True, slots=True)
class _Candidates:
    settings: Sequence[Setting | ScoreCurve]
    trunks: Sequence[tuple[str, int]]
    """Of each new setting: from whose kept state it would go on, and after which epoch; 0: from none."""
    reached: Floats
    """Epochs, those to which a trial is on its way among them."""
    paused: np.ndarray
    new: np.ndarray
    complete: np.ndarray


class Chooser:
    """Chooses the next step of a study: a pure function of its trials, whatever was asked before.

    Args:
        spec: of the study.
        space: as it stands.
        constants: None: by how much is searched.
    """

    def __init__(self, spec: StudySpec, space: SearchSpace | None = None, constants: Constants | None = None) -> None:
        narrow = Settings(spec, space or spec.space, NARROW)
        self.c = constants or (NARROW if narrow.is_narrow else WIDE)
        self.settings = Settings(spec, space or spec.space, self.c)
        self.rungs = Rungs.of(spec.epochs, self.c)
        self._spec = spec

    def n_sweep(self, means: Means) -> int:
        """Return how many settings the first sweep has."""
        c, first = self.c, self.rungs.at[0]
        wanted = round(c.density * self.settings.decades) if self.settings.is_narrow else c.sweep
        n = max(c.sweep_least, min(wanted, int(c.sweep_cost * self._spec.epochs / first)))
        if means.epochs_left is None:
            return n
        # A training must remain for the leader, who has paid the first rung of it already.
        return max(1, min(n, (means.epochs_left - self._spec.epochs) // first + 1))

    def spent(self, curves: Sequence[ScoreCurve]) -> int:
        """Return the epochs that trials have had or are on their way to."""
        return sum(max(0, int(self._goes_to(one)) - one.shared) for one in curves)

    def _goes_to(self, one: ScoreCurve) -> int:
        running = one.state == State.RUNNING and not one.paused
        # A branch that is not begun yet has not been given the epochs of its parent.
        return self.rungs.after(one.config, max(one.epochs, one.shared)) if running else one.epochs

    def choose(self, curves: Sequence[ScoreCurve], means: Means, known: Sequence[KnownTraining] = ()) -> Forward | None:
        """Return the next step; None where there is none: all is under way, or nothing fits what is left."""
        epochs, spent = self._spec.epochs, self.spent(curves)
        left = math.inf if means.epochs_left is None else means.epochs_left
        if left < 1:
            return None
        seed = self._spec.seed
        tried = TriedSettings([one.config for one in curves], self.c)
        total = None if means.epochs_left is None else spent + means.epochs_left
        n0 = self.n_sweep(Means(total))
        if len(curves) < n0 and means.may_begin and not known and spent < self.c.first_by * epochs:
            sweep = self.settings.sweep(np.random.default_rng((seed, 0)), n0)[len(curves) :]
            one = next((one for one in sweep if not tried.has(one.config)), None)  # a person may have begun some
            if one is not None and (goal := self.rungs.after(one.config, 0)) <= left:
                why = f"{len(curves) + 1} of the {n0} settings of the first sweep"
                why += ", known to work elsewhere" if one in self.settings.portfolio else ""
                return Forward(None, one, goal, why)
        rng = np.random.default_rng((seed, 1, len(curves), spent))
        seen = looks(curves, self.rungs, self._spec.metric, self.c)
        found_edges = edges(curves, seen, self._spec.metric, self.c)
        seen = inside(seen, found_edges)
        kept = _kept(curves, seen, self.c)
        some, seen = [curves[i] for i in kept], _of_trials(seen, kept)
        found, belief = self._believed(some, seen, tried, known, rng)
        lives = chance_to_live([one.config for one in found.settings], found_edges, self.c)
        return self._best_step(some, found, belief, lives, spent / epochs, left, means, rng)

    def _believed(
        self,
        curves: Sequence[ScoreCurve],
        seen: Looks,
        tried: "TriedSettings",
        known: Sequence[KnownTraining],
        rng: np.random.Generator,
    ) -> tuple[_Candidates, Posterior]:
        c, metric = self.c, self._spec.metric
        new = [one for one in self._new_settings(curves, seen, rng) if not tried.has(one.config)]
        trunks = [self._trunk(curves, one) for one in new]
        every: list[Setting | ScoreCurve] = [*curves, *new]
        n = len(every)
        elsewhere = known_looks(known, n, metric, c)
        configs = [one.config for one in every] + [one.config for one in known]
        in_common = common(curves, trunks, len(configs), self._spec.epochs)
        points = Points.of(configs, n, c)
        belief = posterior(points, _joined(seen, elsewhere), self._on_their_way(curves), n, c, in_common)
        m = len(curves)
        state = [one.state for one in curves]
        candidates = _Candidates(
            every,
            trunks,
            np.array([self._goes_to(one) for one in curves] + [shared for _, shared in trunks], float),
            np.array([one.paused and one.state == State.RUNNING for one in curves] + [False] * len(new)),
            np.arange(n) >= m,
            np.array([one == State.COMPLETE for one in state] + [False] * len(new)),
        )
        return candidates, belief

    def _trunk(self, curves: Sequence[ScoreCurve], one: Setting) -> tuple[str, int]:
        """Return the slot and the epoch of the kept state from which a new setting would go on; epoch 0: none."""
        strategy = self._spec.strategy
        if strategy is None or not strategy.branching:
            return "", 0
        same = [curve for curve in curves if curve.trunks and curve.config.optimizer == one.config.optimizer]
        return can_share(self._spec, same, one.config) or ("", 0)

    def _new_settings(self, curves: Sequence[ScoreCurve], seen: Looks, rng: np.random.Generator) -> list[Setting]:
        latest = np.full(len(curves), -np.inf)
        for i, value in zip(seen.trial, seen.value, strict=True):  # later rungs come later
            if curves[i].state != State.DIVERGED:
                latest[i] = value
        best = [curves[i] for i in np.argsort(-latest, kind="stable")[:5]]
        near = [self.settings.of(one.config) for one in best]
        new = self.settings.candidates(rng, near)
        stems = [curves[i] for i in np.argsort(-latest, kind="stable") if curves[i].trunks][:STEMS]
        new += [self.settings.other_schedule(rng, one.config) for one in stems for _ in range(self.c.local)]
        return new

    def _on_their_way(self, curves: Sequence[ScoreCurve]) -> Looks:
        rows = [
            (i, level, math.log10(rung / self._spec.epochs))
            for i, one in enumerate(curves)
            if one.state == State.RUNNING and not one.paused
            for level, rung in enumerate(self.rungs.at)
            if one.epochs < rung <= self._goes_to(one)
            and rung >= comparable_from(one.config.schedule, self._spec.epochs)
        ]
        columns = list(zip(*rows, strict=True)) or [(), (), ()]
        return Looks(
            np.array(columns[0], np.int64),
            np.array(columns[1], np.int64),
            np.array(columns[2], np.float64),
            np.zeros(len(rows)),
        )

    def _best_step(
        self,
        curves: Sequence[ScoreCurve],
        found: _Candidates,
        belief: Posterior,
        lives: Floats,
        spent: float,
        left: float,
        means: Means,
        rng: np.random.Generator,
    ) -> Forward | None:
        c, epochs = self.c, self._spec.epochs
        n = len(found.settings)
        remaining = (epochs - found.reached) / epochs
        first_runs = any(
            one.state == State.RUNNING and not one.paused and self._goes_to(one) >= epochs for one in curves
        )
        leader_only = False
        if found.complete.any():
            promise = _expected_gain(found, belief)
            worth = promise / (remaining + c.floor) ** c.power
            # That to finish is favoured is for trials that stand still: a branch is a new setting, however cheap.
            branches = found.new & (found.reached > 0)
            charged = np.minimum(remaining + means.slot_price, 1.0) + c.floor
            worth = np.where(branches, promise / charged / (1 + c.floor) ** (c.power - 1), worth)
        else:
            promise = _chance_good(belief, c, rng)
            # Ties and zeros are broken by a little of the mean.
            worth = promise + 1e-3 * np.exp((belief.mean - belief.mean.max()) / c.amplitude)
            worth /= (remaining + c.floor) ** c.power_first
            paused = np.flatnonzero(found.paused)
            if len(paused) and not first_runs:
                lead = paused[np.argmax(belief.mean[paused])]
                if spent + remaining[lead] > c.first_at_latest:
                    furthest = paused[remaining[paused] == remaining[paused].min()]
                    lead = furthest[np.argmax(belief.mean[furthest])]
                if spent + remaining[lead] >= c.first_by:
                    leader_only = True
                    worth[:] = 0.0
                    worth[lead] = 1.0
        goal = np.array(
            [self.rungs.after(one.config, int(at)) for one, at in zip(found.settings, found.reached, strict=True)],
            float,
        )
        step = goal - found.reached
        worth *= lives
        allowed = (found.paused & (not means.only_begin)) | (found.new & means.may_begin)
        may = allowed & (step <= left)
        worth = np.where(may, worth, -1.0)
        alive = [i for i, one in enumerate(curves) if one.state == State.RUNNING]
        nobody = not found.complete.any() and not first_runs and not means.only_begin
        if math.isfinite(left) and alive and nobody:
            # Whatever is done now must leave enough to finish one; the leader if he can be afforded.
            lead = int(max(alive, key=lambda i: (epochs - found.reached[i] <= left, belief.mean[i])))
            need = epochs - found.reached[lead]
            worth[(step > left - need) & (np.arange(n) != lead)] = -1.0
            if worth.max() < 0 and need <= left and found.paused[lead]:
                return Forward(curves[lead].slot, None, int(goal[lead]), "the leader, with what is left of the budget")
        j = int(np.argmax(worth))
        if worth[j] < 0:
            return None
        why = self._words(j, found, promise, leader_only=leader_only)
        most = Promise(float((promise * lives)[may].max()), belief.noise) if found.complete.any() else None
        one = found.settings[j]
        if isinstance(one, ScoreCurve):
            return Forward(one.slot, None, int(goal[j]), why, promise=most)
        slot, shared = found.trunks[j - len(curves)]
        return Forward(None, one, int(goal[j]), why, slot or None, shared, most)

    def _words(self, j: int, found: _Candidates, promise: Floats, *, leader_only: bool) -> str:
        if leader_only:
            return "the best so far, to have one trial complete"
        if found.complete.any():
            return f"expected to gain {self._spec.metric.points(promise[j])} over the best complete trial"
        chance = f"{100 * promise[j]:.0f} %"
        return f"with a chance of {chance} the best, or within half a point of it"


def _expected_gain(found: _Candidates, belief: Posterior) -> Floats:
    """Return by how much each is expected to exceed the best complete trial, where it does, and 0 where not."""
    complete = np.flatnonzero(found.complete)
    best = int(complete[np.argmax(belief.mean[complete])])
    variance, with_best = belief.against(best)
    sd = np.sqrt(np.maximum(variance + variance[best] - 2 * with_best, 1e-12))
    z = (belief.mean - belief.mean[best]) / sd
    gain: Floats = sd * (z * _normal(z) + np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi))
    return gain


def _chance_good(belief: Posterior, c: Constants, rng: np.random.Generator) -> Floats:
    """Return how probably each ends within ``tolerance`` of the best of all."""
    everyone = np.arange(len(belief.mean))
    root = _root(belief.covariance(everyone))
    draws = belief.mean + rng.standard_normal((c.draws, len(everyone))) @ root.T
    good: Floats = (draws > draws.max(1, keepdims=True) - c.tolerance).mean(0)
    return good


def _root(covariance: Floats) -> Floats:
    for jitter in (1e-8, 1e-7, 1e-6, 1e-5):
        with suppress(np.linalg.LinAlgError):
            root: Floats = np.asarray(np.linalg.cholesky(covariance + jitter * np.eye(len(covariance))), np.float64)
            return root
    values, vectors = np.linalg.eigh(covariance)
    out: Floats = vectors * np.sqrt(np.maximum(values, 0))
    return out


_erf = np.vectorize(math.erf, otypes=[float])


def _normal(z: Floats) -> Floats:
    out: Floats = 0.5 * (1 + _erf(z / math.sqrt(2)))
    return out


class TriedSettings:
    """The settings that were begun: a new one that differs from one of them by hardly anything is none."""

    def __init__(self, configs: Sequence[TrialConfig], c: Constants) -> None:
        self._least = 0.6 * c.step
        self._rates: dict[TrialConfig, list[float]] = {}
        for config in configs:
            self._rates.setdefault(_but_rate(config), []).append(math.log10(config.optimizer.peak_lr))

    def has(self, config: TrialConfig) -> bool:
        """Whether a setting is as good as tried."""
        rate = math.log10(config.optimizer.peak_lr)
        return any(abs(rate - other) < self._least for other in self._rates.get(_but_rate(config), ()))


@lru_cache(maxsize=1 << 14)  # every decision asks for it of every trial
def _but_rate(config: TrialConfig) -> TrialConfig:
    return replace(config, optimizer=replace(config.optimizer, peak_lr=1.0))


def _joined(a: Looks, b: Looks) -> Looks:
    return Looks(*(np.concatenate([getattr(a, k), getattr(b, k)]) for k in ("trial", "level", "fraction", "value")))


def _kept(curves: Sequence[ScoreCurve], seen: Looks, c: Constants) -> Sequence[int]:
    """Return the trials of which the model knows, where all would be too many.

    Those in training, those that stand best, for half of the scores that it takes, and of the others every
    so-manieth.
    """
    n = len(curves)
    if len(seen.trial) <= c.most_looks:
        return range(n)
    latest = np.full(n, -np.inf)
    latest[seen.trial] = seen.value
    per_trial = np.bincount(seen.trial, minlength=n)
    kept = np.array([one.state == State.RUNNING and not one.paused for one in curves])
    order, room = np.argsort(-latest, kind="stable"), c.most_looks
    for i in order:
        if 2 * room <= c.most_looks:
            break
        kept[i], room = True, room - per_trial[i]
    others = order[~kept[order]]
    stride = max(1, math.ceil(per_trial[others].sum() / max(room, 1)))
    kept[others[::stride]] = True
    return [int(i) for i in np.flatnonzero(kept)]


def _of_trials(seen: Looks, kept: Sequence[int]) -> Looks:
    """Return the scores of some trials, numbered anew."""
    number = {old: new for new, old in enumerate(kept)}
    chosen = np.array([trial in number for trial in seen.trial], bool)
    trial = np.array([number[trial] for trial in seen.trial[chosen]], np.int64)
    return Looks(trial, seen.level[chosen], seen.fraction[chosen], seen.value[chosen])
