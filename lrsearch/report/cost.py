"""What a study has cost, and what ending trials early has saved."""

from collections.abc import Sequence
from dataclasses import dataclass

from lrsearch.report import words
from lrsearch.report.branches import n_shared
from lrsearch.report.figure import Figure
from lrsearch.text import counted
from lrsearch.trial import State, Trial


@dataclass(frozen=True, slots=True)
class Cost:
    """The trials of one state."""

    state: State
    n_trials: int
    epochs: int
    """Trained."""
    epochs_saved: int
    """Not trained because the trial was ended early; 0 for complete, failed and running ones."""
    seconds: float
    """In training, evaluation included."""
    seconds_saved: float
    """The epochs that were saved, at the mean time of that trial's own ones; of all epochs where it has none."""
    epochs_shared: int = 0
    """Those that the trials have of others whose learning rates began alike: nobody trained them again."""


def costs(trials: Sequence[Trial]) -> tuple[Cost, ...]:
    """Return the cost of each state that a trial has, in the order of the states."""
    n, total = sum(_own(t) for t in trials), _seconds(trials)
    mean = total / n if n else 0.0
    out = []
    for state in (State.COMPLETE, State.PRUNED, State.DIVERGED, State.FAILED, State.RUNNING):
        mine = [t for t in trials if t.state == state]
        early = mine if state in (State.PRUNED, State.DIVERGED) else []
        saved = [t.config.epochs - len(t.metrics) for t in early]
        each = [_seconds([t]) / _own(t) if _own(t) else mean for t in early]
        if mine:
            seconds_saved = sum(k * s for k, s in zip(saved, each, strict=True))
            n_epochs, shared = sum(_own(t) for t in mine), n_shared(mine)
            out.append(Cost(state, len(mine), n_epochs, sum(saved), _seconds(mine), seconds_saved, shared))
    return tuple(out)


def finding(found: Sequence[Cost]) -> str:
    """Say what was spent and saved."""
    if not found:
        return "Nothing has been trained yet."
    epochs, saved = sum(c.epochs for c in found), sum(c.epochs_saved for c in found)
    seconds = words.duration(sum(c.seconds for c in found))
    said = f"{counted(epochs, 'epoch')} in {seconds} of training."
    if shared := sum(c.epochs_shared for c in found):
        said += f" Branching saved {counted(shared, 'epoch')} more."
    if not saved:
        return f"{said} No trial was ended early: nothing was saved."
    whole = epochs + saved
    part = f"{saved} of {counted(whole, 'epoch')} ({100 * saved / whole:.0f} %)"
    by = [
        f"{c.epochs_saved} by {'pruning' if c.state == State.PRUNED else 'divergence'}" for c in found if c.epochs_saved
    ]
    how = f", {' and '.join(by)}" if len(by) > 1 else f", {by[0].split(' ', 1)[1]}"
    time_saved = words.duration(sum(c.seconds_saved for c in found))
    return f"{said} Ending trials early saved {part}{how}: about {time_saved}, at each trial's own pace."


def cost_figure(trials: Sequence[Trial]) -> Figure:
    """Return the epochs that were trained and those that were not, by state."""
    found = costs(trials)
    names = [f"{c.state} ({c.n_trials})" for c in found]
    bars = (
        ("trained", [c.epochs for c in found], {"color": [f"@state-{c.state}" for c in found]}),
        (
            "saved",
            [c.epochs_saved for c in found],
            {"color": "@saved", "line": {"color": "@muted", "width": 1}},
        ),
    )
    total = sum(c.epochs + c.epochs_saved for c in found)
    rows = tuple(
        (
            c.state.value,
            str(c.n_trials),
            str(c.epochs),
            str(c.epochs_saved),
            words.duration(c.seconds),
            words.duration(c.seconds_saved),
        )
        for c in found
    )
    return Figure(
        key="cost",
        title="What it cost",
        finding=finding(found),
        data=tuple(
            {
                "type": "bar",
                "orientation": "h",
                "name": name,
                "x": values,
                "y": names,
                "marker": look,
                "meta": {"kind": "bar"},
                "hovertemplate": f"%{{y}}: %{{x}} epochs {name}<extra></extra>",
            }
            for name, values, look in bars
        ),
        layout={
            "barmode": "stack",
            "xaxis": {"title": {"text": "epochs"}, "range": [0, None]},
            "yaxis": {"autorange": "reversed", "automargin": True},
        },
        n_marks=2 * len(found) if total else 0,
        empty="" if total else "Nothing has been trained yet.",
        header=("state", "trials", "epochs trained", "epochs saved", "time in training", "time saved, about"),
        rows=rows,
        keys=(("state-complete", "trained"), ("hollow", "saved")) if total else (),
        note="Failed and running trials save nothing.",
    )


def _own(trial: Trial) -> int:
    """Return the epochs that were trained for a trial."""
    return len(trial.metrics) - n_shared([trial])


def _seconds(trials: Sequence[Trial]) -> float:
    return sum(row.seconds for t in trials for row in t.metrics)
