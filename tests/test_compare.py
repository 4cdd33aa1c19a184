"""`lrsearch compare`: what tells two studies or two trials apart, and what nobody knows."""

import html
import json
import re
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from browser import chromium, looking, needs_chromium
from command_line import InProcess, one_line
from conftest import FakeEngine, learning, make_spec, score_by_hand
from PIL import Image
from rich.console import Console
from scipy.stats import binomtest
from trials_by_hand import of_loss, spec, trial

from lrsearch import run
from lrsearch.analysis.compare import ScoreOf, Unknown, compare, flat, interval, interval_of_difference, side
from lrsearch.report.compare_figure import comparison_picture, panels
from lrsearch.report.compare_page import compare_page
from lrsearch.report.compare_table import NOT_KNOWN, render, to_json
from lrsearch.store import filing, places
from lrsearch.trial import ScheduleConfig, State, Trial

pytest_plugins = ["command_line"]

COSINE = ScheduleConfig("cosine", 0.1, 0.01)
STUDY = spec()


def of_trials(first: Trial, second: Trial) -> Any:
    one, other = (side(f"by-hand#{one.number}", STUDY, (), one) for one in (first, second))
    return compare(one, other)


# Numbers


@pytest.mark.parametrize("n", [1, 12, 200, 10_000])
def test_an_interval_is_wilson_s(n: int) -> None:
    for right in np.unique(np.linspace(0, n, 9).astype(int)):
        found = interval(right / n, n)
        oracle = binomtest(int(right), n).proportion_ci(0.95, "wilson")
        assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high), abs=1e-6)


def test_the_interval_of_a_difference_is_that_of_the_published_example() -> None:
    """Newcombe 1998, table II, example (a): 56 of 70 against 48 of 80."""
    one, other = (ScoreOf(right / n, interval(right / n, n)) for right, n in ((48, 80), (56, 70)))
    found = interval_of_difference(one, other)
    assert found is not None
    assert (round(found.low, 4), round(found.high, 4)) == (0.0524, 0.3339)


def test_a_setting_is_flat_and_without_what_does_not_apply() -> None:
    found = flat(trial(0, schedule=COSINE).config)
    assert (found["optimizer"], found["peak_lr"], found["schedule"], found["warmup_fraction"]) == (
        "sgd",
        0.1,
        "cosine",
        0.1,
    )
    assert not {"beta1", "drops", "stem_ratio", "name", "family"} & set(found)


def test_what_differs_between_settings_is_found_and_nothing_else() -> None:
    found = of_trials(trial(0, lr=0.1), trial(1, lr=0.2, schedule=COSINE))
    assert [row[0] for row in found.settings] == ["peak_lr", "schedule", "warmup_fraction", "seed", "final_fraction"]
    assert ("schedule", "constant", "cosine") in found.settings
    assert [row for row in found.settings if row[0] == "final_fraction"] == [("final_fraction", None, 0.01)]
    alike = trial(0)
    assert of_trials(alike, replace(alike, number=1)).settings == ()


@pytest.mark.parametrize(
    ("first", "second", "better"), [(0.80, 0.97, "second"), (0.97, 0.80, "first"), (0.95, 0.96, None), (0.9, 0.9, None)]
)
def test_the_better_one_is_named_where_images_can_tell(first: float, second: float, better: str | None) -> None:
    found = of_trials(trial(0, accuracy=first), trial(1, accuracy=second))
    accuracy, loss = found.scores
    assert (accuracy.metric.name, accuracy.images, accuracy.better) == ("accuracy", "validation", better)
    assert accuracy.difference == pytest.approx(second - first)
    assert (loss.metric.name, loss.interval, loss.better) == ("loss", None, None)


def test_a_lower_score_is_better_of_a_metric_to_minimize() -> None:
    found = of_trials(trial(0), trial(1))
    pair = replace(found.scores[0], metric=found.scores[1].metric)
    low = replace(pair, difference=-0.2, interval=interval(0.5, 10))
    assert replace(low, interval=type(pair.interval)(-0.3, -0.1)).better == "second"  # type: ignore[misc]


def test_test_scores_stand_beside_those_of_validation_where_both_have_them() -> None:
    judged = [replace(trial(i, accuracy=a), test_accuracy=a - 0.01, test_loss=0.4) for i, a in ((0, 0.9), (1, 0.95))]
    assert [(p.images, p.metric.name) for p in of_trials(*judged).scores] == [
        ("validation", "accuracy"),
        ("validation", "loss"),
        ("test", "accuracy"),
        ("test", "loss"),
    ]
    assert {p.images for p in of_trials(judged[0], trial(2)).scores} == {"validation"}


def test_what_is_not_known_follows_from_what_is_compared() -> None:
    one, other = trial(0), trial(1, State.PRUNED, [0.3, 0.5])
    assert of_trials(one, trial(1)).unknown == (Unknown.PAIRING, Unknown.SEED)
    assert Unknown.UNFINISHED in of_trials(one, other).unknown
    elsewhere = spec(name="other", dataset={"split_seed": 7})
    found = compare(side("a", STUDY, (one, other)), side("b", elsewhere, (trial(0),)))
    assert found.unknown == (Unknown.OTHER_IMAGES, Unknown.SEED, Unknown.CHOSEN)
    assert not found.same_images
    by_loss = spec(name="third", objective={"metric": "loss"})
    assert Unknown.OTHER_METRIC in compare(side("a", STUDY, (one,)), side("c", by_loss, (of_loss(one, 0.3),))).unknown
    assert set(NOT_KNOWN) == set(Unknown)


def test_a_study_stands_for_its_best_trial_and_its_cost_is_that_of_all() -> None:
    trials = (trial(0, accuracy=0.8), trial(1, accuracy=0.95), trial(2, State.DIVERGED, 0.1, lr=3.0))
    found = compare(side("a", STUDY, trials), side("a#0", STUDY, (), trials[0]))
    assert found.first.trial is trials[1]
    costs = found.costs
    assert costs[0].states == {State.COMPLETE: 2, State.DIVERGED: 1}
    assert (costs[0].epochs, costs[1].epochs) == (20, 10)
    assert costs[0].updates == 2 * costs[1].updates
    assert costs[0].seconds == pytest.approx(2.0)


def test_keys_of_two_studies_that_differ_are_listed() -> None:
    other = spec(name="other", epochs=5, training={"drop_last": True})
    found = compare(side("a", STUDY, (trial(0),)), side("b", other, (trial(0),)))
    assert {key for key, _, _ in found.studies} == {"epochs", "training.drop_last"}


def text_of(found: Any, width: int = 100) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    with console.capture() as captured:
        console.print(render(found, width))
    console.file.close()
    return captured.get()


def test_a_person_reads_settings_scores_curves_cost_and_what_is_not_known() -> None:
    found = of_trials(trial(0, accuracy=[0.5, 0.7, 0.8]), trial(1, accuracy=[0.6, 0.9, 0.97], lr=0.2))
    said = text_of(found)
    for words in (
        "by-hand#0",
        "Settings in which the trials differ",
        "peak lr",
        "By the validation accuracy by-hand#1 is better.",
        "time in training",
        "Validation accuracy: line: by-hand#0, o: by-hand#1",
        "What is not known",
        "how far another seed would move it is not known",
    ):
        assert words in said, words
    assert max(len(line) for line in said.splitlines()) <= 100
    assert max(len(line) for line in text_of(found, 60).splitlines()) <= 60


def test_a_study_without_a_complete_trial_is_compared_by_what_there_is() -> None:
    found = compare(side("a", STUDY, ()), side("b", spec(name="b"), (trial(0),)))
    assert found.scores == ()
    said = text_of(found)
    assert "0 trials, none complete" in said
    assert to_json(found)["sides"][0]["trial"] is None
    assert panels(found) == []
    assert comparison_picture(found).figure["data"][-1]["type"] == "table"


def test_the_document_holds_all_and_no_number_that_is_none() -> None:
    nan = trial(1, accuracy=[0.5, float("nan")])
    document = json.loads(json.dumps(to_json(of_trials(trial(0), nan)), allow_nan=False))
    assert document["schema"] == "lrsearch/compare/1"
    assert [one["trial"] for one in document["sides"]] == [0, 1]
    assert [row["key"] for row in document["settings"]] == ["seed"]
    assert document["scores"][0]["metric"] == "loss", "what was not measured is no score"
    assert {one["what"] for one in document["not_known"]} <= {one.value for one in Unknown}
    assert len(document["sides"][1]["epochs"]) == 2


# The command


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the studies a, b and 7, trained by an engine that only pretends."""
    path = tmp_path_factory.mktemp("compare") / "lrsearch.db"
    for name, tables in (("a", {}), ("b", {"epochs": 5}), ("7", {})):
        study = filing.file_study(make_spec(name, **tables), places.parse_place(str(path)), explicit_budget=True)
        with closing(study.database):
            artifacts = filing.artifacts_of(study)
            for _ in run.Session(study, FakeEngine(learning), artifacts).attend():
                pass
            score_by_hand(study, 0, 0.3, 0.9)
    return path


@pytest.fixture
def typed(database: Path, lrsearch: InProcess) -> Any:
    return lambda *words: lrsearch("compare", *words, "--storage", str(database))


@pytest.mark.parametrize(
    ("words", "sides"),
    [
        (["a", "b"], [("a", True), ("b", True)]),
        (["a#0", "a#1"], [("a#0", False), ("a#1", False)]),
        (["a#0", "1"], [("a#0", False), ("a#1", False)]),
        (["a#0", "#1"], [("a#0", False), ("a#1", False)]),
        (["a#0", "b#1"], [("a#0", False), ("b#1", False)]),
        (["a", "b#1"], [("a", True), ("b#1", False)]),
        (["a#1", "7"], [("a#1", False), ("7", True)]),  # a study of that name is meant
        (["a#1", "#7"], "there is no trial 7 in the study 'a', which has trials 0 to 5"),
        (["a"], "compare takes two studies or two trials, got one: 'a'; a trial is named as 'a#7'"),
        (["a", "a"], "compare takes two that differ, and both are a"),
        (["a#1", "1"], "compare takes two that differ, and both are a#1"),
        (["aa", "b"], "there is no study 'aa'"),
        (["a#x", "b"], "there is no study 'a#x'"),
        (["a#0", "c#0"], "there is no study 'c'"),
        (["0", "1"], "holds 3 studies, name one of them"),
        (["a", "b", "-o", "x.pdf"], "-o takes a file whose name ends in .png, .svg, .html, got 'x.pdf'"),
        (["a", "b", "-o", "nowhere/x.html"], "nowhere/x.html cannot be written: there is no folder nowhere"),
    ],
    ids=str,
)
def test_what_a_person_types_is_what_is_compared(words: list[str], sides: Any, typed: Any) -> None:
    result = typed(*words, "--json")
    if isinstance(sides, str):
        assert result.code == 2
        assert sides in one_line(result)
        return
    assert result.code == 0, result.err
    assert [(one["label"], one["is_study"]) for one in result.document["sides"]] == sides


def test_a_trial_alone_is_held_against_the_best_of_its_study(typed: Any) -> None:
    best = typed("a", "b", "--json").document["sides"][0]["trial"]
    other = next(n for n in range(6) if n != best)
    sides = typed(f"a#{other}", "--json").document["sides"]
    assert [(one["label"], one["trial"]) for one in sides] == [(f"a#{other}", other), (f"a#{best}", best)]


def test_the_table_is_printed_and_no_torch_is_loaded_for_it(typed: Any) -> None:
    result = typed("a", "b")
    assert result.code == 0
    assert "Studies that differ in" in result.out
    assert "Settings in which their best trials differ" in result.out
    assert result.err == ""


def test_a_page_needs_nothing_but_itself_and_is_written_anew(typed: Any, tmp_path: Path) -> None:
    for _ in range(2):
        result = typed("a#0", "a#1", "-o", "c.html")
        assert result.code == 0, result.err
        assert re.fullmatch(r"wrote c\.html \([\d.]+ MB\)\n", result.err)
        assert result.out == ""
    page = html.unescape((tmp_path / "c.html").read_text("utf-8"))
    assert "default-src 'none'" in page
    assert "What is not known" in page
    (tmp_path / "mine.html").write_text("<p>mine</p>")
    assert "mine.html exists and is no report of lrsearch" in one_line(typed("a#0", "a#1", "-o", "mine.html"))
    assert typed("a#0", "a#1", "-o", "mine.html", "--force").code == 0


@needs_chromium
@pytest.mark.slow
def test_the_page_is_drawn_and_can_be_read_by_everybody(tmp_path: Path) -> None:
    path = tmp_path / "c.html"
    found = of_trials(trial(0, accuracy=[0.5, 0.7, 0.8]), trial(1, accuracy=[0.6, 0.9, 0.97], schedule=COSINE))
    path.write_text(compare_page(found), "utf-8")
    with chromium() as browser, looking(browser) as seen:
        seen.page.goto(path.as_uri())
        seen.page.wait_for_selector("html[data-drawn=all]")
        assert seen.page.locator("#charts .scatterlayer .trace").count() >= 8
        assert seen.errors == []
        assert seen.outside() == []
        assert seen.violations() == []


@needs_chromium
@pytest.mark.slow
def test_a_picture_is_written_by_the_ending_of_its_name(typed: Any, tmp_path: Path) -> None:
    assert typed("a#0", "a#1", "-o", "c.png").code == 0
    with Image.open(tmp_path / "c.png") as image:
        assert image.size[0] == 2200
    assert typed("a#0", "b#1", "-o", "c.svg", "--json").code == 0
    words = " ".join(
        "".join(one.itertext()) for one in ET.parse(tmp_path / "c.svg").iter("{http://www.w3.org/2000/svg}text")
    )
    for said in ("Validation accuracy, by epoch", "Learning rate, by epoch", "Scores, with 95 % intervals", "peak lr"):
        assert said in words
