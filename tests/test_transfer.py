"""The learning rate elsewhere: planted exponents come out, too little says so, and a few real trainings settle it."""

import itertools
import json
import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import InProcess
from conftest import FakeEngine, claims_of, learning, make_spec, url_of, working
from trials_by_hand import config, spec
from trials_by_hand import trial as by_hand

from lrsearch.analysis.ranking import ranked
from lrsearch.analysis.transfer import LEAST_SEARCHED, Elsewhere, Scaling, elsewhere, samples
from lrsearch.analysis.transfer_plan import OCTAVES, is_evidence, measuring, scales, seconds
from lrsearch.domain import Choice, contains
from lrsearch.errors import StudyFileError, UsageError
from lrsearch.spec.study import StudySpec, differences
from lrsearch.store import filing
from lrsearch.store.storage import Database
from lrsearch.trial import Outcome, Reason, Role, State, Trial, TrialConfig

pytest_plugins = ["command_line"]

SPEC = make_spec(name="planted", space={"batch_size": [32, 64, 128], "optimizer": "sgd", "schedule": "cosine"})


def made(number: int, setting: TrialConfig, state: State, value: float = 0.9) -> Trial:
    return replace(by_hand(number, state, value, lr=setting.optimizer.peak_lr), config=setting)


def planted(
    exponent: float, seed: int = 0, n: int = 60, sizes: tuple[int, ...] = (32, 64, 128), noise: float = 0.005
) -> list[Trial]:
    """Return trials whose best rate is .05 at batch 64 and grows so; far above it they diverge."""
    rng = random.Random(seed)
    out = []
    for number in range(n):
        size, lr = rng.choice(sizes), 10 ** rng.uniform(-3, 0)
        octaves = 3.32 * (math.log10(lr / 0.05) - exponent * math.log10(size / 64))
        value = 0.97 - 0.01 * math.log10(size) - 0.012 * octaves**2 + rng.gauss(0, noise)
        setting = config(lr, batch_size=size)
        if octaves > 2.5:
            out.append(made(number, setting, State.DIVERGED))
        else:
            out.append(made(number, setting, State.COMPLETE, value=max(0.1, value)))
    return out


def found(trials: list[Trial], target: int = 256, scaling: Scaling = Scaling.BATCH_SIZE) -> Elsewhere:
    out = elsewhere([(SPEC, trials)], scaling, "sgd", target)
    assert out is not None
    return out


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_a_planted_exponent_lies_in_its_interval(exponent: float) -> None:
    inside, near = 0, 0
    for seed in range(10):
        # Downwards nothing levels off.
        shift = found(planted(exponent, seed), target=16).shift
        assert shift is not None
        truth = 0.05 * (16 / 64) ** exponent
        inside += shift.exponent.low <= exponent <= shift.exponent.high
        near += truth / 2 < shift.lr.value < truth * 2
    assert inside >= 7, "of 10, at 90 %"
    assert near >= 8, "within an octave"


def measured_evenly(exponent: float, seed: int) -> list[Trial]:
    """Return seven trials an octave apart at each of two sizes, their middle not where the best rate is."""
    rng = random.Random(seed)
    out: list[Trial] = []
    for size, octave in itertools.product((32, 64), range(-3, 4)):
        lr = 0.05 * 2**octave * (size / 64) ** 0.75
        octaves = 3.32 * (math.log10(lr / 0.05) - exponent * math.log10(size / 64))
        state = State.DIVERGED if octaves > 2.5 else State.COMPLETE
        value = 0.96 - 0.012 * octaves**2 + rng.gauss(0, 0.01)
        out.append(made(len(out), config(lr, batch_size=size), state, value=max(0.1, value)))
    return out


def n_inside(trials: list[list[Trial]], exponents: list[float], *, evenly: bool) -> tuple[int, int]:
    """Return how many predictions there are, and how many hold the true rate."""
    n = inside = 0
    for one, exponent in zip(trials, exponents, strict=True):
        out = elsewhere([(SPEC, one)], Scaling.BATCH_SIZE, "sgd", 16, evenly=evenly)
        if out is not None and out.shift is not None:
            n += 1
            inside += out.shift.lr.low <= 0.05 * (16 / 64) ** exponent <= out.shift.lr.high
    return n, inside


@pytest.mark.slow
def test_intervals_hold_the_truth_from_as_many_trials_on_as_are_asked_for() -> None:
    exponents = [(0.0, 0.5, 1.0)[seed % 3] for seed in range(40)]

    def searched(size: int) -> list[list[Trial]]:
        return [planted(a, i, n=size, sizes=(32, 64), noise=0.01) for i, a in enumerate(exponents)]

    even = n_inside([measured_evenly(a, i) for i, a in enumerate(exponents)], exponents, evenly=True)
    enough = n_inside(searched(LEAST_SEARCHED), exponents, evenly=False)
    few = n_inside(searched(16), exponents, evenly=True)
    print(f"hold the truth, of so many: evenly {even}, {LEAST_SEARCHED} of a search {enough}, 16 of a search {few}")
    for n, inside in (even, enough):
        assert n >= 30
        assert inside >= 0.8 * n
    assert few[1] / few[0] < 0.75, "so few would claim too much"
    assert n_inside(searched(16), exponents, evenly=False) == (0, 0)


def test_upwards_the_rate_may_stand_still_or_go_on_growing() -> None:
    shift = found(planted(1.0, n=120), target=512).shift
    assert shift is not None
    there, grown = 0.05 * 128 / 64, 0.05 * 512 / 64
    assert shift.lr.low < there * 1.1 < shift.lr.value < grown < shift.lr.high


def test_the_rules_start_from_the_nearest_batch_size_that_is_not_the_target() -> None:
    out = found(planted(0.5), target=128)
    assert out.base.scale == 64
    assert out.base.best_lr is not None
    assert {rule.name: rule.lr / out.base.best_lr for rule in out.rules} == {
        "linear": 2.0,
        "square root": pytest.approx(2**0.5),
        "unchanged": 1.0,
    }
    assert [rule.name for rule in out.rules if rule.usual] == ["linear"]


def test_the_square_root_is_the_usual_rule_of_adaptive_optimizers() -> None:
    trials = [replace(one, config=config(one.config.optimizer.peak_lr, "adam")) for one in planted(0.5)]
    out = elsewhere([(SPEC, trials)], Scaling.BATCH_SIZE, "adam", 256)
    assert out is not None
    assert [rule.source[:8] for rule in out.rules if rule.usual] == ["Malladi "]


@pytest.mark.parametrize(
    ("trials", "target", "words"),
    [
        (planted(0.5, sizes=(64,)), 256, "at each of two numbers of images a batch, and 60 at 64 is all there is"),
        (planted(0.5, n=8), 256, "it takes 6 trials (4 of them trained through)"),
        (planted(0.5, n=38), 256, "it takes 40 trials of a search in all, and there are 38"),
        (planted(0.5, sizes=(32, 64)), 1024, "1024 lies too far beyond"),
        (planted(0.5, noise=0.05), 256, "leave the learning rate there open from"),
        (planted(3.0, sizes=(64, 128)), 256, "no exponent from -1.5 to 2 fits"),
        ([t for t in planted(0.5, n=300) if t.config.optimizer.peak_lr < 0.02], 256, "widen their range"),
    ],
)
def test_too_little_says_what_is_lacking(trials: list[Trial], target: int, words: str) -> None:
    out = found(trials, target)
    assert out.shift is None
    assert words in out.lacking
    assert len(out.rules) == 3


def test_what_is_no_evidence_is_left_out() -> None:
    one = made(0, config(0.1, batch_size=64), State.COMPLETE, value=0.9)
    pruned = made(1, config(0.01, batch_size=64), State.PRUNED, value=0.5)
    test = replace(made(2, config(0.01, batch_size=64), State.COMPLETE, value=0.99), role=Role.RANGE_TEST)
    overflow = replace(
        made(3, config(1.0, batch_size=64), State.DIVERGED),
        outcome=Outcome(State.DIVERGED, Reason.OVERFLOWING, None, 1),
    )
    adam = made(4, config(0.1, "adam", batch_size=64), State.COMPLETE, value=0.95)
    kept = samples([(SPEC, [one, pruned, test, overflow, adam])], Scaling.BATCH_SIZE, "sgd")
    assert [(point.lr, point.short) for point in kept] == [(0.1, 0.0)]
    assert elsewhere([(SPEC, [pruned])], Scaling.BATCH_SIZE, "sgd", 256) is None


def test_epochs_come_from_studies_that_differ_in_nothing_else() -> None:
    ten, five = make_spec(epochs=10), make_spec(name="b", epochs=5)
    assert is_evidence(ten, five, Scaling.EPOCHS)
    assert not is_evidence(ten, five, Scaling.BATCH_SIZE)
    assert is_evidence(ten, make_spec(name="c", epochs=5, pruner={"name": "asha"}, seed=3), Scaling.EPOCHS)
    assert not is_evidence(ten, make_spec(name="c", epochs=5, model={"name": "cnn"}), Scaling.EPOCHS)
    fewer = make_spec(name="d", epochs=10, dataset={"limit": 500, "validation_fraction": 0.4})
    assert is_evidence(ten, fewer, Scaling.IMAGES)
    four, eight = (make_spec(loop={"name": "mine.py:loop", "n_train": n}) for n in (400, 800))
    assert is_evidence(four, eight, Scaling.IMAGES)
    assert not is_evidence(four, eight, Scaling.EPOCHS)


@pytest.mark.parametrize(
    ("scaling", "here", "target", "measured"),
    [
        (Scaling.BATCH_SIZE, 64, 512, (64, 512)),
        (Scaling.BATCH_SIZE, 64, 16, (16, 64)),
        (Scaling.EPOCHS, 10, 20, (5, 10)),
        (Scaling.EPOCHS, 10, 40, (5, 10)),
        (Scaling.EPOCHS, 10, 41, (2, 5, 10)),
        (Scaling.EPOCHS, 11, 44, (5, 11)),  # 6 and 11 would be too near to each other for 44
        (Scaling.EPOCHS, 10, 4, (4, 10)),
        (Scaling.IMAGES, 800, 60_000, (50, 100, 200, 400, 800)),
    ],
)
def test_measured_is_where_it_costs_no_more_than_the_study(
    scaling: Scaling, here: int, target: int, measured: tuple[int, ...]
) -> None:
    assert scales(scaling, here, target) == measured


WINNER = made(3, config(0.08, batch_size=32), State.COMPLETE, value=0.97)


@pytest.mark.parametrize(
    ("scaling", "target", "names"),
    [
        (Scaling.BATCH_SIZE, 256, ["by-hand-transfer-batch-size-32", "by-hand-transfer-batch-size-256"]),
        (Scaling.EPOCHS, 20, ["by-hand-transfer-epochs-5", "by-hand-transfer-epochs-10"]),
        (Scaling.IMAGES, 1600, ["by-hand-transfer-images-400", "by-hand-transfer-images-800"]),
    ],
)
def test_what_is_measured_differs_in_nothing_but_scale_and_rate(
    scaling: Scaling, target: int, names: list[str]
) -> None:
    plan = measuring(spec(), WINNER, scaling, target)
    assert [one.name for one in plan.specs] == names
    for one, other in itertools.pairwise(plan.specs):
        assert is_evidence(one, other, scaling), differences(one, other)
    rates = [one.space.optimizers["sgd"]["peak_lr"] for one in plan.specs]
    for one, tried in zip(plan.specs, rates, strict=True):
        assert isinstance(tried, Choice)
        assert one.budget.trials == len(OCTAVES) == len(tried.values)
        assert list(one.space.schedules) == [WINNER.config.schedule.family]
        assert one.facts.n_validation == 200
    assert contains(rates[-1 if target > 256 or scaling == Scaling.EPOCHS else 0], 0.08)


def test_the_time_is_that_of_the_trials_so_far() -> None:
    plan = measuring(spec(), WINNER, Scaling.EPOCHS, 20)
    assert plan.n_images == 7 * (5 + 10) * 800
    per_epoch = sum(row.seconds for row in WINNER.metrics) / len(WINNER.metrics)
    assert seconds([WINNER], 800, plan) == pytest.approx(per_epoch * 7 * 15)
    assert seconds([], 800, plan) is None


@pytest.mark.parametrize(
    ("study", "scaling", "target", "words"),
    [
        (spec(), Scaling.BATCH_SIZE, 32, "nothing is to transfer"),
        (spec(epochs=1), Scaling.EPOCHS, 3, "no second scale"),
        (spec(epochs=2), Scaling.EPOCHS, 9, "9 lies too far beyond the epochs that are measured, 1 to 2"),
        (spec(name="a" * 90), Scaling.EPOCHS, 20, "at most 100 characters"),
    ],
)
def test_what_cannot_be_measured_is_refused(study: StudySpec, scaling: Scaling, target: int, words: str) -> None:
    winner = replace(WINNER, config=replace(WINNER.config, epochs=study.epochs))
    with pytest.raises(UsageError, match=words):
        measuring(study, winner, scaling, target)


def test_a_batch_larger_than_the_data_is_refused_in_a_sentence() -> None:
    with pytest.raises(StudyFileError, match="must be at most the 800 training images of digits, got 1024"):
        measuring(spec(), WINNER, Scaling.BATCH_SIZE, 1024)


# The command


@pytest.fixture
def at(database: Database, lrsearch: InProcess, monkeypatch: pytest.MonkeyPatch) -> InProcess:
    """Runs commands on the database of the test, which only the environment names."""
    monkeypatch.setenv("LRSEARCH_STORAGE", url_of(database.place))
    return lrsearch


def test_it_prints_what_the_trials_of_a_study_say(database: Database, at: InProcess) -> None:
    space = {"batch_size": [16, 32, 64], "optimizer": {"sgd": {"peak_lr": {"low": 0.001, "high": 3.0, "log": True}}}}
    study = filing.create(database, make_spec(budget={"trials": 60}, space=space))
    list(working(claims_of(study), FakeEngine(learning)))
    told = at("transfer", "probe", "--batch-size", "128", "--json").document
    assert (told["schema"], told["scaling"], told["target"]) == ("lrsearch/transfer/1", "batch_size", 128)
    (sgd,) = told["optimizers"]
    assert abs(sgd["exponent"]["value"]) < 0.2, "the made-up accuracy is best at .1 at any size"
    assert 0.05 < sgd["lr"]["low"] < sgd["lr"]["value"] < sgd["lr"]["high"] < 0.2
    out = at("transfer", "--batch-size", "128").out
    for words in ("at batch size 128", "predicted", "exponent", "linear", "square root", "Goyal et al. 2017"):
        assert words in out
    told = at("transfer", "--epochs", "8", "--json").document
    assert told["optimizers"][0]["lr"] is None
    assert "two numbers of epochs" in told["optimizers"][0]["why_none"]


@pytest.mark.parametrize("argv", [(), ("--epochs", "3", "--images", "300")])
def test_one_change_is_asked_about(argv: tuple[str, ...], database: Database, at: InProcess) -> None:
    filing.create(database, make_spec())
    result = at("transfer", *argv)
    assert result.code == 2
    assert "give one of --batch-size, --epochs, --images" in result.err


def test_images_are_not_compared_where_a_loop_only_says_its_updates(database: Database, at: InProcess) -> None:
    space = {"batch_size": 32}
    study = filing.create(database, make_spec(loop={"name": "mine.py:loop", "steps_per_epoch": 13}, space=space))
    list(working(claims_of(study), FakeEngine(learning)))
    result = at("transfer", "probe", "--images", "900")
    assert (result.code, "give --batch-size or --epochs" in result.err) == (2, True)


def test_what_was_measured_with_another_setting_is_not_mixed_with_that_of_the_best(
    database: Database, at: InProcess
) -> None:
    study = filing.create(database, make_spec(budget={"trials": 12}, space={"optimizer": "sgd", "batch_size": 32}))
    list(working(claims_of(study), FakeEngine(learning)))
    best, *_, worst = ranked(study.trials(), "maximize")
    assert best.config.schedule != worst.config.schedule
    before = measuring(study.spec, worst, Scaling.BATCH_SIZE, 64).specs[0]
    filing.create(database, before)
    result = at("transfer", "probe", "--batch-size", "64", "--measure")
    assert result.code == 2
    assert f"delete it (`lrsearch delete {before.name}`), and it is measured anew" in result.err


def test_a_study_without_a_complete_trial_says_nothing(database: Database, at: InProcess) -> None:
    filing.create(database, make_spec())
    for more in ((), ("--measure",)):
        result = at("transfer", "--epochs", "8", *more)
        assert (result.code, "nothing is to transfer" in result.err) == (3, True)


@pytest.mark.slow
def test_a_few_real_trainings_settle_it_and_are_not_repeated(at: InProcess, tmp_path: Path) -> None:
    small = ("--trials", "3", "--epochs", "4", "--set", "dataset.limit=400", "--set", "space.optimizer=sgd")
    assert at("run", "digits", *small, "--pruner", "none", "--quiet").code == 0
    first = at("transfer", "digits", "--epochs", "8", "--measure", "--json")
    assert "14 trainings in 2 studies (digits-transfer-epochs-2, digits-transfer-epochs-4)" in first.err
    (sgd,) = first.document["optimizers"]
    assert [(one["scale"], one["n_trials"]) for one in sgd["measured"]] == [(2, 7), (4, 7)]
    again = at("transfer", "digits", "--epochs", "8", "--measure", "--json")
    assert json.loads(again.out) == json.loads(first.out)
    assert "epoch" not in again.err.partition("\n")[2].replace("transfer-epochs", "")
