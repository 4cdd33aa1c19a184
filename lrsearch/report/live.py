"""The live view of a run: what is being trained, the best so far, how long it will take."""

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lrsearch.analysis.answer import shown_metrics
from lrsearch.events import Event
from lrsearch.report import study_words, words
from lrsearch.report.chart import sparkline
from lrsearch.report.lines import MARKS, ending
from lrsearch.report.live_state import RECENT, LiveState, Running, after, begin, eta_seconds, progress
from lrsearch.report.status import counts_words, trainings_words
from lrsearch.report.tables import STYLES
from lrsearch.spec.deciding import BudgetSpec
from lrsearch.spec.study import StudySpec
from lrsearch.text import counted
from lrsearch.trial import Trial

REFRESH_PER_SECOND = 6
MAX_RUNNING = 6
"""Trials that are shown in full while they are trained side by side: the view must fit on a terminal."""


class LiveView:
    """Shows a search while it runs: ``with LiveView(...) as view: for event in events: view.on(event)``.

    Drawn by a thread of rich a few times a second, so that an event costs no more than its place in the state. The
    view goes when the search ends, and one line stays that says how it ended.
    """

    def __init__(
        self,
        console: Console,
        spec: StudySpec,
        budget: BudgetSpec,
        trials: Sequence[Trial],
        clock: Callable[[], float] = time.monotonic,
        swept_seconds: float = 0.0,
    ) -> None:
        self._console, self._clock = console, clock
        self._state = begin(spec, budget, trials, clock(), swept_seconds)
        self._live = Live(
            console=console,
            get_renderable=lambda: render(self._state, self._clock()),
            refresh_per_second=REFRESH_PER_SECOND,
            transient=True,
            # What is written there goes where it was sent: on a Ray cluster to nobody.
            redirect_stdout=False,
        )

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, traceback)
        if kind is None:
            self._console.print(summary(self._state, self._clock()), soft_wrap=True)

    def on(self, event: Event) -> None:
        """Take note of an event."""
        self._state = after(self._state, event, self._clock())


def summary(state: LiveState, now: float) -> Text:
    """Return the line that stays when the view has gone."""
    reason = f": {state.ended.message}" if state.ended else ""
    return Text(f"{counts_words(state.counts)} in {words.duration(now - state.begun)}{reason}")


def render(state: LiveState, now: float) -> RenderableType:
    """Return the view at a time; its height stays the same as long as one trial is trained at a time."""
    body = Table.grid(padding=(0, 1))
    body.add_column(no_wrap=True, style="bold", width=7)
    body.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    shown = state.running if len(state.running) <= MAX_RUNNING else state.running[: MAX_RUNNING - 1]
    for running in shown:
        for label, text in zip(("running", ""), _running(running, state.spec), strict=True):
            body.add_row(label, text)
    if len(shown) < len(state.running):
        body.add_row("", Text(f"and {len(state.running) - len(shown)} more", style="dim"))
    if not state.running:
        body.add_row("running", Text(state.waiting or "asking for the next trial", style="dim"))
        body.add_row("", "")
    body.add_row("best", _best(state))
    recent = [_recent(trial, state.spec) for trial in state.recent]
    for i in range(RECENT):
        body.add_row("" if i else "ended", recent[i] if i < len(recent) else "")
    return Group(_head(state, now), _bar(state), body)


def _head(state: LiveState, now: float) -> Table:
    grid = Table.grid(expand=True)
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    grid.add_column(no_wrap=True, justify="right")
    spec = state.spec
    about = f" {study_words.trained(spec)}, {counted(spec.epochs, 'epoch')} a trial"
    eta = eta_seconds(state, now)
    # Whole seconds: it is a guess.
    left = "" if eta is None else ", about " + (words.duration(eta) if eta >= 59.5 else f"{eta:.0f} s") + " left"
    grid.add_row(Text.assemble((spec.name, "bold"), about), f"{words.duration(now - state.begun)}{left}")
    return grid


def _bar(state: LiveState) -> Table:
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(ratio=1, min_width=8)
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    budget, done = state.budget, f"{state.finished}"
    if budget.trials is not None:
        done += f"/{budget.trials}"
    if budget.hours is not None:
        done += f", {words.duration(state.trained_seconds)} of {words.duration(3600 * budget.hours)}"
    if budget.trainings is not None:
        done += f", {trainings_words(budget, state.trained_epochs, state.spec.epochs)}"
    grid.add_row(ProgressBar(total=1.0, completed=progress(state)), done, counts_words(state.counts))
    return grid


def _running(running: Running, spec: StudySpec) -> tuple[Text, Text]:
    trial, rows = running.trial, running.trial.metrics
    notes = f" ({trial.origin})" if trial.origin != "sampler" else ""
    notes += " (resumed)" if running.resumed else ""
    notes += f": {running.why}" if running.why else ""
    setting = Text.assemble(f"trial {trial.number} ", (words.setting(trial.config), "cyan"), notes)
    if not rows:
        return setting, Text(f"epoch 1/{trial.config.epochs} under way", style="dim")
    last = rows[-1]
    share = next(metric for metric in shown_metrics(spec) if metric.is_share)
    score = words.accuracy(share.of(last), spec.facts.n_validation)
    name = "acc" if share.name == "accuracy" else share.label
    curve = sparkline([row.train_loss for row in rows], 20)
    parts = f"epoch {last.epoch}/{trial.config.epochs}  loss ", (curve, "cyan"), f" {words.number(last.train_loss)}"
    return setting, Text.assemble(*parts, f"  val {name} {score}, loss {words.number(last.val_loss)}")


def _best(state: LiveState) -> Text:
    trial = state.best
    if trial is None or trial.outcome is None:
        return Text("no complete trial yet", style="dim")
    value = words.objective_value(trial.outcome.value, state.spec)
    return Text.assemble((value, "bold green"), f"  trial {trial.number} ", words.setting(trial.config))


def _recent(trial: Trial, spec: StudySpec) -> Text:
    assert trial.outcome is not None
    said = f"{MARKS[trial.state]} {trial.number} {ending(trial.outcome, spec)}"
    optimizer = trial.config.optimizer
    brief = f"  {optimizer.name} {words.rate(optimizer.peak_lr)} {trial.config.schedule.family}"
    return Text.assemble((said, STYLES[trial.state]), (brief, "dim"))
