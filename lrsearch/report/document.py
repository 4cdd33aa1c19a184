"""The report for a pull request (Markdown) and for a script (JSON)."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from html import escape
from typing import Any

from lrsearch.analysis.answer import shown_metrics
from lrsearch.analysis.diagnosis import sentences
from lrsearch.analysis.material import ImportanceTable, Material
from lrsearch.analysis.range_test import findings
from lrsearch.analysis.trial_diagnosis import diagnose_trial
from lrsearch.report import branches, range_words, study_words, words
from lrsearch.report.contents import Contents, contents
from lrsearch.report.cost import costs, finding
from lrsearch.report.plain import nested, plain
from lrsearch.report.status import counts_words
from lrsearch.report.tables import by_layer_fields
from lrsearch.report.zones import plain_axis
from lrsearch.spec.study import StudySpec
from lrsearch.text import counted
from lrsearch.trial import Trial
from lrsearch.version import __version__

SCHEMA = "lrsearch/report/1"
SHOWN = 10
"""Of the complete trials, the best, in Markdown."""


def markdown(material: Material) -> str:
    """Return the report in short: the answer, the best trials, the ranges, how it was run."""
    said = contents(material)
    answer, spec = said.answer, material.spec
    parts = [
        f"<!-- lrsearch report {__version__} -->",
        f"## {_text(spec.name)}: learning-rate search",
        f"**{_text(answer.headline)}.**" if answer.winner else f"**{_text(answer.headline)}**",
    ]
    if answer.facts:
        parts.append(_table(("", ""), answer.facts.items()))
    if answer.how_sure():
        parts += ["### How sure", _list(answer.how_sure())]
    if answer.against_baseline:
        parts += ["### Against your setting", _text(answer.against_baseline)]
    if answer.levels:
        parts += ["### Learning rates by level", _table(study_words.HEADER, answer.levels)]
        parts.append(_text(f"Weight decay acts on {answer.decay}."))
    parts.append("### Too high, too low")
    for found in answer.diagnosis:
        lines = [f"**{found.optimizer}** ({counts_words(Counter(found.counts))})", "", _list(sentences(found))]
        parts.append("\n".join(lines))
        if axis := plain_axis(found):
            parts.append(_code(axis, "text"))
    if said.order:
        parts += [
            f"### The best {min(SHOWN, len(said.order))} of {counted(len(said.order), 'complete trial')}",
            _best(said),
        ]
    importance = next(figure for figure in said.others if figure.key == "importance")
    parts += ["### Which parameters matter", _text(importance.finding or importance.empty)]
    parts += ["### What it cost", _text(finding(costs(material.trials)))]
    if said_of_branches := branches.finding(material.trials):
        tree = branches.text_tree(material.trials, spec)
        parts += ["### Trunks and branches", _text(said_of_branches), _code(tree, "text")]
    if swept := findings(material.range_tests):
        told = [f"{one.name}: {range_words.sentence(one)}" for one in swept]
        parts += ["### Range test", _list([*told, f"{range_words.cost(swept)}. {range_words.CAUTION}"])]
    parts += ["### How it was run", _table(("", ""), said.run.items())]
    parts.append(_folded("The study file, all defaults filled in", said.study_file, "toml"))
    if answer.snippet:
        parts.append(_folded("The winner as a PyTorch program", answer.snippet, "python"))
    parts += ["### Next", _code("\n".join(f"{step.command}  # {step.what}" for step in answer.next_steps), "sh")]
    return "\n\n".join(parts) + "\n"


def to_json(material: Material) -> dict[str, Any]:
    """Return the whole report as JSON."""
    said = contents(material)
    figures = (*said.of_optimizers, *said.others)
    return {
        "schema": SCHEMA,
        "study": material.spec.name,
        "read_at": plain(material.read_at),
        "version": __version__,
        "answer": said.answer.to_json(),
        "findings": {figure.key: figure.finding or figure.empty for figure in figures},
        "importance": {"ended": _importance(material.of_ended), "complete": _importance(material.of_complete)},
        "cost": [plain(asdict(cost)) for cost in costs(material.trials)],
        "run": said.run,
        "budget": material.budget.model_dump(mode="json"),
        "spec": material.spec.to_plain(),
        "trials": [_trial(trial, material.spec) for trial in material.trials],
        "range_tests": [range_words.finding_json(one) for one in findings(material.range_tests)],
    }


def _trial(trial: Trial, spec: StudySpec) -> dict[str, Any]:
    return nested(trial) | {"diagnosis": plain(asdict(diagnose_trial(trial, spec)))}


def _importance(table: ImportanceTable | None) -> dict[str, Any] | None:
    if table is None:
        return None
    rows = [
        {
            "parameter": row.parameter,
            "share": plain(row.share),
            "by_chance": plain(row.by_chance),
            "n_trials": row.n_trials,
        }
        for row in table.parameters
    ]
    return {"n_trials": table.n_trials, "n_top": table.n_top, "parameters": rows}


def _best(said: Contents) -> str:
    spec, scores = said.material.spec, shown_metrics(said.material.spec)
    by_layer = by_layer_fields(said.order)
    rows = []
    for trial in said.order[:SHOWN]:
        last, config = trial.metrics[-1] if trial.metrics else None, trial.config
        rows.append(
            (
                str(trial.number),
                *(words.metric_value(m, m.of(last) if last else None, spec.facts.n_validation) for m in scores),
                words.accuracy(trial.test_accuracy, spec.facts.n_test),
                config.optimizer.name,
                words.rate(config.optimizer.peak_lr),
                config.schedule.family.replace("_", " "),
                str(config.batch_size),
                *(words.rate(getattr(config, field)) for field in by_layer),
            )
        )
    header = ("trial", *(m.label for m in scores), "test", "optimizer", "peak lr", "schedule", "batch")
    header += tuple(field.replace("_", " ") for field in by_layer)
    return _table(header, rows)


def _text(text: str) -> str:
    r"""Return text as Markdown that shows it as it is, on one line.

    >>> _text("a|b <script> *c*")
    'a\\|b &lt;script&gt; \\*c\\*'
    """
    # An @ would call somebody.
    flat = escape(" ".join(text.split()), quote=False).replace("@", "&#64;")
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", flat)


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"* {_text(line)}" for line in lines)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *([_text(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _code(text: str, language: str) -> str:
    # A fence that is longer than any within.
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _folded(title: str, text: str, language: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{_code(text, language)}\n\n</details>"
