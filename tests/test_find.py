"""`lrsearch find`, and what `run --range-test` makes of a study."""

import tomllib
from contextlib import closing
from datetime import UTC, datetime
from inspect import signature
from math import inf, isnan, nan
from pathlib import Path
from typing import Any

import pytest
from command_line import InProcess, Result, one_line
from conftest import make_spec
from own_loops import LOOP

from lrsearch.analysis.range_test import findings
from lrsearch.cli import find as cli_find
from lrsearch.domain import Choice, Range
from lrsearch.find import SweepPlan
from lrsearch.report.range_words import CAUTION
from lrsearch.report.text_file import write
from lrsearch.spec import file as study_file
from lrsearch.spec.bounds_file import with_bounds
from lrsearch.store import budget, filing, range_tests, tables, tally
from lrsearch.store import study as studies
from lrsearch.store.places import parse_place
from lrsearch.store.storage import Database
from lrsearch.trial import RangeTest, Role

pytest_plugins = ["command_line"]

QUICK = ("--seeds", "3", "--set", "space.optimizer=sgd")
RUN = ("run", "--range-test", "--trials", "2", "--epochs", "2", "--quiet", "--set", "space.optimizer=sgd")
BOUNDS = Range(0.02, 0.5, log=True)


def peak_lr(tables: dict[str, Any], optimizer: str = "sgd") -> Any:
    return tables["space"]["optimizer"][optimizer]["peak_lr"]


def test_it_prints_a_drawing_the_rates_and_that_they_are_no_answer(lrsearch: InProcess) -> None:
    found = lrsearch("find", "digits", *QUICK)
    assert found.code == 0, found.err
    assert found.err == ""
    for said in ("sgd: loss against learning rate", "lowest useful", "steepest", "diverges from", "search from "):
        assert said in found.out
    assert CAUTION in found.out
    assert max(map(len, found.out.splitlines())) <= 120
    assert not Path("lrsearch.db").exists()


def test_json_holds_the_rates_with_their_intervals_and_the_sweeps(lrsearch: InProcess) -> None:
    document = lrsearch("find", "digits", *QUICK, "--batch-size", "32", "--json").document
    assert document["schema"] == "lrsearch/range-test/1"
    assert (document["dataset"], document["model"], document["batch_size"]) == ("digits", "mlp", 32)
    (sgd,) = document["optimizers"]
    assert sgd["name"] == "sgd"
    for rate in ("lowest_useful", "steepest", "divergence"):
        assert 0 < sgd[rate]["low"] <= sgd[rate]["value"] <= sgd[rate]["high"]
    assert sgd["suggestion"]["low"] <= sgd["lowest_useful"]["low"]
    assert sgd["suggestion"]["high"] >= sgd["divergence"]["high"]
    assert sgd["why_none"] is None
    assert [sweep["seed"] for sweep in sgd["sweeps"]] == [0, 1, 2]
    assert all(len(sweep["rates"]) == len(sweep["losses"]) > 20 for sweep in sgd["sweeps"])
    assert sgd["peak_lr"]["before"] == {"low": 0.001, "high": 3.0, "log": True}
    assert sgd["peak_lr"]["after"]["low"] == sgd["suggestion"]["low"]


def test_without_a_confident_suggestion_it_says_why(lrsearch: InProcess) -> None:
    """A weight decay that forgets faster than anything can be learned."""
    nothing = (*QUICK, "--set", "space.optimizer.sgd.weight_decay=1000.0")
    found = lrsearch("find", "digits", *nothing)
    assert found.code == 0, found.err
    assert "no confident suggestion: the loss fell clearly in 0 of 3 sweeps only" in found.out
    (sgd,) = lrsearch("find", "digits", *nothing, "--json").document["optimizers"]
    assert sgd["suggestion"] is None
    assert sgd["why_none"].startswith("the loss fell clearly in 0 of 3 sweeps only")
    assert sgd["peak_lr"]["after"] == sgd["peak_lr"]["before"]
    told = lrsearch(*RUN, "--detach", "--set", "space.optimizer.sgd.weight_decay=1000.0")
    assert told.code == 0, told.err
    with closing(opened()) as database:
        assert peak_lr(studies.get(database, "digits").spec.to_plain()) == sgd["peak_lr"]["before"]


def test_the_option_has_the_seeds_of_a_plan() -> None:
    assert signature(cli_find.find).parameters["seeds"].default == SweepPlan().n_seeds


def test_apply_writes_bounds_and_keeps_comments(lrsearch: InProcess) -> None:
    lrsearch("init")
    before = Path("study.toml").read_text("utf-8")
    found = lrsearch("find", *QUICK, "--apply", "study.toml")
    assert found.code == 0, found.err
    text = Path("study.toml").read_text("utf-8")
    changed = [(a, b) for a, b in zip(before.splitlines(), text.splitlines(), strict=True) if a != b]
    assert len(changed) == 1
    assert changed[0][0].startswith("peak_lr = ")
    bounds = peak_lr(tomllib.loads(text))
    assert 0.001 < bounds["low"] < 0.083 < bounds["high"] < 3.0
    assert "wrote study.toml" in found.err
    assert f"sgd: peak_lr {bounds['low']:g} to {bounds['high']:g}" in found.err
    # Again: what is suggested is what stands there.
    again = lrsearch("find", *QUICK, "--apply", "study.toml")
    assert "nothing to write into study.toml" in again.err
    assert Path("study.toml").read_text("utf-8") == text


def test_a_file_of_other_optimizers_stays_and_it_is_said_why(lrsearch: InProcess) -> None:
    Path("adam.toml").write_text("[space.optimizer.adam]\n", "utf-8")
    found = lrsearch("find", "digits", *QUICK, "--apply", "adam.toml")
    assert found.code == 0
    assert "nothing to write into adam.toml" in found.err
    assert "it searches with none of the optimizers swept: sgd" in found.err
    assert Path("adam.toml").read_text("utf-8") == "[space.optimizer.adam]\n"


@pytest.mark.parametrize("metric", ["loss", "balanced_accuracy"])
@pytest.mark.parametrize(
    ("peak_lr", "stays"), [("1.0", "peak_lr stays 1: that lies outside"), ("[0.01, 0.1, 1.0]", "peak_lr 0.1, of")]
)
def test_other_metrics_one_rate_and_a_choice_of_rates(
    metric: str, peak_lr: str, stays: str, lrsearch: InProcess
) -> None:
    text = f'[objective]\nmetric = "{metric}"\n[space.optimizer.sgd]\npeak_lr = {peak_lr}\n'
    Path("a.toml").write_text(text, "utf-8")
    found = lrsearch("find", "a.toml", "--seeds", "3")
    assert found.code == 0, found.err
    assert f"of this study: {stays}" in found.out


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("[space.optimizer.sgd]\npeak_lr = 0.1 # mine\n", "# mine"),
        ('# head\n[space]\noptimizer = ["sgd", "adam"] # two\nbatch_size = 32\n', "# two"),
        ('[space]\noptimizer = "sgd"\n', "[space"),
        ("epochs = 3 # few\n", "epochs = 3 # few"),
        ("[space]\nbatch_size = 64\n", "batch_size = 64"),
        ("[space.schedule.cosine]\n", "[space.schedule.cosine]"),
        ("space.optimizer.sgd.momentum = 0.8\n", "momentum = 0.8"),
        ("[space.optimizer]\nsgd = {momentum = 0.8}\n", "momentum = 0.8"),
        ("space = {optimizer = {sgd = {momentum = 0.8}}}\n", "momentum = 0.8"),
        ('space.optimizer = "sgd"\nepochs = 3\n[budget]\ntrials = 7\n', "trials = 7"),
        ("space.batch_size = 64\nepochs = 3\n", "space.batch_size = 64"),
        ("[space.optimizer.sgd.peak_lr]\nlow = 0.01\nhigh = 1.0\n[space.optimizer.adam] # two\n", "# two"),
        ("[space.optimizer.adam]\n[budget]\ntrials = 7\n[space.optimizer.sgd]\n", "trials = 7"),
        ("epochs = 3\r\n[space]\r\noptimizer = 'sgd'\r\n", "epochs = 3\r\n"),
    ],
)
def test_bounds_are_written_into_whatever_a_study_file_looks_like(text: str, kept: str, tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(text.encode())
    before = study_file.load(str(path))
    write(path, with_bounds(path, {"sgd": BOUNDS}))
    after = study_file.load(str(path))
    assert kept in path.read_bytes().decode()
    assert (after.epochs, after.budget, after.space.batch_size) == (
        before.epochs,
        before.budget,
        before.space.batch_size,
    )
    assert after.space.optimizers["sgd"]["peak_lr"] == BOUNDS
    assert list(after.space.optimizers) == list(before.space.optimizers)
    for name, fields in before.space.optimizers.items():
        for field, domain in fields.items():
            if (name, field) != ("sgd", "peak_lr"):
                assert after.space.optimizers[name][field] == domain


def test_a_choice_is_written_as_a_list(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("[space.optimizer.sgd]\npeak_lr = [0.01, 0.1, 0.3, 1.0]\n", "utf-8")
    assert "peak_lr = [0.1, 0.3]" in with_bounds(path, {"sgd": Choice((0.1, 0.3))})


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--apply", "study.txt"), "--apply must name a study file, which ends in .toml, got 'study.txt'"),
        (("--apply", "none.toml"), "none.toml: there is no such study file"),
        (("--chart", "a.pdf"), "--chart must name a file that ends in .png or .svg, got 'a.pdf'"),
        (("--chart", "none/a.png"), "none/a.png cannot be written: there is no folder none"),
        (("--batch-size", "5000"), "--batch-size must be at most the 800 training images, got 5000"),
        (("--seeds", "0"), "--seeds must be a whole number of at least 1 and at most 100, got 0"),
        (("--set", "space.optimizer=sdg"), "unknown key 'space.optimizer.sdg' (did you mean 'sgd'?)"),
        (("nothing",), "there is no study 'nothing'"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(argv: tuple[str, ...], said: str, lrsearch: InProcess) -> None:
    found = lrsearch("find", *argv)
    assert found.code == 2
    assert said in one_line(found)


def test_a_loop_of_ones_own_cannot_be_swept(lrsearch: InProcess) -> None:
    Path("loop.py").write_text(LOOP, "utf-8")
    Path("own.toml").write_text('[loop]\nname = "loop.py:train"\nn_train = 500\n', "utf-8")
    for command in (("find", "own.toml"), ("run", "--range-test", "own.toml")):
        found = lrsearch(*command)
        assert found.code == 2, found.err
        assert "is trained by a loop of your own" in one_line(found)


def test_a_dry_run_tests_nothing_and_knows_what_was_tested(lrsearch: InProcess) -> None:
    before = lrsearch(*RUN, "--dry-run", "--json")
    assert "the range test is not made: it would narrow the learning rates" in one_line(before)
    assert peak_lr(before.document["spec"]) == {"low": 0.001, "high": 3.0, "log": True}
    assert not Path("lrsearch.db").exists()
    assert lrsearch(*RUN, "--detach").code == 0
    after = lrsearch(*RUN, "--dry-run", "--json")
    assert after.code == 0, after.err
    assert peak_lr(after.document["spec"])["low"] > 0.001


def opened() -> Database:
    return Database(parse_place("lrsearch.db"))


def test_run_narrows_the_search_files_the_sweeps_and_goes_on_with_both(lrsearch: InProcess) -> None:
    first = lrsearch(*RUN)
    assert first.code == 0, first.err
    with closing(opened()) as database:
        study = studies.get(database, "digits")
        sweeps, bounds = range_tests.of(study), peak_lr(study.spec.to_plain())
        assert len(sweeps) == 5
        assert {sweep.optimizer for sweep in sweeps} == {"sgd"}
        assert all(sweep.worker and sweep.device and sweep.versions and sweep.started_at for sweep in sweeps)
        (found,) = findings(sweeps)
        assert found.suggestion is not None
        assert (bounds["low"], bounds["high"]) == (found.suggestion.low, found.suggestion.high)
        assert len(study.trials()) == 2
        assert all(bounds["low"] <= t.config.optimizer.peak_lr <= bounds["high"] for t in study.trials())
    again = lrsearch(*RUN[:3], "3", *RUN[4:])
    assert again.code == 0, again.err
    with closing(opened()) as database:
        study = studies.get(database, "digits")
        assert peak_lr(study.spec.to_plain()) == bounds
        assert range_tests.of(study) == sweeps
        assert len(study.trials()) == 3
    # Without the test the study is another one, and its name is taken.
    other = lrsearch("run", "--trials", "3", "--epochs", "2", "--set", "space.optimizer=sgd")
    assert other.code == 2
    assert "space.optimizer.sgd.peak_lr is " in one_line(other)
    assert "A range test has narrowed it: add --range-test to go on with it, or --name digits-2 to" in one_line(other)
    # The way out is named only where it is one.
    far = lrsearch("run", "--trials", "3", "--epochs", "2", "--set", "space.optimizer.sgd.peak_lr=1e-4")
    assert far.code == 2
    assert "Its trials cannot be compared with these: add --name digits-2" in one_line(far)


def test_a_study_that_was_filed_without_a_test_keeps_its_space(lrsearch: InProcess) -> None:
    lrsearch("run", "--detach", *RUN[2:])
    refused = lrsearch(*RUN)
    assert refused.code == 2
    assert "was filed without a range test, and a filed study keeps its space" in one_line(refused)


def test_the_sweeps_are_told_as_they_end(lrsearch: InProcess) -> None:
    told = lrsearch(*(word for word in RUN if word != "--quiet"), "--detach")
    assert told.code == 0
    assert told.out == "digits\n"
    assert "range test: 5 sweeps of the learning rate" in told.err
    assert "range test: sgd: peak_lr " in told.err


@pytest.fixture
def tested(lrsearch: InProcess) -> InProcess:
    """Runs commands beside a study that was filed with a range test."""
    assert lrsearch(*RUN).code == 0
    return lrsearch


def test_their_time_counts_in_the_hours_of_the_budget(tested: InProcess) -> None:
    with closing(opened()) as database:
        study = studies.get(database, "digits")
        trained = sum(epoch.seconds for trial in study.trials() for epoch in trial.metrics)
        swept = sum(sweep.seconds for sweep in range_tests.of(study))
        assert swept > 0
        with database.reading() as connection:
            assert budget.seconds(connection, study.id) == pytest.approx(trained + swept)
        assert range_tests.seconds(study) == pytest.approx(swept)
        study.set_budget(study.budget().model_copy(update={"hours": 1.0}))
        (counts,) = tally.read(database)
        assert counts.trained_seconds == pytest.approx(trained + swept)


def test_trials_lists_them_apart_with_their_cost(tested: InProcess) -> None:
    table = tested("trials").out
    assert "range test of sgd (5 sweeps of the learning rate, " in table
    document = tested("trials", "--json").document
    assert len(document["trials"]) == 2
    assert [one["role"] for one in document["range_tests"]] == [Role.RANGE_TEST.value] * 5
    assert all(one["seconds"] > 0 for one in document["range_tests"])
    assert len(tested("trials", "--format", "csv").out.splitlines()) == 3


def test_the_report_draws_them_and_says_what_they_cost(tested: InProcess) -> None:
    text = tested("report", "-f", "markdown").out
    assert "### Range test" in text
    assert "before the search and within its hours" in text
    document = tested("report", "-f", "json").document
    assert [one["name"] for one in document["range_tests"]] == ["sgd"]
    assert "Search from" in document["findings"]["range-sgd"]
    assert tested("report").code == 0
    page = Path("digits.html").read_text("utf-8")
    assert 'data-chart="range-sgd"' in page
    assert 'href="#range-sgd"' in page


def test_they_go_with_their_study(tested: InProcess) -> None:
    assert tested("delete", "digits", "--yes").code == 0
    with closing(opened()) as database, database.reading() as connection:
        assert connection.execute(tables.range_tests.select()).all() == []


def test_sweeps_that_are_no_numbers_are_filed_and_read_again(tmp_path: Path) -> None:
    sweep = RangeTest("sgd", 3, 64, (0.1, 0.2, 0.3), (2.3, nan, inf), 1.5, "w:1", "cpu", "v", datetime.now(UTC))
    with closing(Database(parse_place(str(tmp_path / "a.db")))) as database:
        (found,) = range_tests.of(filing.create(database, make_spec(), sweeps=[sweep]))
    assert found.losses[0] == 2.3
    assert all(map(isnan, found.losses[1:]))
    assert found.started_at == sweep.started_at
    assert (found.optimizer, found.seed, found.rates, found.worker) == ("sgd", 3, (0.1, 0.2, 0.3), "w:1")


def chart(lrsearch: InProcess, name: str, *more: str) -> Result:
    return lrsearch("find", "digits", "--seeds", "1", "--chart", name, *more)


@pytest.mark.slow
def test_the_sweeps_are_drawn_into_files(lrsearch: InProcess) -> None:
    one = chart(lrsearch, "sweeps.svg", "--set", "space.optimizer=sgd")
    assert one.code == 0, one.err
    assert b"Range test of sgd" in Path("sweeps.svg").read_bytes()
    both = chart(lrsearch, "sweeps.png")
    assert both.code == 0, both.err
    for name in ("sgd", "adamw"):
        assert Path(f"sweeps-{name}.png").read_bytes().startswith(b"\x89PNG")


def test_hours_that_sweeps_use_up_are_seen_as_used(tested: InProcess) -> None:
    with closing(opened()) as database:
        study = studies.get(database, "digits")
        trained = sum(epoch.seconds for trial in study.trials() for epoch in trial.metrics)
        swept = sum(sweep.seconds for sweep in range_tests.of(study))
        hours = (trained + swept / 2) / 3600
        study.set_budget(study.budget().model_copy(update={"trials": None, "hours": hours}))
        assert not study.is_open()
    assert tested("status", "--json").document["trained_hours"] == pytest.approx((trained + swept) / 3600)
    assert tested("status", "--watch").code == 0  # it sees that nothing more will come
