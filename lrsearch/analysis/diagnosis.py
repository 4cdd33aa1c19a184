"""What the trials of each optimizer say about its learning rate: the best, how far one may stray, and no more."""

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lrsearch.analysis.edges import Edge, edge, tried
from lrsearch.analysis.precision import tolerance
from lrsearch.analysis.ranking import best, once
from lrsearch.analysis.safe_interval import SafeInterval, Zone, ZoneKind, safe_interval
from lrsearch.spec.bounds import Side, moves, open_sides, space_that_holds
from lrsearch.spec.study import StudySpec
from lrsearch.text import counted
from lrsearch.trial import OptimizerName, Reason, State, Trial


@dataclass(frozen=True, slots=True)
class OptimizerDiagnosis:
    """What the trials of one optimizer say about its peak learning rate, schedules and batch sizes taken together."""

    optimizer: OptimizerName
    metric: str
    """accuracy or loss: what best_value is."""
    maximize: bool
    """Whether more of it is better."""
    counts: dict[State, int]
    learned: bool
    """Whether any complete trial did better than a guess: without, no learning rate was good."""
    best_number: int | None
    best_value: float | None
    best_lr: float | None
    safe: SafeInterval
    """How far one may stray from the best learning rate, and the zones around."""
    n_overflowing: int
    """Diverged trials that say nothing of their learning rates."""
    tried_low: float | None
    """The lowest learning rate of a trial that has ended; None where none has."""
    tried_high: float | None
    edges: tuple[Edge, ...]
    """Where the best trial touches the edge of the search space and nothing says that it gets worse beyond."""
    widened: bool
    """Whether the search moved an edge of its space by itself."""
    widens: bool
    """Whether it does so: ``space.auto_extend``, and its range is neither a list nor a grid."""

    @property
    def n_finished(self) -> int:
        """Complete, pruned and diverged trials."""
        return sum(n for state, n in self.counts.items() if state.counts)


def diagnose(trials: Iterable[Trial], spec: StudySpec) -> tuple[OptimizerDiagnosis, ...]:
    """Return one diagnosis per optimizer of the search space, in its order."""
    by_name: dict[OptimizerName, list[Trial]] = {name: [] for name in spec.space.optimizers}
    for trial in once(trials):
        by_name.setdefault(trial.config.optimizer.name, []).append(trial)
    return tuple(_diagnose(name, found, spec) for name, found in by_name.items())


def _diagnose(name: OptimizerName, trials: Sequence[Trial], spec: StudySpec) -> OptimizerDiagnosis:
    top = best(trials, spec.metric.direction)
    value = top.outcome.value if top is not None and top.outcome is not None else None
    ended = tried(trials)
    rates = [one.lr for one in ended]
    space = space_that_holds(spec.space, {name: rates})
    domain = space.optimizers[name]["peak_lr"] if name in space.optimizers else None
    sides = () if domain is None else open_sides(domain, ended, maximize=spec.metric.maximize)
    seen_by = spec if space is spec.space else spec.model_copy(update={"space": space})
    return OptimizerDiagnosis(
        optimizer=name,
        metric=spec.metric.label,
        maximize=spec.metric.maximize,
        counts=dict(Counter(t.state for t in trials)),
        learned=value is None or not tolerance(spec).is_guess(value),
        best_number=top.number if top else None,
        best_value=value,
        best_lr=top.config.optimizer.peak_lr if top else None,
        safe=safe_interval(trials, spec),
        n_overflowing=sum(t.outcome is not None and t.outcome.reason == Reason.OVERFLOWING for t in trials),
        tried_low=min(rates, default=None),
        tried_high=max(rates, default=None),
        edges=_edges(seen_by, name, sides),
        widened=space is not spec.space,
        widens=bool(spec.space.auto_extend) and domain is not None and moves(domain),
    )


def _edges(spec: StudySpec, name: OptimizerName, sides: Iterable[Side]) -> tuple[Edge, ...]:
    return tuple(found for side in sides if (found := edge(spec, name, side)) is not None)


def sentences(diagnosis: OptimizerDiagnosis) -> list[str]:
    """Say a diagnosis in full sentences: the best, the safe interval, the zones around it, what to widen."""
    d = diagnosis
    if not d.counts:
        return ["No trial yet."]
    out = [_said_best(d), *_said_overflowing(d)]
    if d.learned:
        out.append(_said_safe(d))
    out += [_said_zone(zone) for zone in d.safe.zones if zone.kind != ZoneKind.GOOD]
    if d.widened:
        out.append(f"The search widened its range by itself: lr {_lr(d.tried_low)} to {_lr(d.tried_high)} was tried.")
    return out + [_said_edge(d, found) for found in d.edges]


def _said_best(d: OptimizerDiagnosis) -> str:
    if d.best_value is None:
        endings = ", ".join(f"{n} {state}" for state, n in d.counts.items())
        return f"No complete trial ({endings})."
    said = f"Best {d.metric} {d.best_value:.4g} at lr {_lr(d.best_lr)} (trial {d.best_number})"
    if not d.learned:
        return f"{said}: no better than a guess, so no learning rate that was tried is good."
    return f"{said}."


def _said_safe(d: OptimizerDiagnosis) -> str:
    safe = d.safe
    if safe.low is None or safe.octaves is None or safe.floor is None or safe.distance is None:
        return f"No safe interval: {safe.why_none}."
    more, side = ("or more", "below") if d.maximize else ("or less", "above")
    said = (
        f"Safe from lr {_lr(safe.low)} to {_lr(safe.high)} ({safe.octaves:.1f} octaves, middle {_lr(safe.centre)}): at "
        f"most {safe.distance:.2g} {side} the best ({d.metric} {safe.floor:.3g} {more}), diverging with a probability "
        f"of at most {100 * safe.probability:.0f} %"
    )
    if d.best_lr is not None and safe.high is not None and not safe.low <= d.best_lr <= safe.high:
        said = f"{said}; the best lies outside, because trials beside it fell short"
    ends = [word for word, is_open in (("below", safe.open_low), ("above", safe.open_high)) if is_open]
    return f"{said}; no trial {' or '.join(ends)} ended badly, so that it may be wider." if ends else f"{said}."


def _said_zone(zone: Zone) -> str:
    where = {
        ZoneKind.TOO_LOW: f"Too low up to lr {_lr(zone.high)}",
        ZoneKind.GOOD: f"Good from lr {_lr(zone.low)} to {_lr(zone.high)}",
        ZoneKind.UNSTABLE: f"Unstable from lr {_lr(zone.low)}",
        ZoneKind.DIVERGED: f"Diverged from lr {_lr(zone.low)}",
    }[zone.kind]
    if not zone.n:
        return f"{where}, by the trials on both sides."
    if zone.n_diverged == zone.n:
        return f"{where}: {_every(zone.n)} diverged."
    pruned = f" ({_of(zone.n_pruned, zone.n_short)}pruned: compared at the same epoch)" if zone.n_pruned else ""
    if zone.n_short == zone.n:
        return f"{where}: {_every(zone.n)} fell short{pruned}."
    parts = [f"{zone.n_diverged} diverged"] if zone.n_diverged else []
    parts += [f"{zone.n_short} fell short{pruned}"] if zone.n_short else []
    if not parts:
        return f"{where}, by the trials around: of {counted(zone.n, 'trial')} there none ended badly."
    return f"{where}: of {counted(zone.n, 'trial')} {' and '.join(parts)}."


def _of(n: int, whole: int) -> str:
    return "" if n == whole == 1 else "all " if n == whole else f"{n} "


def _said_overflowing(d: OptimizerDiagnosis) -> list[str]:
    if not d.n_overflowing:
        return []
    what = f"{counted(d.n_overflowing, 'trial')} overflowed in fp16, which says nothing of the learning rate"
    return [f"{what}: take bf16 or fp32, as a study of its own: --name NEW --set training.precision=auto"]


def _said_edge(d: OptimizerDiagnosis, found: Edge) -> str:
    where = f"the {found.side} edge of the search space (lr {_lr(found.at)})"
    what = f"Every trial diverged, down to {where}" if d.best_value is None else f"The best trial touches {where}"
    if d.widens:
        return f"{what}, which the next trials widen: give it more of them."
    sets = " ".join(f"--set {shlex.quote(text)}" for text in found.overrides)
    return f"{what}: widen it, as a study of its own: --name NEW {sets}"


def _every(n: int) -> str:
    return "the one trial" if n == 1 else "both trials" if n == 2 else f"all {n} trials"


def _lr(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"
