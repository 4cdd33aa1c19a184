"""Which learning rates were too high and too low, per optimizer: what the trials say, and no more."""

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from lrsearch.analysis.edges import Edge, Side, edge, touched
from lrsearch.analysis.precision import tolerance
from lrsearch.analysis.ranking import best, once
from lrsearch.analysis.verdicts import Verdict, verdicts
from lrsearch.spec.study import StudySpec
from lrsearch.text import counted
from lrsearch.trial import OptimizerName, Reason, State, Trial

ENOUGH_FINISHED = 5
"""Complete, pruned and diverged trials of an optimizer below which nothing is claimed about it."""
ENOUGH_COMPLETE = 2

HARMFUL = (Verdict.FAR, Verdict.DIVERGED)


@dataclass(frozen=True, slots=True)
class Beyond:
    """The trials on one side of the good range that were all bad, up to the end of what was tried."""

    lr: float
    """The learning rate where it begins, on the side of the good range."""
    n: int
    n_diverged: int
    n_pruned: int
    """Of them judged by their score when they were pruned, against the good trials' scores at that epoch."""


@dataclass(frozen=True, slots=True)
class OptimizerDiagnosis:
    """What the trials of one optimizer say about its peak learning rate, schedules and batch sizes taken together."""

    optimizer: OptimizerName
    metric: str
    """accuracy or loss: what best_value is."""
    counts: dict[State, int]
    enough: bool
    """Whether there are trials enough to claim anything."""
    learned: bool
    """Whether any complete trial did better than a guess: without, no learning rate was good."""
    best_number: int | None
    best_value: float | None
    best_lr: float | None
    close_words: str
    """What is close to the best."""
    far_words: str
    good_low: float | None
    good_high: float | None
    n_good: int
    """Complete trials close to the best, the best included."""
    n_between: int
    """Complete trials from the lowest to the highest of them."""
    too_high: Beyond | None
    """At and above its lr every trial diverged or was far from the best."""
    diverged: Beyond | None
    """At and above its lr every trial diverged, and its learning rate is to blame."""
    too_low: Beyond | None
    """At and below its lr every trial was far from the best, or diverged."""
    n_above: int
    """Trials above the good range."""
    n_below: int
    n_overflowing: int
    """Diverged trials that say nothing of their learning rates."""
    edges: tuple[Edge, ...]
    """Where good trials touch the edge of the search space and nothing says that it gets worse beyond."""

    @property
    def n_finished(self) -> int:
        """Complete, pruned and diverged trials."""
        return sum(n for state, n in self.counts.items() if state.counts)


def diagnose(trials: Iterable[Trial], spec: StudySpec) -> tuple[OptimizerDiagnosis, ...]:
    """Return one diagnosis per optimizer of the search space, in its order.

    Close to the best is within one binomial standard error of the best validation accuracy, or 10 % of the best loss.
    """
    by_name: dict[OptimizerName, list[Trial]] = {name: [] for name in spec.space.optimizers}
    for trial in once(trials):
        by_name.setdefault(trial.config.optimizer.name, []).append(trial)
    return tuple(_diagnose(name, found, spec) for name, found in by_name.items())


def _diagnose(name: OptimizerName, trials: Sequence[Trial], spec: StudySpec) -> OptimizerDiagnosis:
    judged = verdicts(trials, spec)
    top, close = best(trials, spec.metric.direction), tolerance(spec)
    value = top.outcome.value if top is not None and top.outcome is not None else None
    learned = value is None or not close.is_guess(value)
    # By learning rate, lowest first; failed and running trials say nothing.
    line = sorted(
        (_Judged(t.config.optimizer.peak_lr, judged[t.number], t.state) for t in trials if t.number in judged),
        key=lambda row: row.lr,
    )
    good = [row.lr for row in line if row.verdict == Verdict.GOOD] if learned else []
    low, high = (good[0], good[-1]) if good else (None, None)
    counts = Counter(t.state for t in trials)
    enough = len(line) >= ENOUGH_FINISHED and counts[State.COMPLETE] >= ENOUGH_COMPLETE
    above = [row for row in line if high is not None and row.lr > high]
    below = [row for row in line if low is not None and row.lr < low]
    too_high = _run(above[::-1], HARMFUL) if enough else None
    too_low = _run(below, HARMFUL) if enough else None
    edges: tuple[Edge, ...] = ()
    if enough and low is not None and high is not None:
        sides = touched(spec.space.optimizers[name]["peak_lr"], low, high)
        # Between a good trial at the edge and the edge itself there is no room for "too low" but by bad luck;
        # divergence above it is evidence.
        if "upper" in sides and too_high is not None and too_high.n_diverged:
            sides = tuple(side for side in sides if side != "upper")
        too_high, too_low = (None if "upper" in sides else too_high), (None if "lower" in sides else too_low)
        edges = _edges(spec, name, sides)
    elif len(line) >= ENOUGH_COMPLETE and all(row.verdict == Verdict.DIVERGED for row in line):
        edges = _edges(spec, name, ("lower",))
    return OptimizerDiagnosis(
        optimizer=name,
        metric=spec.metric.label,
        counts=dict(counts),
        enough=enough,
        learned=learned,
        best_number=top.number if top else None,
        best_value=value,
        best_lr=top.config.optimizer.peak_lr if top else None,
        close_words=close.words(value) if value is not None else "",
        far_words=close.far_words(),
        good_low=low,
        good_high=high,
        n_good=len(good),
        n_between=sum(row.state == State.COMPLETE and low <= row.lr <= high for row in line) if low and high else 0,
        too_high=too_high,
        diverged=_run(line[::-1], (Verdict.DIVERGED,)),
        too_low=too_low,
        n_above=len(above),
        n_below=len(below),
        n_overflowing=sum(t.outcome is not None and t.outcome.reason == Reason.OVERFLOWING for t in trials),
        edges=edges,
    )


def _edges(spec: StudySpec, name: OptimizerName, sides: Iterable[Side]) -> tuple[Edge, ...]:
    return tuple(found for side in sides if (found := edge(spec, name, side)) is not None)


@dataclass(frozen=True, slots=True)
class _Judged:
    lr: float
    verdict: Verdict
    state: State


def _run(line: Sequence[_Judged], wanted: tuple[Verdict, ...]) -> Beyond | None:
    """Return the trials at the start of ``line`` that are all as wanted; None where the first is not.

    A learning rate that was tried twice, once with a better verdict, ends the run before it.
    """
    end = next((row.lr for row in line if row.verdict not in wanted), None)
    taken = list(takewhile(lambda row: row.lr != end, line))
    if not taken:
        return None
    n_diverged = sum(row.verdict == Verdict.DIVERGED for row in taken)
    n_pruned = sum(row.state == State.PRUNED for row in taken)
    return Beyond(taken[-1].lr, len(taken), n_diverged, n_pruned)


def sentences(diagnosis: OptimizerDiagnosis) -> list[str]:
    """Say a diagnosis in full sentences: the best and the good range, too high, too low, what to widen."""
    d = diagnosis
    if not d.counts:
        return ["No trial yet."]
    out = [_said_best(d), *_said_overflowing(d)]
    if not d.enough:
        more = "else "
        if d.diverged is None:
            more = ""
        else:
            out.append(f"Diverged: {_every(d.diverged.n)} from lr {_lr(d.diverged.lr)} up.")
        few = f"{d.n_finished} finished, {d.counts.get(State.COMPLETE, 0)} of them complete"
        out.append(f"Too few trials to say what {more}is too high or too low ({few}).")
        return out + [_said_edge(d, found) for found in d.edges]
    sides = {found.side for found in d.edges}
    if d.too_high is not None:
        out.append(f"Too high from lr {_lr(d.too_high.lr)}: {_bad(d.too_high, d.far_words)}.")
        if d.diverged is not None and d.too_high.n > d.diverged.n:
            out.append(f"Diverged: {_every(d.diverged.n)} from lr {_lr(d.diverged.lr)} up.")
    elif d.n_above and "upper" not in sides:
        out.append(f"Above {_lr(d.good_high)} nothing was clearly too high ({_count(d.n_above)}).")
    if d.too_low is not None:
        out.append(f"Too low up to lr {_lr(d.too_low.lr)}: {_bad(d.too_low, d.far_words)}.")
    elif d.n_below and "lower" not in sides:
        out.append(f"Below {_lr(d.good_low)} nothing was clearly too low ({_count(d.n_below)}).")
    return out + [_said_edge(d, found) for found in d.edges]


def _said_best(d: OptimizerDiagnosis) -> str:
    if d.best_value is None:
        endings = ", ".join(f"{n} {state}" for state, n in d.counts.items())
        return f"No complete trial ({endings})."
    said = f"Best {d.metric} {d.best_value:.4g} at lr {_lr(d.best_lr)} (trial {d.best_number})"
    if not d.learned:
        return f"{said}: no better than a guess, so no learning rate that was tried is good."
    if d.n_good == 1:
        return f"{said}; no other complete trial came {d.close_words}."
    span = f"good from lr {_lr(d.good_low)} to {_lr(d.good_high)}"
    lie = "lies" if d.n_good == 1 else "lie"
    return f"{said}; {span}: {d.n_good} of {counted(d.n_between, 'complete trial')} there {lie} {d.close_words}."


def _said_overflowing(d: OptimizerDiagnosis) -> list[str]:
    if not d.n_overflowing:
        return []
    what = f"{_count(d.n_overflowing)} overflowed in fp16, which says nothing of the learning rate"
    return [f"{what}: take bf16 or fp32, as a study of its own: --name NEW --set training.precision=auto"]


def _bad(beyond: Beyond, far_words: str) -> str:
    n_far = beyond.n - beyond.n_diverged
    if not n_far:
        return f"{_every(beyond.n)} diverged"
    pruned = f" ({'all' if beyond.n_pruned == beyond.n > 1 else beyond.n_pruned} pruned: compared at the same epoch)"
    pruned = pruned if beyond.n_pruned else ""
    if not beyond.n_diverged:
        return f"{_every(beyond.n)} fell {far_words}{pruned}"
    return f"of {counted(beyond.n, 'trial')} {beyond.n_diverged} diverged and {n_far} fell {far_words}{pruned}"


def _said_edge(d: OptimizerDiagnosis, found: Edge) -> str:
    sets = " ".join(f"--set {shlex.quote(text)}" for text in found.overrides)
    where = f"the {found.side} edge of the search space (lr {_lr(found.at)})"
    what = f"Every trial diverged, down to {where}" if d.best_value is None else f"Good trials touch {where}"
    return f"{what}: widen it, as a study of its own: --name NEW {sets}"


def _every(n: int) -> str:
    return "the one trial" if n == 1 else "both trials" if n == 2 else f"all {n} trials"


def _count(n: int) -> str:
    return counted(n, "trial")


def _lr(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"
