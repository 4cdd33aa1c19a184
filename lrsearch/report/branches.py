"""Trials that go on from another one's state: in a sentence, as a tree of text, and as a chart of the report."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lrsearch import schedules
from lrsearch.report import words
from lrsearch.report.figure import Figure, colour, families, hover, meta
from lrsearch.spec.study import StudySpec
from lrsearch.text import counted
from lrsearch.trial import Role, State, Trial

KEY = "branches"
NOTE = (
    "A line is a trial, from the first epoch that was trained for it to its last; an upright one leads to the state "
    "from which it goes on. So far both have the same learning rates, bit for bit, so that it ends as if it had been "
    "trained by itself."
)


def sentence(trial: Trial) -> str:
    """Say from where a trial goes on; empty where it began by itself."""
    if not is_branch(trial):
        return ""
    return f"goes on from trial {trial.parent} at epoch {trial.shared_epochs}: the learning rates are the same so far"


def short(trial: Trial) -> str:
    """Say the same in a cell of a table: the trial and the epoch."""
    return f"{trial.parent} at {trial.shared_epochs}" if is_branch(trial) else ""


def is_branch(trial: Trial) -> bool:
    """Whether a trial goes on from another one's state."""
    return trial.role == Role.SEARCH and trial.parent is not None and trial.shared_epochs > 0


def n_shared(trials: Sequence[Trial]) -> int:
    """Return the epochs that trials have of others, and that nobody trained for them."""
    return sum(trial.shared_epochs for trial in trials if is_branch(trial))


def finding(trials: Sequence[Trial]) -> str:
    """Say how many trials branch and what that has saved; empty where none does."""
    branches = [trial for trial in trials if is_branch(trial)]
    if not branches:
        return ""
    saved, every = n_shared(branches), sum(len(trial.metrics) for trial in trials)
    go = "goes" if len(branches) == 1 else "go"
    return (
        f"{len(branches)} of {counted(len(trials), 'trial')} {go} on from the state of another one: {saved} of "
        f"{counted(every, 'epoch')} ({100 * saved / every:.0f} %) were not trained again."
    )


def text_tree(trials: Sequence[Trial], spec: StudySpec) -> str:
    """Return the trunks with their branches, a line each; empty where there is no branch."""
    lines = []
    for trial, _, lead in _in_order(trials):
        at = f" at epoch {trial.shared_epochs}" if is_branch(trial) else ""
        lines.append(f"{lead}{trial.number}{at}: {_said(trial, spec)}")
    return "\n".join(lines)


def branches_figures(trials: Sequence[Trial], spec: StudySpec) -> tuple[Figure, ...]:
    """Return the chart of trunks and branches; none where no trial branches."""
    order = [(trial, depth) for trial, depth, _ in _in_order(trials)]
    if not order:
        return ()
    at = {trial.number: -i for i, (trial, _) in enumerate(order)}
    index = {family: i for i, family in enumerate(families(spec, trials))}
    figure = Figure(
        key=KEY,
        title="Trunks and branches",
        finding=finding(trials),
        data=tuple(_line(trial, at, index, spec) for trial, _ in order),
        layout={
            "xaxis": {"title": {"text": "epoch"}, "range": [0, 1.02 * max(t.config.epochs for t, _ in order)]},
            "yaxis": {
                "title": {"text": "trial"},
                "tickvals": list(at.values()),
                "ticktext": [str(number) for number in at],
                "range": [0.6 - len(at), 0.6],
                "zeroline": False,
            },
        },
        n_marks=len(order),
        header=("trial", "goes on from", "at epoch", "epochs of its own", "schedule", spec.metric.label),
        rows=tuple(_row(trial, spec) for trial, _ in order),
        note=NOTE,
        keys=tuple(
            (colour(i).removeprefix("@"), family.replace("_", " "))
            for family, i in index.items()
            if any(trial.config.schedule.family == family for trial, _ in order)
        ),
        views={"bars": len(order)},
    )
    return (figure,)


def _in_order(trials: Sequence[Trial]) -> Iterator[tuple[Trial, int, str]]:
    """Yield trunks, each followed by its branches, by number: trial, depth, and what leads to it in text."""
    searched = sorted((t for t in trials if t.role == Role.SEARCH), key=lambda t: t.number)
    children: dict[int, list[Trial]] = {}
    for trial in searched:
        if is_branch(trial) and trial.parent is not None:
            children.setdefault(trial.parent, []).append(trial)
    for trial in searched:
        if trial.number in children and not is_branch(trial):
            yield trial, 0, ""
            yield from _below(trial, children, 1, "")


def _below(
    parent: Trial, children: Mapping[int, Sequence[Trial]], depth: int, lead: str
) -> Iterator[tuple[Trial, int, str]]:
    mine = children.get(parent.number, ())
    for trial in mine:
        last = trial is mine[-1]
        yield trial, depth, f"{lead}{'└─ ' if last else '├─ '}"
        yield from _below(trial, children, depth + 1, f"{lead}{'   ' if last else '│  '}")


def _score(trial: Trial, spec: StudySpec) -> str:
    if trial.state == State.COMPLETE and trial.outcome is not None:
        return words.objective_value(trial.outcome.value, spec)
    return trial.state.value


def _said(trial: Trial, spec: StudySpec) -> str:
    peak = f"{trial.config.optimizer.name} {words.rate(trial.config.optimizer.peak_lr)} "
    first = "" if is_branch(trial) else peak
    return f"{first}{schedules.describe(trial.config.schedule)}, {_score(trial, spec)}"


def _row(trial: Trial, spec: StudySpec) -> tuple[str, ...]:
    parent, at = (str(trial.parent), str(trial.shared_epochs)) if is_branch(trial) else (words.NOTHING, words.NOTHING)
    own = str(len(trial.metrics) - (trial.shared_epochs if is_branch(trial) else 0))
    return str(trial.number), parent, at, own, schedules.describe(trial.config.schedule), _score(trial, spec)


def _line(trial: Trial, at: Mapping[int, int], index: Mapping[str, int], spec: StudySpec) -> dict[str, Any]:
    config, y = trial.config, at[trial.number]
    x, ys = [0, len(trial.metrics)], [y, y]
    if is_branch(trial) and trial.parent is not None:
        x, ys = [trial.shared_epochs, trial.shared_epochs, len(trial.metrics)], [at[trial.parent], y, y]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": x,
        "y": ys,
        "line": {"color": colour(index[config.schedule.family]), "width": 2.4},
        "marker": {"size": [5] * (len(x) - 1) + [8], "color": colour(index[config.schedule.family])},
        "name": f"trial {trial.number}",
        "hovertemplate": f"{hover(trial, spec)}<extra></extra>",
        "meta": meta("branch", trial.state, config.schedule.family, config.optimizer.name),
    }
