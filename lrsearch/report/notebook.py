"""What a notebook shows: a search while it runs, and its answer, as HTML without scripts or style sheets.

Colours are those of the notebook, dark or light, and nothing is told by colour alone: what a notebook keeps is shown by
programs that leave styles out.
"""

from collections import Counter
from collections.abc import Iterator
from functools import cache

from jinja2 import Environment, PackageLoader

from lrsearch.analysis.answer import shown_metrics
from lrsearch.analysis.diagnosis import sentences
from lrsearch.report import study_words, words
from lrsearch.report.answer import Answer
from lrsearch.report.chart import sparkline
from lrsearch.report.lines import MARKS, ending
from lrsearch.report.live_state import LiveState, Running, eta_seconds, progress
from lrsearch.report.status import counts_words, trainings_words
from lrsearch.report.zones import plain_axis
from lrsearch.spec.study import StudySpec
from lrsearch.text import counted
from lrsearch.trial import Trial

SHOWN_RUNNING = 6
"""Trials that are shown while they are trained side by side; of more the number."""
CURVE = 20
"""Epochs of losses that a row of blocks shows [characters]."""

ViewRow = tuple[str, str, str, str]
"""What it is, its mark, what is said of it, and more of that."""


def live(state: LiveState, now: float, said: str = "") -> str:
    """Return a search while it runs; ``said`` stands below it."""
    spec, eta = state.spec, eta_seconds(state, now)
    left = "" if eta is None or state.ended else f", about {_whole(eta)} left"
    return (
        _templates()
        .get_template("notebook_live.html")
        .render(
            name=spec.name,
            about=_about(spec),
            times=f"{words.duration(now - state.begun)}{left}",
            percent=round(100 * progress(state)),
            done=_done(state),
            rows=list(_rows(state)),
            said=said or (state.ended.message if state.ended else ""),
        )
    )


def line(state: LiveState, now: float, said: str = "") -> str:
    """Return the same in one line, for what shows no HTML."""
    more = f"; {said}" if said else ""
    best = "" if state.best is None else f"; best {_best(state.best, state.spec)}"
    return f"{state.spec.name}, {words.duration(now - state.begun)}: {_done(state)}{best}{more}"


def answer(found: Answer) -> str:
    """Return what ``lrsearch best`` says."""
    diagnosis = [
        (one.optimizer, counts_words(Counter(one.counts)), sentences(one), plain_axis(one)) for one in found.diagnosis
    ]
    return _templates().get_template("notebook_answer.html").render(answer=found, diagnosis=diagnosis)


def _about(spec: StudySpec) -> str:
    return f"{study_words.trained(spec)}, {counted(spec.epochs, 'epoch')} a trial"


def _whole(seconds: float) -> str:
    # Whole seconds: it is a guess.
    return words.duration(seconds) if seconds >= 59.5 else f"{seconds:.0f} s"


def _done(state: LiveState) -> str:
    budget, done = state.budget, f"{state.finished}"
    if budget.trials is not None:
        done += f" of {counted(budget.trials, 'trial')}"
    if budget.hours is not None:
        done += f", {words.duration(state.trained_seconds)} of {words.duration(3600 * budget.hours)}"
    if budget.trainings is not None:
        done += f", {trainings_words(budget, state.trained_epochs, state.spec.epochs)}"
    counts = counts_words(state.counts)
    return f"{done}: {counts}" if counts else done


def _rows(state: LiveState) -> Iterator[ViewRow]:
    spec = state.spec
    for running in state.running[:SHOWN_RUNNING]:
        yield "running", "", *_running(running, spec)
    if len(state.running) > SHOWN_RUNNING:
        yield "", "", f"and {len(state.running) - SHOWN_RUNNING} more", ""
    if not state.running and not state.ended:
        yield "running", "", state.waiting or "asking for the next trial", ""
    yield "best", "", "no complete trial yet" if state.best is None else _best(state.best, spec), ""
    for number, trial in enumerate(state.recent):
        assert trial.outcome is not None
        optimizer = trial.config.optimizer
        brief = f"{optimizer.name} {words.rate(optimizer.peak_lr)} {trial.config.schedule.family}"
        said = f"{trial.number} {ending(trial.outcome, spec)}; {brief}"
        yield "" if number else "ended", MARKS[trial.state], said, ""


def _running(running: Running, spec: StudySpec) -> tuple[str, str]:
    trial, rows = running.trial, running.trial.metrics
    notes = f" ({trial.origin})" if trial.origin != "sampler" else ""
    notes += " (resumed)" if running.resumed else ""
    setting = f"trial {trial.number} {words.setting(trial.config)}{notes}"
    if not rows:
        return setting, f"epoch 1/{trial.config.epochs} under way"
    last, n = rows[-1], spec.facts.n_validation
    scores = [f"{metric.label} {words.metric_value(metric, metric.of(last), n)}" for metric in shown_metrics(spec)]
    curve = sparkline([row.train_loss for row in rows], CURVE)
    return setting, (
        f"epoch {last.epoch}/{trial.config.epochs}, loss {curve} {words.number(last.train_loss)}, "
        f"validation {', '.join(scores)}"
    )


def _best(trial: Trial, spec: StudySpec) -> str:
    value = None if trial.outcome is None else trial.outcome.value
    return f"{words.objective_value(value, spec)}, trial {trial.number} {words.setting(trial.config)}"


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("lrsearch.report", "page"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
