"""`lrsearch report`: the page in a real browser, Markdown and JSON, and studies as odd as they come."""

import html as html_module
import json
import math
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import pytest
from browser import Seen, chromium, looking, needs_chromium
from command_line import InProcess, one_line
from conftest import wait_until
from playwright.sync_api import Browser, Page
from trials_by_hand import epoch, interrupted, of_loss, spec, trial

from lrsearch.analysis.material import Material
from lrsearch.analysis.schedule_curve import planned_lrs
from lrsearch.gather import gather
from lrsearch.report import document, html_page
from lrsearch.report.contents import contents
from lrsearch.report.cost import costs
from lrsearch.report.figure import Figure
from lrsearch.report.html_page import Live, html, update
from lrsearch.spec.study import StudySpec
from lrsearch.store import study as studies
from lrsearch.store.places import parse_place
from lrsearch.store.storage import open_existing
from lrsearch.trial import Reason, ScheduleConfig, State, Trial

pytest_plugins = ["command_line"]

COSINE = ScheduleConfig("cosine", 0.1, 0.01)
PLATEAU = ScheduleConfig("plateau", 0.0, 0.01, drop_factor=0.3, patience_epochs=1)
EVIL = """<script>alert(1)</script>"'&</title> \N{GREEK SMALL LETTER ETA}"""
READ_AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def material(*trials: Trial, study: StudySpec | None = None) -> Material:
    chosen = study or spec()
    return Material(chosen, trials, chosen.budget, "./lrsearch.db", read_at=READ_AT)


def some() -> list[Trial]:
    """Return a trial of every state, and two optimizers."""
    return [
        trial(0, State.COMPLETE, 0.95, lr=0.1, schedule=COSINE, val_loss=0.2),
        trial(1, State.COMPLETE, 0.90, lr=0.01, schedule=COSINE),
        trial(2, State.PRUNED, [0.3, 0.5], lr=0.001),
        trial(3, State.DIVERGED, 0.1, lr=2.0),
        trial(4, State.DIVERGED, [0.2], lr=1.0, schedule=COSINE),
        trial(5, State.FAILED, [0.4], lr=0.05),
        trial(6, State.RUNNING, [0.3, 0.4], lr=0.03, optimizer="adamw"),
        trial(7, State.RUNNING, [], lr=0.02),
    ]


def odd_studies() -> dict[str, Material]:
    nan = replace(epoch(1), val_loss=math.nan, val_accuracy=math.nan, train_loss=math.inf)
    loss = spec(objective={"metric": "loss"})
    worded = replace(trial(1, State.FAILED, 0.5, message=EVIL), worker=EVIL, device=EVIL, versions=EVIL)
    families = [
        ScheduleConfig("constant"),
        ScheduleConfig("exponential", 0.0, 0.01),
        ScheduleConfig("linear", 0.1, 0.0),
        ScheduleConfig("inverse_sqrt", 0.0, 0.1),
        ScheduleConfig("step", 0.0, 0.01, drops=3),
        ScheduleConfig("multistep", 0.0, 0.01, milestones=(0.5, 0.75)),
        ScheduleConfig("polynomial", 0.0, 0.01, power=2.0),
        ScheduleConfig("one_cycle", 0.0, 0.01, rise_fraction=0.3, initial_fraction=0.04),
        ScheduleConfig("triangular", 0.0, 0.01, cycles=2),
        ScheduleConfig("warm_restarts", 0.0, 0.01, cycles=2, cycle_mult=2),
        ScheduleConfig("wsd", 0.0, 0.01, decay_fraction=0.3),
        COSINE,
        PLATEAU,
    ]
    return {
        "no trial": material(),
        "all states": material(*some()),
        "one running without an epoch": material(trial(0, State.RUNNING, [])),
        "one complete": material(trial(0)),
        "only diverged": material(*(trial(i, State.DIVERGED, lr=10.0**i) for i in range(-1, 3))),
        "only pruned": material(trial(0, State.PRUNED, [0.5]), trial(1, State.PRUNED, [0.4])),
        "only failed": material(trial(0, State.FAILED, [])),
        "loss": material(of_loss(trial(0), 0.3), of_loss(trial(1, lr=0.2), 0.5), study=loss),
        "loss of zero": material(of_loss(trial(0), 0.0), of_loss(trial(1, lr=0.2), 0.5), study=loss),
        "not a number": material(trial(0), replace(trial(1, State.PRUNED, [0.5]), metrics=(nan,))),
        "only not a number": material(replace(trial(0, State.PRUNED, [0.5]), metrics=(nan,))),
        "all right": material(trial(0, accuracy=1.0), trial(1, accuracy=1.0, lr=0.2)),
        "plateau wins": material(trial(0, schedule=PLATEAU), trial(1, accuracy=0.5, schedule=COSINE)),
        "every family": material(*(trial(i, schedule=s, lr=0.01 * (i + 1)) for i, s in enumerate(families))),
        "interrupted": material(interrupted(trial(0), Reason.LOST, Reason.CRASH, step=50)),
        "evil words": material(trial(0), worded, study=spec().model_copy(update={"name": EVIL})),
        "an optimizer that the space lacks": material(trial(0, optimizer="rmsprop")),
    }


def figures_of(made: Material) -> dict[str, Figure]:
    said = contents(made)
    return {figure.key: figure for figure in (*said.of_optimizers, *said.others)}


def marks(figure: Figure, kind: str = "trial") -> Counter[str]:
    """Return how many marks a figure has of each state."""
    out: Counter[str] = Counter()
    for trace in figure.data:
        if trace["meta"]["kind"] == kind:
            out[trace["meta"]["state"]] += sum(y is not None for y in trace["y"])
    return out


# --- figures ---------------------------------------------------------------------------------------------------------


def test_every_trial_has_one_mark_at_its_learning_rate() -> None:
    made = figures_of(material(*some()))
    assert marks(made["lr-sgd"]) == {"complete": 2, "pruned": 1, "diverged": 2, "failed": 1}
    assert marks(made["lr-adamw"]) == {"running": 1}
    below = [trace for trace in made["lr-sgd"].data if trace["yaxis"] == "y2"]
    assert sorted(x for trace in below for x in trace["x"]) == [0.05, 1.0, 2.0]
    assert "1 trial under way without an epoch" in made["lr-sgd"].note


def test_the_losses_end_in_one_mark_a_trial_and_the_winner_lies_on_top() -> None:
    made = figures_of(material(*some()))["loss"]
    assert marks(made) == {"complete": 2, "pruned": 1, "diverged": 1, "failed": 1, "running": 1}
    assert made.n_marks == 6
    assert [trace["meta"]["kind"] for trace in made.data][-2:] == ["winner", "trial"]
    assert made.data[-2]["y"] == [0.2] * 10
    assert "2 trials without a completed epoch" in made.note
    assert "Trial 0, the winner, ends at a loss of 0.200; the median of 2 complete trials is 0.300." in made.finding


def test_long_trainings_are_thinned_and_that_is_said() -> None:
    rows = tuple(epoch(i) for i in range(1, 40_001))
    made = figures_of(material(*(replace(trial(i), metrics=rows) for i in range(2))))["loss"]
    assert "Of 2 epochs one is drawn" in made.note
    (curve,) = [trace for trace in made.data if trace["meta"]["kind"] == "curve"]
    assert len(curve["x"]) == 20_000


def test_schedules_are_the_exact_learning_rates_of_their_updates() -> None:
    trials = [
        trial(i, accuracy=0.9 - i / 100, schedule=s, lr=0.1 + i / 10)
        for i, s in enumerate(
            [
                ScheduleConfig("step", 0.1, 0.01, drops=3),
                COSINE,
                ScheduleConfig("one_cycle", 0.0, 0.01, rise_fraction=0.3, initial_fraction=0.04),
            ]
        )
    ]
    made = figures_of(material(*trials))["schedule"]
    assert made.n_marks == 3
    for trace in made.data:
        lrs = planned_lrs(trials[trace["meta"]["number"]], 25)
        assert trace["y"] == [pytest.approx(lrs[x], rel=1e-5) for x in trace["x"]]
        assert {0, 249} <= set(trace["x"])
    # Between the points that are drawn the line is straight, to a thousandth of the peak.
    for trace in made.data:
        lrs = planned_lrs(trials[trace["meta"]["number"]], 25)
        for (x0, y0), (x1, y1) in zip(
            zip(trace["x"], trace["y"], strict=True), list(zip(trace["x"], trace["y"], strict=True))[1:], strict=False
        ):
            for x in range(x0, x1):
                assert lrs[x] == pytest.approx(y0 + (y1 - y0) * (x - x0) / (x1 - x0), abs=2e-3 * max(lrs))


def test_a_plateau_is_drawn_as_it_was_trained() -> None:
    rows = tuple(epoch(i, lr=0.1 if i <= 5 else 0.03) for i in range(1, 11))
    made = figures_of(material(replace(trial(0, schedule=PLATEAU), metrics=rows)))["schedule"]
    (trace,) = made.data
    drawn = dict(zip(trace["x"], trace["y"], strict=True))
    assert drawn[124] == 0.1
    assert drawn[125] == 0.03
    assert "plateau decides by the validation loss" in made.note


def test_every_trial_is_a_line_across_its_settings() -> None:
    made = figures_of(material(*some()))["parallel"]
    n_lines = sum(1 + trace["x"].count(None) for trace in made.data)
    assert n_lines == made.n_marks == 8
    headings = [note["text"] for note in made.layout["annotations"] if note.get("yref") == "paper"]
    assert headings == ["optimizer", "peak<br>lr", "schedule", "warmup<br>fraction", "accuracy"]
    assert made.finding.startswith("The best one of 2 complete trials has: optimizer sgd (1); peak lr 0.1;")


def test_what_was_saved_is_counted_for_pruned_and_diverged_trials_only() -> None:
    found = {c.state: c for c in costs(some())}
    assert {s: (c.n_trials, c.epochs, c.epochs_saved) for s, c in found.items()} == {
        State.COMPLETE: (2, 20, 0),
        State.PRUNED: (1, 2, 8),
        State.DIVERGED: (2, 1, 19),
        State.FAILED: (1, 1, 0),
        State.RUNNING: (2, 2, 0),
    }
    assert found[State.PRUNED].seconds_saved == pytest.approx(0.8)
    assert figures_of(material(*some()))["cost"].finding == (
        "26 epochs in 2.6 s of training. Ending trials early saved 27 of 53 epochs (51 %), 8 by pruning and 19 by "
        "divergence: about 2.7 s, at each trial's own pace."
    )


@pytest.mark.parametrize("name", odd_studies())
def test_a_study_however_odd_makes_a_page_a_document_and_a_text(name: str) -> None:
    made = odd_studies()[name]
    page = html(made)
    assert page.count("</script>") == 3
    assert page.lstrip().startswith("<!doctype html>")
    assert "alert(1)</script>" not in page
    document_text = json.dumps(document.to_json(made), allow_nan=False)
    assert json.loads(document_text)["schema"] == "lrsearch/report/1"
    text = document.markdown(made)
    assert text.startswith("<!-- lrsearch report ")
    assert "<script" not in re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    json.dumps(update(made), allow_nan=False)
    for figure in figures_of(made).values():
        assert figure.said
        assert bool(figure.empty) == (figure.n_marks == 0), figure.key


def test_what_a_live_page_asks_for_changes_only_when_the_study_does() -> None:
    made = material(*some())
    assert update(made) == update(replace(made, read_at=None))
    assert update(made) != update(material(*some()[:-1]))


def test_the_policy_lets_a_file_ask_for_nothing_and_a_live_page_its_server_only() -> None:
    for live, connect in ((None, "connect-src 'none'"), (Live("/u", "/d"), "connect-src 'self'")):
        page = html(material(*some()), live)
        (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
        policy = html_module.unescape(policy)
        assert policy.startswith("default-src 'none'; script-src 'sha256-")
        assert connect in policy
        assert "unsafe-eval" not in policy
        assert "script-src 'unsafe" not in policy


def test_markdown_shows_words_as_they_are() -> None:
    failed = trial(0, State.FAILED, [], message="a|b <img src=x> *c* [d](e) @f `g`\nh")
    text = document.markdown(material(failed))
    assert r"a\|b &lt;img src=x&gt; \*c\* \[d\](e) &#64;f \`g\` h" in text


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def in_folder(lrsearch: InProcess, searched: Path, tmp_path: Path) -> InProcess:
    shutil.copy(searched / "lrsearch.db", tmp_path / "lrsearch.db")
    return lrsearch


def test_the_command_writes_a_page_and_overwrites_only_reports(in_folder: InProcess, tmp_path: Path) -> None:
    done = in_folder("report")
    page = tmp_path / "digits.html"
    assert (done.code, done.out) == (0, "")
    assert done.err == f"wrote digits.html ({page.stat().st_size / 1e6:.1f} MB)\n"
    assert page.stat().st_size < 6e6
    assert in_folder("report").code == 0, "a report may be written anew"
    page.write_text("my notes", "utf-8")
    done = in_folder("report")
    assert done.code == 2
    assert one_line(done) == (
        "lrsearch: digits.html exists and is no report of lrsearch: name another file with -o, or add --force\n"
    )
    assert page.read_text("utf-8") == "my notes"
    assert in_folder("report", "--force").code == 0
    assert page.read_bytes()[:1].strip() in (b"", b"<")
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".part")] == []


@pytest.mark.parametrize(
    ("name", "begins"), [("r.md", "<!-- lrsearch report"), ("r.json", "{\n"), ("r.html", "<!doctype")]
)
def test_the_name_of_the_file_says_the_format(name: str, begins: str, in_folder: InProcess, tmp_path: Path) -> None:
    for _ in range(2):
        assert in_folder("report", "-o", name).code == 0
    assert (tmp_path / name).read_text("utf-8").lstrip().startswith(begins)


def test_markdown_and_json_go_to_stdout(in_folder: InProcess) -> None:
    done = in_folder("report", "--format", "json")
    document_read = done.document
    assert document_read["schema"] == "lrsearch/report/1"
    assert len(document_read["trials"]) == 50
    assert document_read["answer"]["winner"]["number"] in {t["number"] for t in document_read["trials"]}
    assert document_read["importance"]["ended"]["n_trials"] == 50
    text = in_folder("report", "-f", "markdown").out
    assert f"is trial {document_read['answer']['winner']['number']}.**" in text
    assert "### The best " in text


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["-o", "no/where.html"], "there is no folder no"),
        (["-o", "."], ". is a folder; name a file in it"),
        (["-o", "/dev/null"], "/dev/null is no file; name another"),
        (["-o", ""], "-o takes the name of a file"),
        (["nobody"], "there is no study 'nobody'"),
        (["-f", "pdf"], "--format must be one of html, markdown, json, png, svg, got 'pdf'"),
    ],
)
def test_what_cannot_be_written_is_said_in_one_sentence(argv: list[str], said: str, in_folder: InProcess) -> None:
    done = in_folder("report", *argv)
    assert done.code == 2
    assert said in one_line(done)


def test_a_study_that_was_renamed_to_a_path_is_written_into_this_folder(in_folder: InProcess, tmp_path: Path) -> None:
    import sqlite3

    with closing(sqlite3.connect(tmp_path / "lrsearch.db")) as connection:
        connection.execute("UPDATE studies SET study_name = '../../x<b>'")
        connection.commit()
    assert in_folder("report").err.startswith("wrote x_b_-1719f9a1.html")


# --- the page, in a browser ------------------------------------------------------------------------------------------


class Shown(NamedTuple):
    """A report of the real study, its file, and what it was made of."""

    path: Path
    made: Material


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def real(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    folder = tmp_path_factory.mktemp("report")
    shutil.copy(searched / "lrsearch.db", folder / "lrsearch.db")
    with closing(open_existing(parse_place(str(folder / "lrsearch.db")))) as database:
        made = gather(studies.get(database, None))
    path = folder / "digits.html"
    path.write_text(html(made), "utf-8")
    return Shown(path, made)


def opened(seen: Seen, path: Path) -> None:
    seen.page.goto(path.as_uri())
    seen.page.wait_for_selector("html[data-drawn=all]")


def until(page: Page, holds: str) -> None:
    """Ask again and again; Playwright's own way would evaluate words, which the page's policy forbids."""
    wait_until(lambda: bool(page.evaluate(holds)))


POINTS = """(key) => {
  const place = document.querySelector(`[data-chart="${key}"]`);
  // Each trace is a group, in the order of the traces that are drawn on the same axes.
  const groups = [...place.querySelectorAll('.scatterlayer .trace')], out = {};
  for (const group of groups) {
    const meta = group.__data__[0].trace.meta, key = `${meta.kind} ${meta.state}`;
    const what = meta.kind === 'trial' && group.querySelector('.point') ? '.point' : '.js-line';
    out[key] = (out[key] || 0) + group.querySelectorAll(what).length;
  }
  return out;
}"""


@needs_chromium
def test_the_page_opens_from_a_file_and_asks_nobody(browser: Browser, real: Shown) -> None:
    for scheme in ("light", "dark"):
        with looking(browser, viewport={"width": 1280, "height": 900}, color_scheme=scheme) as seen:
            opened(seen, real.path)
            assert seen.errors == []
            assert seen.requests == [real.path.as_uri()]
            seen.picture(f"report {scheme}")
            seen.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
            assert seen.violations() == []


@needs_chromium
def test_every_chart_has_as_many_marks_as_the_study_has_trials_to_show(browser: Browser, real: Shown) -> None:
    trials, made = real.made.trials, figures_of(real.made)
    with looking(browser) as seen:
        opened(seen, real.path)
        points = {key: seen.page.evaluate(POINTS, key) for key in made}
        bars = {
            key: seen.page.locator(f"[data-chart={key}] .barlayer .point path").count()
            for key in ("importance", "cost")
        }
        rows = seen.page.locator("#table tbody tr").count()
        said = seen.page.locator("#trials-shown").inner_text()
    for name in real.made.spec.space.optimizers:
        mine = Counter(f"trial {t.state}" for t in trials if t.config.optimizer.name == name)
        assert {k: n for k, n in points[f"lr-{name}"].items() if k.startswith("trial")} == mine
    measured = Counter(f"trial {t.state}" for t in trials if any(math.isfinite(m.val_loss) for m in t.metrics))
    assert {k: n for k, n in points["loss"].items() if k.startswith("trial")} == measured
    assert sum(n for k, n in points["loss"].items() if k.startswith(("curve", "winner"))) == measured.total()
    assert points["parallel"] == Counter(f"trial {t.state}" for t in trials)
    n_complete = sum(t.state == State.COMPLETE for t in trials)
    assert points["schedule"] == {"schedule complete": min(5, n_complete)}
    assert bars["cost"] == 2 * len({t.state for t in trials})
    assert real.made.of_ended is not None
    assert bars["importance"] in (n := len(real.made.of_ended.parameters), 2 * n)
    assert rows == 25
    assert said.startswith("1 to 25 of 50 trials")


@needs_chromium
def test_states_schedules_and_optimizers_are_shown_and_hidden(browser: Browser, real: Shown) -> None:
    trials = real.made.trials
    with looking(browser) as seen:
        opened(seen, real.path)
        page = seen.page
        page.get_by_role("checkbox", name="pruned").press("Space")
        until(
            page,
            "document.querySelector('[data-chart=loss]').data.every((t) => t.meta.state !== 'pruned' || !t.visible)",
        )
        wait_until(lambda: "trial pruned" not in page.evaluate(POINTS, "parallel"))
        n = sum(t.state != State.PRUNED for t in trials)
        assert f"of {n} of 50 trials" in page.locator("#trials-shown").inner_text()
        page.get_by_label("Optimizer", exact=True).select_option("adamw")
        assert page.locator("[data-panel=sgd]").is_hidden()
        mine = sum(t.state != State.PRUNED and t.config.optimizer.name == "adamw" for t in trials)
        assert f"{mine} of 50 trials" in page.locator("#trials-shown").inner_text()
        page.get_by_role("button", name="Show all").press("Enter")
        assert "of 50 trials" in page.locator("#trials-shown").inner_text()
        assert page.locator("[data-panel=sgd]").is_visible()
        assert page.get_by_role("checkbox", name="pruned").is_checked()


@needs_chromium
def test_the_table_is_sorted_and_paged_by_the_keyboard(browser: Browser, real: Shown) -> None:
    with looking(browser) as seen:
        opened(seen, real.path)
        page = seen.page
        column = "[...document.querySelectorAll('#table tbody tr')].map((tr) => tr.children[{}].textContent)"
        page.locator("#rows").select_option("100")
        button = page.get_by_role("button", name="accuracy", exact=True)
        button.press("Enter")
        shown = [float(v) for v in page.evaluate(column.format(2)) if v != "\N{EN DASH}"]
        assert shown == sorted(shown, reverse=True)
        assert len(page.evaluate(column.format(2))) == 50
        assert page.locator("#table th").nth(2).get_attribute("aria-sort") == "descending"
        button.press("Space")
        shown = [float(v) for v in page.evaluate(column.format(2)) if v != "\N{EN DASH}"]
        assert shown == sorted(shown)
        page.get_by_role("button", name="optimizer").press("Enter")
        assert page.evaluate(column.format(5)) == sorted(t.config.optimizer.name for t in real.made.trials)
        page.locator("#rows").select_option("25")
        page.get_by_role("button", name="trial", exact=True).press("Enter")
        page.get_by_role("button", name="Forward").press("Enter")
        assert page.locator("#trials-shown").inner_text().startswith("26 to 50 of 50")
        page.get_by_role("button", name="Forward").press("Enter")
        assert page.locator("#trials-shown").inner_text().startswith("26 to 50 of 50"), "there is no more"
        page.get_by_role("button", name="Back").press("Enter")
        assert page.locator("#trials-shown").inner_text().startswith("1 to 25 of 50")


@needs_chromium
def test_the_keyboard_reaches_every_control(browser: Browser, real: Shown) -> None:
    with looking(browser, viewport={"width": 1280, "height": 900}) as seen:
        opened(seen, real.path)
        controls = """[...document.querySelectorAll('a[href], button, select, input, summary, [tabindex]')]
            .filter((e) => e.checkVisibility()).length"""
        n = seen.page.evaluate(controls)
        assert n > 40
        reached = "window.reached = window.reached || new Set(); window.reached.add(document.activeElement)"
        for _ in range(n + 1):
            seen.page.keyboard.press("Tab")
            seen.page.evaluate(reached)
        assert seen.page.evaluate("[...window.reached].filter((e) => e !== document.body).length") >= n


@needs_chromium
def test_scales_zoom_and_theme_can_be_chosen(browser: Browser, real: Shown) -> None:
    with looking(browser, color_scheme="light") as seen:
        opened(seen, real.path)
        page = seen.page
        axis = "document.querySelector('[data-chart={}]')._fullLayout.yaxis.{}"
        for key, box in (("lr-sgd", "#scale-rates"), ("loss", "#scale-loss"), ("schedule", "#scale-schedule")):
            for scale in ("linear", "log"):
                page.locator(box).select_option(scale)
                until(page, f"{axis.format(key, 'type')} === '{scale}'")
        whole = page.evaluate(axis.format("loss", "range"))
        page.evaluate("Plotly.relayout(document.querySelector('[data-chart=loss]'), {'yaxis.range': [-1, -0.5]})")
        assert page.evaluate(axis.format("loss", "range")) == [-1, -0.5]
        page.locator("#loss").get_by_role("button", name="Reset zoom").press("Enter")
        until(page, f"{axis.format('loss', 'range')}[0] !== -1")
        assert page.evaluate(axis.format("loss", "range")) == pytest.approx(whole)
        page.locator("#along").select_option("update")
        until(page, "document.querySelector('[data-chart=schedule]')._fullLayout.xaxis.range[1] > 50")
        ink = "getComputedStyle(document.body).color"
        light = page.evaluate(ink)
        page.get_by_label("Theme").select_option("dark")
        until(page, f"{ink} !== '{light}'")
        assert seen.violations() == []
        assert seen.errors == []


@needs_chromium
def test_a_narrow_page_has_no_sideways_scroll(browser: Browser, real: Shown) -> None:
    with looking(browser, viewport={"width": 400, "height": 800}) as seen:
        opened(seen, real.path)
        assert seen.page.evaluate("document.documentElement.scrollWidth") == 400
        assert seen.violations() == []
        seen.picture("report narrow")


@needs_chromium
def test_the_page_prints_in_light_colours_and_comes_back(browser: Browser, real: Shown, tmp_path: Path) -> None:
    with looking(browser, viewport={"width": 1280, "height": 900}, color_scheme="dark") as seen:
        opened(seen, real.path)
        page = seen.page
        page.evaluate(
            """addEventListener('beforeprint', () => {
              window.theme = document.documentElement.dataset.theme;
              const drawn = [...document.querySelectorAll('.plot')];
              window.widths = drawn.map((place) => place.querySelector('.main-svg').clientWidth);
              window.inks = drawn.map((place) => place._fullLayout.font.color);
            })"""
        )
        whole = page.pdf(path=tmp_path / "report.pdf", format="A4", print_background=True)
        assert whole.startswith(b"%PDF")
        assert page.evaluate("window.theme") == "light"
        assert page.evaluate("window.inks") == ["#526070"] * 7
        assert page.evaluate("window.widths") == [328, 328, 680, 680, 680, 680, 680]
        assert page.evaluate("document.documentElement.dataset.theme ?? 'auto'") == "auto"
        until(page, "document.querySelector('[data-chart=loss] .main-svg').clientWidth > 900")
        assert seen.errors == []


@needs_chromium
def test_the_program_is_copied(browser: Browser, real: Shown) -> None:
    with looking(browser, permissions=["clipboard-read", "clipboard-write"]) as seen:
        opened(seen, real.path)
        page = seen.page
        page.locator("#program-summary").press("Enter")
        page.get_by_role("button", name="Copy the program").press("Enter")
        until(page, "document.getElementById('copy-program').textContent === 'Copied'")
        assert page.evaluate("navigator.clipboard.readText()") == contents(real.made).answer.snippet


def check_drawn(seen: Seen, name: str, made: Material) -> None:
    assert seen.errors == [], name
    assert seen.page.locator("#table tbody tr").count() == len(made.trials), name
    for key, figure in figures_of(made).items():
        place = seen.page.locator(f"[data-chart={key}]")
        assert place.locator(".main-svg").count() == (0 if figure.empty else 3), (name, key)
        assert place.get_attribute("aria-label") == figure.said
        if figure.empty:
            assert place.inner_text() == figure.empty


@needs_chromium
def test_words_that_are_html_are_shown_and_not_obeyed(browser: Browser, tmp_path: Path) -> None:
    made, path = odd_studies()["evil words"], tmp_path / "odd.html"
    path.write_text(html(made), "utf-8")
    with looking(browser) as seen:
        seen.page.on("dialog", lambda dialog: pytest.fail(dialog.message))
        opened(seen, path)
        check_drawn(seen, "evil words", made)
        assert seen.requests == [path.as_uri()]
        assert seen.page.title() == f"{EVIL}: learning-rate search"
        assert seen.page.locator("h1").inner_text() == EVIL
        assert EVIL in seen.page.locator("#table tbody tr").last.inner_text()
        assert EVIL in seen.page.locator(".run").inner_text()


@needs_chromium
def test_odd_studies_are_drawn_without_a_complaint(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "odd.html"
    path.write_text(html(odd_studies()["no trial"]), "utf-8")
    with looking(browser) as seen:
        opened(seen, path)
        # One after the other in the same page, as a live one shows a study that changes: a page anew takes a second.
        for name, made in odd_studies().items():
            if name == "an optimizer that the space lacks":
                continue  # Its page has another chart, which none of a living study's trials can ask for.
            seen.page.evaluate("(data) => page.apply(data)", update(made))
            check_drawn(seen, name, made)
        assert seen.violations() == []


# --- live ------------------------------------------------------------------------------------------------------------


class Serving(BaseHTTPRequestHandler):
    """Serves a page, and what is new of it, as the dashboard does."""

    page = ""
    new: dict[str, Any] = {}
    asked: list[str | None] = []

    def do_GET(self) -> None:
        if self.path == "/page":
            self.answer(200, "text/html; charset=utf-8", self.page)
            return
        body = json.dumps(self.new)
        tag = f'"{hash(body)}"'
        self.asked.append(self.headers["If-None-Match"])
        self.answer(304 if self.headers["If-None-Match"] == tag else 200, "application/json", body, tag)

    def answer(self, code: int, kind: str, body: str, tag: str = "") -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        if tag:
            self.send_header("ETag", tag)
        self.end_headers()
        if code == 200:
            self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the library
        del format, args


@needs_chromium
def test_a_live_page_takes_over_what_is_new_and_keeps_what_a_person_chose(browser: Browser) -> None:
    before, after = material(*some()), material(*some(), trial(8, accuracy=0.97, lr=0.2, schedule=COSINE))
    handler = type(
        "Handler",
        (Serving,),
        {"page": html(before, Live("/new", "/dashboard", 0.05)), "new": update(before), "asked": []},
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler))
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        with looking(browser) as seen:
            page = seen.page
            page.goto(f"http://127.0.0.1:{server.server_address[1]}/page")
            page.wait_for_selector("html[data-drawn=all]")
            assert page.get_by_role("link", name="This study in optuna-dashboard").get_attribute("href") == "/dashboard"
            page.locator("#program-summary").press("Enter")
            page.locator("#scale-loss").select_option("linear")
            page.get_by_role("checkbox", name="pruned").press("Space")
            page.get_by_role("button", name="accuracy", exact=True).press("Enter")
            page.locator("#copy-next-1").focus()
            handler.new = update(after)  # type: ignore[attr-defined]
            until(page, "document.querySelector('h2.headline').textContent.endsWith('trial 8')")
            until(page, "document.querySelector('[data-chart=loss]').data.at(-1).y[0] === 0.3")
            assert page.locator("#program").get_attribute("open") is not None
            assert page.evaluate("document.activeElement.id") == "copy-next-1"
            assert page.evaluate("document.querySelector('[data-chart=loss]')._fullLayout.yaxis.type") == "linear"
            assert page.evaluate("document.querySelectorAll('#table tbody tr').length") == 8
            assert page.locator("#table tbody tr").first.inner_text().startswith("\N{BLACK STAR} 8")
            assert "Last change seen at" in page.locator("#live").inner_text()
            n = len(handler.asked)  # type: ignore[attr-defined]
            wait_until(lambda: len(handler.asked) > n + 1)  # type: ignore[attr-defined]
            assert handler.asked[-1] is not None, "asked with the tag"  # type: ignore[attr-defined]
            assert seen.violations() == []
            server.shutdown()
            server.server_close()
            until(page, "document.getElementById('live').textContent.startsWith('Connection lost at')")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_generator_is_what_the_writer_looks_for() -> None:
    from lrsearch.report import report_file

    head = html(material()).encode()[: report_file.HEAD]
    assert any(mark in head for mark in report_file.MARKS)
    assert html_page.GENERATOR.encode() in report_file.MARKS[0]
