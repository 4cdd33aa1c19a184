"""When a network has died: the rule as functions, and the engine against loops by hand that train on to the end."""

import doctest
import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import torch
from command_line import InProcess
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from lrsearch.schedules import factors
from lrsearch.training import collapse, data, optimizers, serial
from lrsearch.training.collapse import (
    FLAT,
    At,
    Course,
    Guess,
    flat_since,
    guess_of,
    is_dead,
    settled,
    spread,
    stays_dead,
)
from lrsearch.training.data import DataConfig
from lrsearch.training.engine import Paused
from lrsearch.training.models import ModelConfig
from lrsearch.training.serial import Rules, SerialEngine
from lrsearch.trial import Divergence, EpochMetrics, OptimizerConfig, ScheduleConfig, TrialConfig

pytest_plugins = ["command_line"]

CPU = torch.device("cpu")
CONSTANT = ScheduleConfig("constant")
NAN, INF = math.nan, math.inf


# --- the functions ---------------------------------------------------------------------------------------------------


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(collapse).failed == 0


@given(st.integers(1, 10_000_000))
def test_a_proof_looks_at_no_more_images_than_an_epoch_has_but_for_a_few(n_train: int) -> None:
    least, most = collapse.PROOF_IMAGES
    n_images = collapse.proof_images(n_train)
    assert least <= n_images <= most
    assert collapse.PROOF_LOOKS * n_images <= max(n_train, collapse.PROOF_LOOKS * least)


def test_a_spread_is_that_of_the_widest_class_relative_to_the_largest_output() -> None:
    outputs = torch.tensor([[1.0, -4.0, 2.0], [1.5, -4.0, 0.0]])
    assert spread([outputs, torch.full((2, 3), 7.0)]).tolist() == [0.5, 0.0]


def test_batches_of_several_sizes_keep_their_order() -> None:
    batches = [torch.rand(n, 10) for n in (8, 8, 5, 1, 8)]
    found = spread(batches).tolist()
    assert found[3] == INF  # one image says nothing
    for i in (0, 1, 2, 4):
        widest = (batches[i].amax(0) - batches[i].amin(0)).amax() / batches[i].abs().amax()
        assert found[i] == pytest.approx(widest.item())


def test_outputs_that_are_no_numbers_or_all_zero_have_a_spread() -> None:
    nan, zero = spread([torch.full((3, 2), NAN), torch.zeros(3, 2)]).tolist()
    assert math.isnan(nan)
    assert zero == 0


@pytest.mark.parametrize(
    ("spreads", "run", "expected"),
    [
        ([], None, None),
        ([], 4, 4),
        ([0.5, 0.5], None, None),
        ([0.0], None, 10),
        ([0.0], 4, 4),
        ([0.5, 0.0, FLAT], None, 11),
        ([0.0, 0.5], 4, None),
        ([0.0, 0.5, 0.0], 4, 12),
        ([2 * FLAT], 4, None),
        ([NAN], 4, None),
        # A batch of one image neither begins nor ends it.
        ([INF], None, None),
        ([INF, 0.0], None, 11),
        ([0.0, INF, 0.0], None, 10),
        ([INF], 4, 4),
    ],
)
def test_since_when_outputs_are_flat_is_as_counted_by_hand(
    spreads: list[float], run: int | None, expected: int | None
) -> None:
    assert flat_since(spreads, 10, run) == expected


@given(
    spreads=st.lists(st.sampled_from([0.0, FLAT, 0.3, NAN, INF]), max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=6),
)
def test_since_when_does_not_depend_on_when_somebody_looked(spreads: list[float], cuts: list[int]) -> None:
    run: int | None = None
    for start, end in itertools.pairwise([0, *sorted(min(cut, len(spreads)) for cut in cuts), len(spreads)]):
        run = flat_since(spreads[start:end], start, run)
    assert run == flat_since(spreads, 0)


def test_a_guess_is_worth_the_entropy_of_the_class_frequencies() -> None:
    train = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    guess = guess_of(train, torch.tensor([0] * 30 + [1] * 70), 4)
    assert guess.entropy == pytest.approx(-sum(p * math.log(p) for p in (0.6, 0.3, 0.1)))
    assert guess.accuracy == pytest.approx(0.7 + 3 * math.sqrt(0.7 * 0.3 / 100))
    assert guess_of(train, train[:0], 4).accuracy == pytest.approx(0.6 + 3 * math.sqrt(0.6 * 0.4 / 100))


GUESS = Guess(2.3, 0.14)
START, BLOWN = At(0, 0.5), At(40, 0.7)


@pytest.mark.parametrize(
    ("course", "expected"),
    [
        # Blown up, then a guess: from the blow-up on, or from where the epochs of guessing began.
        (Course(50.0, BLOWN, 2.3, 2.3, 0.1, START), BLOWN),
        (Course(50.0, BLOWN, 2.3, 2.3, 0.1, At(100, 0.3)), At(100, 0.3)),
        # Learned, then a guess.
        (Course(2.6, BLOWN, 1.2, 2.3, 0.1, At(100, 0.3)), At(100, 0.3)),
        # Slow: its loss was never elsewhere.
        (Course(2.4, BLOWN, 2.29, 2.29, 0.1, START), None),
        (Course(4.5, BLOWN, 2.29, 2.29, 0.1, START), None),
        # No longer a guess.
        (Course(50.0, BLOWN, 2.0, 2.0, 0.1, None), None),
        (Course(50.0, BLOWN, 2.3, 2.3, 0.15, START), None),
        # Nothing to judge it by.
        (Course(50.0, BLOWN, 2.3, 2.3, NAN, START), None),
        (Course(), None),
    ],
)
def test_what_only_guesses_at_its_end_after_it_had_been_elsewhere_has_settled(
    course: Course, expected: At | None
) -> None:
    assert settled(course, 2.3, GUESS) == expected


def test_a_large_initial_loss_is_no_blow_up() -> None:
    """A network that begins at ten times the loss of a guess and comes down to it has been slow."""
    course = Course(24.0, At(1, 0.1), 2.3, 2.3, 0.1, START)
    assert settled(course, 23.0, GUESS) is None
    assert settled(replace(course, highest=50.0), 23.0, GUESS) is not None


def test_a_course_remembers_its_highest_loss_and_where_its_guessing_began() -> None:
    lrs = [0.1, 0.2, 0.3]
    course = Course().after([9.0, 2.0, 3.0], lrs, 0)
    assert (course.highest, course.highest_at) == (3.0, At(2, 0.3))  # not the loss it began with
    course = course.after_epoch(2.3, 0.1, At(0, 0.1), GUESS).after([5.0, 1.0, NAN], lrs, 3)
    assert (course.highest_at, course.guessing_from) == (At(3, 0.1), At(0, 0.1))
    course = course.after_epoch(2.2, 0.2, At(3, 0.1), GUESS).after([1.0], lrs, 6)
    assert (course.highest_at, course.guessing_from, course.lowest) == (At(3, 0.1), None, 2.2)
    course = course.after_epoch(2.9, 0.1, At(6, 0.1), GUESS)
    assert (course.guessing_from, course.last, course.accuracy) == (At(6, 0.1), 2.9, 0.1)


# --- the proof -------------------------------------------------------------------------------------------------------


def network(dead: bool = True) -> nn.Sequential:
    """Return 4 -> 3 -> 3 -> 2; the second layer is silent for every image of ``images`` if dead."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        model[0].weight.abs_()
        model[0].bias.fill_(0.1)
        model[2].weight.fill_(-1.0 if dead else 1.0)
        model[2].bias.fill_(0.1)
    return model


def images(n: int = 32) -> torch.Tensor:
    return torch.rand(n, 4, generator=torch.Generator().manual_seed(1))


def labels(n: int = 32) -> torch.Tensor:
    return torch.arange(n) % 2


def test_a_network_with_a_silent_layer_is_dead_and_another_is_not() -> None:
    assert is_dead(network(), [(images(), labels())])
    assert not is_dead(network(dead=False), [(images(), labels())])
    assert not is_dead(network(), [])


def test_one_image_that_wakes_a_unit_keeps_a_network_alive() -> None:
    with_one = images()
    with_one[17] = -5.0  # the first layer is silent for it, so the second hears its own bias
    assert not is_dead(network(), [(images(), labels()), (with_one, labels())])


def test_one_answer_for_every_image_is_not_death_while_a_gradient_arrives() -> None:
    model = network(dead=False)
    same = images()[:1].expand(32, 4)
    assert spread([model(same)]).item() <= FLAT
    assert not is_dead(model, [(same, labels())])


def test_a_network_that_is_sure_of_itself_is_not_dead_however_small_its_gradient() -> None:
    model = nn.Sequential(nn.Linear(1, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[-1e6], [1e6]]))
    x = torch.tensor([[-1.0], [1.0]] * 8)
    y = torch.tensor([0, 1] * 8)
    assert torch.autograd.grad(functional.cross_entropy(model(x), y), model[0].weight)[0].abs().max() == 0
    assert not is_dead(model, [(x, y)])


def goes_on(optimizer: torch.optim.Optimizer, model: nn.Sequential, lrs: list[float]) -> bool:
    return stays_dead(model, optimizer, optimizers.updater(optimizer), [[lr] for lr in lrs], images())


def test_weight_decay_that_shrinks_what_silences_a_layer_wakes_it() -> None:
    """Two layers shrink what they pass on by s times s, the bias by s: in the end the bias wins."""
    model = network()
    assert not goes_on(torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1), model, [0.1] * 600)
    model = network()
    assert goes_on(torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1), model, [0.1] * 5)
    assert goes_on(torch.optim.SGD(model.parameters(), lr=0.1), network(), [0.1] * 600)


def test_momentum_that_moves_on_wakes_a_layer() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for parameter in model.parameters():
        parameter.grad = -torch.ones_like(parameter)
    optimizer.step()  # the way it was going: every weight up
    assert is_dead(model, [(images(), labels())])
    assert not goes_on(optimizer, model, [0.2] * 50)


@pytest.mark.parametrize(
    ("optimizer", "moves", "comes_back"),
    [
        (OptimizerConfig("sgd", 0.1), 0, False),
        (OptimizerConfig("sgd", 0.1, momentum=0.9), 263, False),
        (OptimizerConfig("sgd", 0.1, weight_decay=5e-4), 1000, False),
        (OptimizerConfig("adam", 0.1), 263, False),
        (OptimizerConfig("adam", 0.1, beta1=0.0), 0, False),
        (OptimizerConfig("adamw", 0.1, weight_decay=0.01), 1000, False),
        (OptimizerConfig("rmsprop", 0.1), 0, False),
        (OptimizerConfig("adam", 0.1, weight_decay=5e-4), 1000, True),
        (OptimizerConfig("rmsprop", 0.1, weight_decay=5e-4), 1000, True),
    ],
)
def test_how_long_an_optimizer_moves_weights_without_a_gradient(
    optimizer: OptimizerConfig, moves: int, comes_back: bool
) -> None:
    assert collapse.moves_for(optimizer, 1000) == moves
    assert collapse.may_come_back(optimizer) is comes_back


# --- the engine ------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Results repeat bit for bit for one thread count."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def engine(model: str = "mlp", *, watch: bool = True) -> SerialEngine:
    rules = Rules(divergence_watch=watch, averaging=False)
    return SerialEngine(data.load(DataConfig("digits")), ModelConfig(model), CPU, rules)  # type: ignore[arg-type]


def told(config: TrialConfig, model: str = "mlp", *, watch: bool = True) -> list[EpochMetrics | Divergence | Paused]:
    return list(engine(model, watch=watch).start(config).epochs())


def by_hand(config: TrialConfig, model: str) -> tuple[list[bool], list[float], nn.Module]:
    """Train through whatever happens; return whether each batch had one output, the learning rates, the network."""
    splits, n = data.load(DataConfig("digits")), 800
    n_steps = config.epochs * math.ceil(n / config.batch_size)
    lrs = [float(factor) * config.optimizer.peak_lr for factor in factors(config.schedule, n_steps)]
    torch.manual_seed(config.seed)
    network = serial.models.build(ModelConfig(model), splits.shape, 10)  # type: ignore[arg-type]
    optimizer = optimizers.build(config.optimizer, network.parameters(), CPU)
    order = torch.Generator().manual_seed(config.seed)
    pictures, flat = splits.normalize(splits.train.images), []
    for _ in range(config.epochs):
        for rows in torch.randperm(n, generator=order).split(config.batch_size):
            for group in optimizer.param_groups:
                group["lr"] = lrs[len(flat)]
            optimizer.zero_grad()
            outputs = network(pictures[rows])
            flat.append(bool((outputs == outputs[0]).all()))
            functional.cross_entropy(outputs, splits.train.labels[rows]).backward()
            optimizer.step()
    return flat, lrs, network


DEAD = {
    "sgd": ("cnn", TrialConfig(OptimizerConfig("sgd", 2.8, weight_decay=5e-4), CONSTANT, 32, 6, 0)),
    "sgd with momentum": ("cnn", TrialConfig(OptimizerConfig("sgd", 0.7, 5e-4, momentum=0.9), CONSTANT, 64, 6, 0)),
    "adam": ("cnn", TrialConfig(OptimizerConfig("adam", 0.3), ScheduleConfig("cosine", 0.0, 0.01), 32, 6, 0)),
    "adamw": ("cnn", TrialConfig(OptimizerConfig("adamw", 0.2, 0.01), CONSTANT, 64, 6, 1)),
    "rmsprop": (
        "cnn",
        TrialConfig(
            OptimizerConfig("rmsprop", 0.024301279137630524),
            ScheduleConfig("linear", warmup_fraction=0.10229834049865204, final_fraction=0.004946951822748068),
            64,
            10,
            0,
        ),
    ),
    "mlp": ("mlp", TrialConfig(OptimizerConfig("sgd", 1.0, momentum=0.9), CONSTANT, 64, 8, 0)),
}


@pytest.mark.parametrize("name", DEAD)
def test_the_engine_names_the_update_from_which_a_loop_by_hand_has_one_output(name: str) -> None:
    model, config = DEAD[name]
    flat, lrs, network = by_hand(config, model)
    step = len(flat) - next(i for i, one in enumerate(reversed([False, *flat])) if not one)
    assert 0 < step < len(flat) / 2
    *before, found = told(config, model)
    assert isinstance(found, Divergence)
    steps_per_epoch = math.ceil(800 / config.batch_size)
    assert (found.collapsed, found.step, found.lr) == (True, step, lrs[step])
    assert found.epoch == step // steps_per_epoch + 1
    assert found.loss == pytest.approx(math.log(10), abs=1.5)
    # Told soon: within an epoch and half of one, for the batches after it may still have had an image that was alive.
    assert len(before) <= found.epoch + 1
    assert len(before) < config.epochs
    # What was left out would have changed nothing: trained through, the network knows nothing.
    splits = data.load(DataConfig("digits"))
    outputs = network(splits.normalize(splits.train.images)).detach()
    assert torch.equal(outputs, outputs[:1].expand_as(outputs))


@pytest.mark.parametrize("name", DEAD)
def test_up_to_its_end_the_watched_training_is_that_without_the_watch_bit_for_bit(name: str) -> None:
    model, config = DEAD[name]
    *watched, _ = told(config, model)
    for a, b in zip(watched, told(config, model, watch=False), strict=False):
        assert isinstance(a, EpochMetrics)
        assert isinstance(b, EpochMetrics)
        assert replace(a, seconds=0.0) == replace(b, seconds=0.0)


@pytest.mark.parametrize("every", [1, 7, 1000])
def test_where_it_collapsed_does_not_depend_on_when_somebody_looked(
    every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, config = DEAD["sgd"]
    expected = told(config, model)[-1]
    monkeypatch.setattr(serial, "CHECK_EVERY_STEPS", every)
    found = told(config, model)[-1]
    assert isinstance(found, Divergence)
    assert isinstance(expected, Divergence)
    assert (found.step, found.lr, found.collapsed) == (expected.step, expected.lr, True)


LIVES = {
    # From the recorded trials: dead for whole epochs, woken by Adam's and RMSprop's own weight decay.
    "adam, dead for two epochs": (
        "cnn",
        TrialConfig(
            OptimizerConfig("adam", 0.029482945975534424, weight_decay=5e-4),
            ScheduleConfig("linear", final_fraction=0.01336048646581097),
            32,
            10,
            3,
        ),
        0.5,
    ),
    "rmsprop, nearly dead for two epochs": (
        "cnn",
        TrialConfig(
            OptimizerConfig("rmsprop", 0.05557138532115878, weight_decay=5e-4),
            ScheduleConfig("one_cycle", final_fraction=0.083, rise_fraction=0.3, initial_fraction=0.04),
            32,
            20,
            1,
        ),
        0.8,
    ),
    "slow": ("cnn", TrialConfig(OptimizerConfig("sgd", 0.0015), CONSTANT, 32, 4, 0), 0.05),
    "slower": ("mlp", TrialConfig(OptimizerConfig("adam", 1e-7), CONSTANT, 32, 4, 0), 0.05),
    "a rate of nothing": ("mlp", TrialConfig(OptimizerConfig("sgd", 1e-300), CONSTANT, 32, 4, 0), 0.05),
    "warming up to its end": (
        "mlp",
        TrialConfig(OptimizerConfig("sgd", 1e-3), ScheduleConfig("constant", warmup_fraction=0.95), 32, 4, 0),
        0.05,
    ),
    "batches of one image": ("mlp", TrialConfig(OptimizerConfig("sgd", 1e-3), CONSTANT, 1, 1, 0), 0.5),
    "few images alive": (
        "mlp",
        TrialConfig(
            OptimizerConfig("adam", 0.7524452950339141),
            ScheduleConfig("inverse_sqrt", warmup_fraction=0.17648293513196642, final_fraction=0.07075106977389818),
            64,
            5,
            1,
        ),
        0.25,
    ),
}


@pytest.mark.parametrize("name", LIVES)
def test_a_training_that_lives_or_can_come_back_is_never_called_collapsed(name: str) -> None:
    model, config, accuracy = LIVES[name]
    last = told(config, model)[-1]
    if isinstance(last, Divergence):
        # Such trainings hang by a thread: on another processor, or with another number of threads, one dies in truth.
        *_, last = told(config, model, watch=False)
        assert isinstance(last, EpochMetrics)
        assert last.val_accuracy < 0.2
        assert last.train_loss > 0.98 * math.log(10)
        pytest.skip("on this processor it dies, and stays so when nobody watches")
    assert isinstance(last, EpochMetrics), last
    assert last.epoch == config.epochs
    assert last.val_accuracy >= accuracy


def test_a_training_that_ends_as_a_guess_after_a_blow_up_is_called_collapsed_at_its_end() -> None:
    """A few images keep outputs of their own, so that it could have come back until then."""
    config = TrialConfig(OptimizerConfig("rmsprop", 0.15484494025757983), CONSTANT, 64, 10, 3)
    *before, found = told(config, "cnn")
    assert isinstance(found, Divergence)
    assert found.collapsed
    assert (len(before), found.step) == (10, 1)
    assert found.loss == pytest.approx(math.log(10), abs=0.03)
    assert all(isinstance(row, EpochMetrics) for row in told(config, "cnn", watch=False))


@pytest.mark.parametrize("name", ["sgd", "mlp", "at its end"])
def test_a_resumed_training_collapses_as_one_that_was_never_interrupted(name: str) -> None:
    class Always:
        def is_set(self) -> bool:
            return True

    settles = "cnn", TrialConfig(OptimizerConfig("rmsprop", 0.15484494025757983), CONSTANT, 64, 10, 3)
    model, config = DEAD.get(name, settles)
    expected = repr(told(config, model)[-1])
    used = engine(model)
    checkpoint: bytes | None = None
    found: object = None
    for _ in range(1000):  # from checkpoint to checkpoint, one update each
        training = used.start(config, checkpoint, Always())
        updates = 0
        for one in training.epochs():
            found = one
            updates += isinstance(one, Paused)
            if updates == 8:
                checkpoint = training.checkpoint()
                break
        else:
            break
    assert repr(found) == expected


def test_without_the_watch_nothing_is_called_collapsed() -> None:
    model, config = DEAD["sgd"]
    assert [type(one) for one in told(config, model, watch=False)] == [EpochMetrics] * config.epochs


# --- a study ---------------------------------------------------------------------------------------------------------


def test_collapsed_trials_count_as_diverged_and_teach_the_sampler(lrsearch: InProcess, tmp_path: Path) -> None:
    narrow = ["space.optimizer=sgd", "space.optimizer.sgd.peak_lr=0.7", "space.schedule=constant", "model.name=cnn"]
    narrow += ["space.batch_size=64", "space.warmup_fraction=0.0", "sampler.portfolio=false"]
    sets = [word for one in narrow for word in ("--set", one)]
    done = lrsearch("run", "--trials", "1", "--epochs", "6", *sets, "--threads", "1")
    assert done.code == 3, done.err  # there is no answer
    assert "too high" in done.out
    outcome = lrsearch("show", "0", "--json").document["trial"]
    assert (outcome["state"], outcome["reason"]) == ("diverged", "collapsed")
    assert outcome["message"].startswith(
        f"collapsed at step {outcome['step']}, lr 0.7: a guess for every image, loss 2."
    )
    assert outcome["message"] in done.err
    assert "collapsed" in lrsearch("trials").out
    assert "collapsed at step" in lrsearch("show", "0").out
    trial = optuna.load_study(study_name="digits", storage=f"sqlite:///{tmp_path / 'lrsearch.db'}").trials[0]
    assert trial.state == optuna.trial.TrialState.PRUNED
    assert trial.user_attrs["lrsearch:outcome"] == "diverged"
