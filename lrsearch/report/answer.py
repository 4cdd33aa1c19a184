"""The end of a run: the winner, how sure, what was too high and too low, a program to paste, what to type next."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lrsearch import schedules
from lrsearch.analysis.answer import Findings, Score, find, value_of
from lrsearch.analysis.by_class import balanced
from lrsearch.analysis.confirmation import Confirmation
from lrsearch.analysis.diagnosis import OptimizerDiagnosis, sentences
from lrsearch.report import confirmation, study_words, words
from lrsearch.report.group_code import group_code
from lrsearch.report.model_code import has_auxiliary_heads
from lrsearch.report.next_steps import Step, next_steps, storage_words
from lrsearch.report.plain import nested, plain
from lrsearch.report.snippet import snippet
from lrsearch.report.status import compared_across, counts_words
from lrsearch.report.zones import zone_axis
from lrsearch.spec.deciding import BudgetSpec
from lrsearch.spec.study import StudySpec
from lrsearch.strategy.confirming import LEVEL
from lrsearch.text import counted
from lrsearch.trial import Reason, State, Trial

SCHEMA = "lrsearch/answer/1"
NAMED = 5
"""Trials close to the best that are named."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a study says, in words."""

    found: Findings
    next_steps: tuple[Step, ...]
    converged: str = ""
    """With the numbers that the search converged, as a clause; empty where it did not."""

    @property
    def spec(self) -> StudySpec:
        """The study."""
        return self.found.spec

    @property
    def winner(self) -> Trial | None:
        """The best trial; None where no trial was trained through."""
        return self.found.winner

    @property
    def diagnosis(self) -> tuple[OptimizerDiagnosis, ...]:
        """What the trials of each optimizer say about its learning rate."""
        return self.found.diagnosis

    @property
    def why_none(self) -> str:
        """Why there is no winner, in words; empty where there is one."""
        return "" if self.winner is not None else _why_none(self.found.trials)

    @property
    def snippet(self) -> str:
        """The winner as a PyTorch program; empty where there is none."""
        if self.winner is None:
            return ""
        config = self.winner.config
        model = self.spec.model
        own_loop = self.spec.loop is not None
        plain_loss = not own_loop and study_words.plain_loss(self.spec) and not has_auxiliary_heads(model)
        steps, groups = self.spec.steps_per_epoch(config.batch_size), group_code(self.spec, config)
        return snippet(config, steps, groups, plain_loss=plain_loss, own_loop=own_loop)

    @property
    def headline(self) -> str:
        """The answer in one sentence."""
        if self.winner is None:
            return f"No answer: {self.why_none}"
        counts = Counter(t.state for t in self.found.trials)
        finished = sum(n for state, n in counts.items() if state.counts)
        said = f"The best of {counted(finished, 'trial')} of {self.spec.name} ({counts_words(counts)})"
        return f"{said} is trial {self.winner.number}"

    @property
    def facts(self) -> dict[str, str]:
        """The winner's setting and its scores, each under its name; empty where there is no winner."""
        if self.winner is None:
            return {}
        facts, config = self.spec.facts, self.winner.config
        out = {
            "optimizer": words.optimizer(config.optimizer),
            "peak lr": words.rate(config.optimizer.peak_lr),
            "schedule": f"{schedules.describe(config.schedule)}; {counted(config.epochs, 'epoch')}",
            "batch size": str(config.batch_size),
        }
        if by_layer := study_words.levels(self.spec, config):
            out["layers"] = by_layer
        if self.found.validation:
            out["validation"] = _scores(self.found.validation, facts.n_validation, "images")
        if self.found.test:
            out["test"] = _scores(self.found.test, facts.n_test, "untouched images")
        if by_class := study_words.by_class(self.spec, self.found.by_class):
            out["by class"] = by_class
        if guess := study_words.guess(self.spec):
            out["guessing"] = guess
        return out

    @property
    def levels(self) -> list[tuple[str, ...]]:
        """The levels of the model's layers as rows under ``study_words.HEADER``; none where all learn alike."""
        if self.winner is None or not study_words.levels(self.spec, self.winner.config):
            return []
        return study_words.level_rows(self.spec, self.winner.config)

    @property
    def decay(self) -> str:
        """What weight decay acts upon."""
        return study_words.decay(self.spec)

    def how_sure(self) -> list[str]:
        """Return in sentences how far the winner can be told from the other complete trials."""
        near = self.found.near
        if self.winner is None or near is None:
            return []
        n, n_close, others = self.spec.facts.n_validation, len(self.found.close), self.found.n_others
        within = near.words()
        if not others:
            said = "It is the only complete trial: there is nothing to compare it with."
        elif near.is_paired:
            said = self._told_apart(n, n_close, others)
        elif n_close:
            lie, on = "lies" if n_close == 1 else "lie", f" on {n} validation images" if n else ""
            said = (
                f"{n_close} of {counted(others, 'other complete trial')} ({self._named()}) {lie} {within}: "
                f"one seed{on} does not separate them from the best."
            )
        else:
            what = "The one other complete trial does not lie" if others == 1 else f"None of {others} others lies"
            said = f"{what} {within}; yet it is one seed."
        found = compared_across(self.found.trials)
        across = [f"Results are compared across {'; and '.join(found)}."] if found else []
        if warned := study_words.warning(self.spec):
            across.append(f"{warned[0].upper()}{warned[1:]}.")
        if self.converged:
            across.append(f"The search {self.converged}.")
        if self.spec.loop is not None:
            flattered = "The best of many scores is flattered by chance: judge it on images of your own test set."
            return [said, *across, flattered]
        if self.winner.test_accuracy is None:
            return [said, *across, "It has not been judged on the test images."]
        return [said, *across, "The best of many scores is flattered by chance: trust the test score more."]

    def _named(self) -> str:
        """Name the trials that are close to the winner."""
        more = ["..."] if len(self.found.close) > NAMED else []
        return ", ".join([*(str(number) for number in self.found.close[:NAMED]), *more])

    def _told_apart(self, n: int, n_close: int, others: int) -> str:
        """Say which other complete trials cannot be told from the winner image by image, on ``n`` images."""
        level = f"{100 * LEVEL:.0f} %, paired on {n} validation images"
        if not n_close:
            what = "The one other complete trial is" if others == 1 else f"All {others} other complete trials are"
            return f"{what} told from it image by image ({level}); yet it is one seed."
        return (
            f"{n_close} of {counted(others, 'other complete trial')} ({self._named()}) cannot be told from it image by "
            f"image ({level}), and other seeds may order all of them otherwise."
        )

    @property
    def against_baseline(self) -> str:
        """The setting of ``--baseline`` beside the winner, in a sentence; empty where there is none."""
        baseline = self.found.baseline
        if baseline is None or baseline.outcome is None:
            return ""
        setting = f"{words.setting(baseline.config)} (trial {baseline.number})"
        if baseline.state != State.COMPLETE or self.winner is None:
            return f"{setting}: {baseline.outcome.message}."
        value = words.objective_value(value_of(baseline), self.spec)
        if baseline.number == self.winner.number:
            return f"{setting} reached {value}: nothing beat it."
        ahead = words.objective_value(value_of(self.winner), self.spec)
        close = baseline.number in self.found.close
        sure = ": too close to tell them apart, so not a difference to act on" if close else ""
        return f"{setting} reached {value}, the winner {ahead}{sure}."

    @property
    def confirmed(self) -> tuple[str, list[str], tuple[str, ...], list[tuple[str, ...]]] | None:
        """What was confirmed: a heading, sentences, the header and the rows of a table; None where nothing was."""
        found = self.found.confirmation
        if found is None:
            return None
        said = confirmation.sentences(found, self.spec)
        return confirmation.heading(found), said, confirmation.header(self.spec), confirmation.rows(found, self.spec)

    def render(self) -> RenderableType:
        """Return the answer for people."""
        parts: list[RenderableType] = [*_headline(self), ""]
        if self.against_baseline:
            parts += [_heading("Your setting"), _indented(self.against_baseline), ""]
        if self.winner is not None:
            parts += [_heading("How sure"), *(_indented(text) for text in self.how_sure()), ""]
        if self.found.confirmation is not None:
            parts += [confirmation.render(self.found.confirmation, self.spec), ""]
        if self.winner is not None and (table := study_words.level_table(self.spec, self.winner.config)) is not None:
            heading = Text.assemble(("Learning rates by level", "bold"), f"; weight decay acts on {self.decay}")
            parts += [heading, _indented(table), ""]
        parts.append(_heading("Too high, too low"))
        for one in self.diagnosis:
            counts = counts_words(Counter(one.counts))
            parts.append(_indented(Text.assemble((one.optimizer, "bold"), f": {counts}")))
            parts += [part for text in sentences(one) for part in _diagnosed(text)]
            parts += [_whole(Text("    ") + line) for line in zone_axis(one)]
        parts.append("")
        if self.winner is not None:
            # Not indented: it is there to be pasted.
            parts += [_heading("In PyTorch"), Text(self.snippet, overflow="fold")]
        parts.append(_heading("Next"))
        for step in self.next_steps:
            # A comment, and no line break of ours: each line is there to be pasted.
            parts.append(_whole(Text.assemble((f"  {step.command}", "cyan"), (f"  # {step.what}", "dim"))))
        return Group(*parts)

    def to_json(self) -> dict[str, Any]:
        """Return the answer as JSON."""
        counts = Counter(t.state for t in self.found.trials)
        return {
            "schema": SCHEMA,
            "study": self.spec.name,
            "objective": {"metric": self.spec.objective.metric, "direction": self.spec.metric.direction},
            "counts": {state.value: counts[state] for state in State},
            "n_validation": self.spec.facts.n_validation,
            "n_test": self.spec.facts.n_test,
            "winner": None if self.winner is None else self._winner_json(self.winner),
            "why_none": self.why_none or None,
            "how_sure": self.how_sure(),
            "against_baseline": self.against_baseline or None,
            "not_distinguishable": list(self.found.close),
            "confirmation": None
            if self.found.confirmation is None
            else confirmation.to_json(self.found.confirmation, self.spec),
            "diagnosis": [plain(asdict(d)) | {"sentences": sentences(d)} for d in self.diagnosis],
            "snippet": self.snippet or None,
            "next": [asdict(step) for step in self.next_steps],
        }

    def _winner_json(self, winner: Trial) -> dict[str, Any]:
        last, metric, out = winner.metrics[-1] if winner.metrics else None, self.spec.metric, nested(winner)
        out["val_accuracy"] = plain(last.val_accuracy if last else None)
        out["val_loss"] = plain(last.val_loss if last else None)
        if metric.column is None:
            out["val_score"] = plain(metric.of(last) if last else None)
        for part, scores in (("val", self.found.validation), ("test", self.found.test)):
            errors = {one.metric.name: one.error for one in scores}
            out[f"{part}_accuracy_error"] = plain(errors.get("accuracy"))
            if metric.column is None and metric.is_share:
                out[f"{part}_score_error"] = plain(errors.get(metric.name))
        if by_class := self.found.by_class:
            value, error = balanced(by_class)
            out |= {"test_balanced_accuracy": value, "test_balanced_accuracy_error": error}
            out["test_by_class"] = [{"class": one.label, "right": one.n_right, "images": one.n} for one in by_class]
        out["schedule"] = schedules.describe(winner.config.schedule)
        if levels := study_words.level_json(self.spec, winner.config):
            out["levels"] = levels
        return out


def build(
    trials: Sequence[Trial],
    spec: StudySpec,
    place: str,
    *,
    budget: BudgetSpec | None = None,
    run_command: str = "",
    tools: str = "",
    storage_option: str | None = None,
    confirmed: Confirmation | None = None,
    converged: str = "",
) -> Answer:
    """Return the answer of a study as it stands.

    Args:
        trials: all trials of its search.
        spec: the study.
        place: the database: a path, or the URL of a PostgreSQL server, its password masked.
        budget: the one that stands now; the spec's where it is left out.
        run_command: the command that runs this study again, without its budget; "the same command" where it is empty.
        tools: what stands before ``lrsearch`` where it is not on the path: ``.venv/bin/``.
        storage_option: ``--storage`` as a command needs it to find the database again, empty where it needs none; None:
            by the path.
        confirmed: what was confirmed with fresh seeds.
        converged: with the numbers that the search converged, as a clause; empty where it did not.
    """
    found = find(trials, spec, confirmed)
    steps = next_steps(
        trials,
        spec,
        found.winner,
        budget or spec.budget,
        run_command,
        tools,
        storage_words(place, storage_option),
        confirmed=found.confirmation is not None,
    )
    return Answer(found, steps, converged)


def _headline(answer: Answer) -> list[RenderableType]:
    if answer.winner is None:
        return [Text(answer.headline, style="bold")]
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, said in answer.facts.items():
        grid.add_row(name, Text(said, style="bold") if name in ("peak lr", "test") else said)
    return [Text(answer.headline, style="bold"), Padding(grid, (0, 0, 0, 2), expand=False)]


def _diagnosed(sentence: str) -> list[RenderableType]:
    """Return a sentence of the diagnosis, the options in it on a line of their own."""
    said, colon, options = sentence.partition(": --name ")
    if not colon:
        return [_indented(sentence, 4)]
    return [_indented(f"{said}:", 4), _whole(Text(f"      --name {options}", "cyan"))]


def _whole(line: Text) -> Text:
    """Return a line that is there to be pasted, and is not broken."""
    return Text(line.plain, line.style, spans=line.spans, no_wrap=True, overflow="ignore")


def _scores(found: Sequence[Score], n: int, images: str) -> str:
    """Say scores on so many images: ``accuracy 0.970 ± 0.012, loss 0.11 on 200 images``."""
    said = []
    for one in found:
        error = "" if one.error is None else f" ± {words.number(one.error, 2)}"
        said.append(f"{one.metric.label} {words.metric_value(one.metric, one.value, n)}{error}")
    return f"{', '.join(said)} on {n} {images}" if n else ", ".join(said)


def _why_none(trials: Sequence[Trial]) -> str:
    ended = [t for t in trials if t.state != State.RUNNING]
    if not ended:
        return "no trial has ended yet."
    said = (
        f"none of {counted(len(ended), 'trial')} was trained through ({counts_words(Counter(t.state for t in ended))})"
    )
    failures = [t.outcome.message for t in ended if t.state == State.FAILED and t.outcome is not None]
    if failures:
        return f"{said}; the last failure: {failures[-1]}."
    diverged = [t.outcome.reason for t in ended if t.state == State.DIVERGED and t.outcome is not None]
    if len(diverged) == len(ended) and all(reason.blames_the_rate for reason in diverged):
        return f"{said}: every learning rate was too high."
    if n_overflowing := diverged.count(Reason.OVERFLOWING):
        return f"{said}; {n_overflowing} overflowed in fp16, which says nothing of the learning rate."
    return f"{said}."


def _heading(text: str) -> Text:
    return Text(text, style="bold")


def _indented(content: RenderableType, by: int = 2) -> Padding:
    what = Text(content) if isinstance(content, str) else content
    return Padding(what, (0, 0, 0, by), expand=False)
