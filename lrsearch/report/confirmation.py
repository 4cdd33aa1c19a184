"""A confirmation in words: the settings on fresh seeds in a table, and the verdict."""

from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lrsearch.analysis.confirmation import Confirmation, ConfirmedSetting, ConfirmVerdict
from lrsearch.report import words
from lrsearch.report.plain import plain
from lrsearch.spec.study import StudySpec
from lrsearch.strategy.confirming import LEVEL, Part
from lrsearch.text import counted

SCHEMA = "lrsearch/confirmation/1"
WHOSE = {Part.FOUND: "", Part.BASELINE: "your baseline", Part.AGAINST: "yours"}


def called(one: ConfirmedSetting) -> str:
    """Return what a setting is called: by its trial, or whose it is."""
    return WHOSE[one.part] if one.trial is None else f"trial {one.trial}"


def verdict(found: Confirmation, spec: StudySpec) -> str:
    """Return in a sentence what the best setting is beside the one that it is compared with; empty without one."""
    if found.difference is None or found.candidate is None or found.reference is None or found.interval is None:
        return ""
    one, other = (called(found.settings[i]) for i in (found.candidate, found.reference))
    metric, share = spec.metric, spec.metric.is_share
    points = 100 if share else 1
    unit = " points" if share else f" of {metric.label}"
    low, high = found.interval
    pairs = counted(found.difference.n_seeds, "seed")
    if found.difference.n_images:
        pairs += f" and {found.difference.n_images} images"
    by = f"{points * found.difference.value:+.2f}{unit}, {points * low:+.2f} to {points * high:+.2f} at "
    by += f"{100 * found.level:.0f} %, paired by {pairs}"
    is_what = {
        ConfirmVerdict.BETTER: f"{one} is better than {other}",
        ConfirmVerdict.WORSE: f"{one} is worse than {other}",
        ConfirmVerdict.NOT_DISTINGUISHABLE: f"{one} and {other} are not distinguishable",
        None: "",
    }[found.verdict]
    return f"{is_what[:1].upper()}{is_what[1:]}: {by}."


def sentences(found: Confirmation, spec: StudySpec) -> list[str]:
    """Return the verdict, what the search promised too much, and the winner's test accuracy, a sentence each."""
    out = [said for said in (verdict(found, spec), _gap(found, spec)) if said]
    if not found.is_decided:
        out.append("It is not decided yet: the same command goes on.")
    if found.winner is not None:
        name = called(found.settings[found.winner])
        if found.test_accuracy is not None:
            test = words.accuracy(found.test_accuracy, spec.facts.n_test)
            others = ", ".join(f"trial {number}" for number in found.judged_before)
            again = f", which were read for {others} before" if others else ""
            out.append(f"The winner is {name}, with {test} on {spec.facts.n_test} test images{again}.")
        else:
            out.append(f"The winner is {name}.")
    return out


def render(found: Confirmation, spec: StudySpec) -> RenderableType:
    """Return a confirmation for people."""
    head = Text(heading(found), style="bold")
    said = [Padding(Text(text), (0, 0, 0, 2)) for text in sentences(found, spec)]
    return Group(head, Padding(table(found, spec), (0, 0, 0, 2), expand=False), *said)


def heading(found: Confirmation) -> str:
    """Say what was done, and what it cost."""
    n = counted(found.n_trainings, "training")
    return f"Confirmed with fresh seeds: {n}, {found.seconds:.0f} s of training"


def table(found: Confirmation, spec: StudySpec) -> Table:
    """Return the settings and what they came to."""
    out = Table(box=None, pad_edge=False, header_style="bold")
    for name in header(spec):
        out.add_column(name, overflow="fold")
    for row in rows(found, spec):
        out.add_row(*row)
    return out


def header(spec: StudySpec) -> tuple[str, ...]:
    """Return the names of the columns of ``rows``."""
    return ("", "setting", "seeds", f"{spec.metric.label}, {100 * LEVEL:.0f} %", "in the search", "remarks")


def rows(found: Confirmation, spec: StudySpec) -> list[tuple[str, ...]]:
    """Return a row a setting."""
    out: list[tuple[str, ...]] = []
    for one in found.settings:
        remarks = [WHOSE[one.part]] if one.trial is not None and WHOSE[one.part] else []
        if one.n_diverged:
            remarks.append(f"{one.n_diverged} diverged")
        if not one.in_race:
            remarks.append("behind the best")
        mean, low, high = (words.objective_value(value, spec) for value in (one.mean, one.low, one.high))
        out.append(
            (
                called(one),
                words.setting(one.config),
                str(one.n_seeds),
                f"{mean} ({low} to {high})" if one.n_seeds else words.NOTHING,
                words.objective_value(one.search_score, spec),
                ", ".join(remarks),
            )
        )
    return out


def to_json(found: Confirmation, spec: StudySpec) -> dict[str, Any]:
    """Return a confirmation as JSON."""
    return {
        "schema": SCHEMA,
        "study": spec.name,
        "metric": spec.metric.name,
        "verdict": None if found.verdict is None else found.verdict.value,
        "is_decided": found.is_decided,
        "difference": None if found.difference is None else _difference(found),
        "settings": [_setting(one) for one in found.settings],
        "winner": None if found.winner is None else found.settings[found.winner].trial,
        "winner_setting": found.winner,
        "test_accuracy": plain(found.test_accuracy),
        "judged_before": list(found.judged_before),
        "n_trainings": found.n_trainings,
        "seconds": plain(found.seconds),
        "sentences": sentences(found, spec),
    }


def _difference(found: Confirmation) -> dict[str, Any]:
    assert found.difference is not None
    assert found.interval is not None
    low, high = found.interval
    return {
        "of": found.candidate,
        "from": found.reference,
        "value": plain(found.difference.value),
        "low": plain(low),
        "high": plain(high),
        "level": found.level,
        "n_seeds": found.difference.n_seeds,
        "n_images": found.difference.n_images,
    }


def _setting(one: ConfirmedSetting) -> dict[str, Any]:
    return {
        "trial": one.trial,
        "part": one.part.value,
        "setting": words.setting(one.config),
        "n_seeds": one.n_seeds,
        "n_diverged": one.n_diverged,
        "mean": plain(one.mean),
        "interval": [plain(one.low), plain(one.high)],
        "search_score": plain(one.search_score),
        "trials": list(one.trials),
        "in_race": one.in_race,
    }


def _gap(found: Confirmation, spec: StudySpec) -> str:
    """Say how much better the search saw its winner with one seed than fresh seeds do."""
    first = next((one for one in found.settings if one.part == Part.FOUND), None)
    if first is None or first.search_score is None or not first.n_seeds:
        return ""
    gap = first.search_score - first.mean if spec.metric.maximize else first.mean - first.search_score
    much = f"{abs(100 * gap):.2f} points" if spec.metric.is_share else f"{abs(gap):.3g} of {spec.metric.label}"
    if gap <= 0:
        return f"The search saw trial {first.trial}, its best, {much} worse than fresh seeds do."
    return (
        f"The search saw trial {first.trial}, its best, {much} better than fresh seeds do: the best of many is "
        f"flattered by chance."
    )
