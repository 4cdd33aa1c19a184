"""When a training is given up: first_divergence as a function of losses, and the engine against a loop by hand."""

import doctest
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from lrsearch.schedules import factors
from lrsearch.training import data, optimizers, serial, watch
from lrsearch.training.data import DataConfig
from lrsearch.training.models import ModelConfig
from lrsearch.training.serial import Rules, SerialEngine
from lrsearch.training.watch import FAR_ABOVE, PATIENCE_STEPS, first_divergence
from lrsearch.trial import Divergence, EpochMetrics, OptimizerConfig, ScheduleConfig, TrialConfig

NAN, INF = math.nan, math.inf
INITIAL = 2.0
LIMIT = 6.0
"""Three times that."""
FAR = 6.001


# --- the function ----------------------------------------------------------------------------------------------------


def test_the_limits_are_those_that_the_tables_below_are_written_for() -> None:
    assert (FAR_ABOVE * INITIAL, PATIENCE_STEPS) == (LIMIT, 20)


def test_the_examples_in_the_docstring_hold() -> None:
    assert doctest.testmod(watch).failed == 0


@pytest.mark.parametrize(
    ("losses", "run", "expected"),
    [
        # Nothing to see.
        ([], 0, (None, 0)),
        ([], 7, (None, 7)),
        ([2.0, 1.0, 0.1], 0, (None, 0)),
        ([2.3] * 100, 0, (None, 0)),  # learns nothing, and is no worse than a guess
        ([LIMIT] * 100, 0, (None, 0)),  # at the limit is not above it
        # Not finite: at once.
        ([NAN], 0, (0, 0)),
        ([INF], 0, (0, 0)),
        ([-INF], 0, (0, 0)),
        ([2.0, 1.0, NAN, INF], 0, (2, 0)),
        ([FAR, INF, NAN], 18, (1, 0)),
        # Far above: the twentieth in a row.
        ([FAR] * 19, 0, (None, 19)),
        ([FAR] * 20, 0, (19, 20)),
        ([FAR] * 25, 0, (19, 20)),
        ([1e30] * 20, 0, (19, 20)),
        ([1.0] * 5 + [FAR] * 20, 0, (24, 20)),
        # A spike that recovers in time begins again from nothing.
        ([FAR] * 19 + [LIMIT] + [FAR] * 19, 0, (None, 19)),
        ([FAR] * 19 + [1.0], 0, (None, 0)),
        ([FAR] * 19 + [1.0] + [FAR] * 20, 0, (39, 20)),
        # What the preceding call left over counts.
        ([FAR], 19, (0, 20)),
        ([FAR], 18, (None, 19)),
        ([1.0, FAR], 19, (None, 1)),
        ([FAR] * 3 + [1.0], 17, (2, 20)),
    ],
)
def test_where_it_diverged_is_as_counted_by_hand(
    losses: list[float], run: int, expected: tuple[int | None, int]
) -> None:
    assert first_divergence(losses, run, initial_loss=INITIAL) == expected


@st.composite
def stretches(draw: st.DrawFn) -> list[float]:
    """Draw losses that come in stretches, so that runs of twenty far ones happen."""
    value = st.sampled_from([0.0, 1.0, LIMIT, FAR, 50.0, 1e300]) | st.floats(0, 20) | st.sampled_from([NAN, INF, -INF])
    parts = draw(st.lists(st.tuples(value, st.integers(1, 24)), max_size=6))
    return [loss for loss, n in parts for _ in range(n)]


def counted(losses: Sequence[float], initial_loss: float) -> int | None:
    """Find the step in the plainest way: look back from every update."""
    for i in range(len(losses)):
        last = losses[max(0, i - 19) : i + 1]
        if not math.isfinite(losses[i]) or (len(last) == 20 and all(loss > 3 * initial_loss for loss in last)):
            return i
    return None


@given(losses=stretches())
def test_one_look_at_the_end_finds_what_looking_back_from_every_update_finds(losses: list[float]) -> None:
    index, _ = first_divergence(losses, initial_loss=INITIAL)
    assert index == counted(losses, INITIAL)


@given(losses=stretches(), cuts=st.lists(st.integers(0, 150), max_size=8))
def test_the_step_does_not_depend_on_when_somebody_looked(losses: list[float], cuts: list[int]) -> None:
    run, found = 0, None
    ends = sorted(min(cut, len(losses)) for cut in cuts)
    for start, end in itertools.pairwise([0, *ends, len(losses)]):
        index, run = first_divergence(losses[start:end], run, initial_loss=INITIAL)
        if index is not None:
            found = start + index
            break
    assert (found, run) == first_divergence(losses, initial_loss=INITIAL)


@given(losses=stretches(), later=stretches())
def test_what_comes_later_does_not_move_the_step(losses: list[float], later: list[float]) -> None:
    index, _ = first_divergence(losses, initial_loss=INITIAL)
    if index is not None:
        assert first_divergence(losses + later, initial_loss=INITIAL)[0] == index


# --- the engine ------------------------------------------------------------------------------------------------------

SPLITS = data.load(DataConfig("digits", scaling="unit"))
CPU = torch.device("cpu")
HIDDEN = 32
N_TRAIN = 800


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Results repeat bit for bit for one thread count."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def engine(*, divergence_watch: bool = True, hidden: int = HIDDEN) -> SerialEngine:
    return SerialEngine(SPLITS, ModelConfig("mlp", (hidden,)), CPU, Rules(divergence_watch=divergence_watch))


def losses_by_hand(config: TrialConfig, hidden: int = HIDDEN) -> tuple[list[float], list[float]]:
    """Return the loss and the learning rate of every update, trained through whatever happens."""
    n_steps = config.epochs * math.ceil(N_TRAIN / config.batch_size)
    lrs = [float(factor) * config.optimizer.peak_lr for factor in factors(config.schedule, n_steps)]
    torch.manual_seed(config.seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, hidden), nn.ReLU(), nn.Linear(hidden, 10))
    optimizer = optimizers.build(config.optimizer, model.parameters(), CPU)
    order = torch.Generator().manual_seed(config.seed)
    images = SPLITS.train.images.float() / 255
    losses: list[float] = []
    for _ in range(config.epochs):
        for rows in torch.randperm(N_TRAIN, generator=order).split(config.batch_size):
            for group in optimizer.param_groups:
                group["lr"] = lrs[len(losses)]
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(images[rows]), SPLITS.train.labels[rows])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses, lrs


CONSTANT = ScheduleConfig("constant")


@dataclass(frozen=True)
class Case:
    """A training that diverges: how, and within how many updates."""

    optimizer: OptimizerConfig
    schedule: ScheduleConfig = CONSTANT
    finite: bool = True
    earliest: int = 0
    latest: int = 30
    batch_size: int = 64


DIVERGING = {
    "sgd far too high": Case(OptimizerConfig("sgd", 1e4)),
    "sgd in batches of 7, several looks an epoch": Case(OptimizerConfig("sgd", 1e4), batch_size=7),
    "sgd not finite after one update": Case(OptimizerConfig("sgd", 1e20), finite=False, latest=1),
    "sgd far, and before long not finite": Case(OptimizerConfig("sgd", 1e10), finite=False, earliest=2, latest=10),
    "sgd with momentum": Case(OptimizerConfig("sgd", 1e3, momentum=0.9)),
    "adam": Case(OptimizerConfig("adam", 30.0)),
    "adamw": Case(OptimizerConfig("adamw", 1e4)),
    "rmsprop": Case(OptimizerConfig("rmsprop", 3.0)),
    "sgd under a long warm-up, in a later epoch": Case(
        OptimizerConfig("sgd", 1e4), ScheduleConfig("constant", warmup_fraction=0.99), latest=50, batch_size=100
    ),
    "sgd late in the triangle": Case(
        OptimizerConfig("sgd", 1e20),
        ScheduleConfig("triangular", final_fraction=0.0, cycles=1),
        finite=False,
        earliest=1,
        latest=20,
    ),
    "sgd in the last epoch, late in its only cycle": Case(
        OptimizerConfig("sgd", 1e4),
        ScheduleConfig("one_cycle", final_fraction=1e-3, rise_fraction=0.99, initial_fraction=1e-14),
        earliest=21,
        latest=27,
        batch_size=128,
    ),
}


@pytest.mark.parametrize("name", DIVERGING)
def test_the_engine_names_the_very_step_lr_and_loss_at_which_a_loop_by_hand_diverges(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = DIVERGING[name]
    config = TrialConfig(case.optimizer, case.schedule, case.batch_size, 4, 0)
    losses, lrs = losses_by_hand(config)
    step = counted(losses, losses[0])
    assert step is not None
    assert case.earliest <= step <= case.latest
    assert math.isfinite(losses[step]) is case.finite
    epoch = step // math.ceil(N_TRAIN / case.batch_size) + 1
    for every in (1, 7, 50, 1000):
        monkeypatch.setattr(serial, "CHECK_EVERY_STEPS", every)
        *before, found = list(engine().start(config).epochs())
        assert repr(found) == repr(Divergence(epoch, step, lrs[step], losses[step], losses[0])), every
        assert [m.epoch for m in before if isinstance(m, EpochMetrics)] == list(range(1, epoch))
        assert len(before) == epoch - 1
        assert repr(engine().test(config)) == repr(found)


def test_divergence_is_the_last_thing_said() -> None:
    config = TrialConfig(OptimizerConfig("sgd", 1e4), CONSTANT, 64, 4, 0)
    epochs = engine().start(config).epochs()
    said = [next(epochs), next(epochs)]
    assert [type(one) for one in said] == [EpochMetrics, Divergence]
    with pytest.raises(StopIteration):
        next(epochs)


def test_under_a_plateau_the_lr_at_divergence_is_that_of_the_drops_so_far() -> None:
    """The warm-up multiplies the rate until the training is lost, while the plateau takes a little back each epoch."""
    plateau = ScheduleConfig("plateau", warmup_fraction=0.95, final_fraction=0.0, drop_factor=0.75, patience_epochs=0)
    config = TrialConfig(OptimizerConfig("sgd", 1e3), plateau, 100, 10, 0)
    *before, found = list(engine().start(config).epochs())
    assert isinstance(found, Divergence)
    last = before[-1]
    assert isinstance(last, EpochMetrics)
    ramp = factors(plateau, 80)
    scale = found.lr / (1e3 * ramp[found.step])
    drops = math.log(scale) / math.log(0.75)
    assert drops == pytest.approx(round(drops), abs=1e-9)
    assert round(drops) >= 1
    # At most one more than there were when the last epoch ended.
    assert 0 <= round(drops) - round(math.log(last.lr / (1e3 * ramp[last.step - 1])) / math.log(0.75)) <= 1


@pytest.mark.parametrize(
    ("lr", "is_number"), [(1e4, True), (1e20, False)], ids=["far above for ever", "not a number for ever"]
)
def test_without_the_watch_a_diverged_training_goes_on_to_its_end(lr: float, is_number: bool) -> None:
    config = TrialConfig(OptimizerConfig("sgd", lr), CONSTANT, 64, 4, 0)
    assert any(isinstance(one, Divergence) for one in engine().start(config).epochs())
    told = list(engine(divergence_watch=False).start(config).epochs())
    assert [m.epoch for m in told if isinstance(m, EpochMetrics)] == [1, 2, 3, 4]
    for m in told:
        assert isinstance(m, EpochMetrics)
        for loss in (m.train_loss, m.val_loss, m.averaged_val_loss):
            assert loss is not None
            assert math.isnan(loss) is not is_number
        assert 0 <= m.val_accuracy <= 0.2  # no better than a guess


def test_a_short_spike_from_which_a_training_recovers_is_no_divergence() -> None:
    config = TrialConfig(OptimizerConfig("rmsprop", 0.03), ScheduleConfig("cosine", final_fraction=0.0), 64, 8, 0)
    losses, _ = losses_by_hand(config, hidden=128)
    far = [loss > 3 * losses[0] for loss in losses]
    longest = max(len(list(group)) for is_far, group in itertools.groupby(far) if is_far)
    assert 5 <= longest < 20
    assert max(losses) > 100
    told = list(engine(hidden=128).start(config).epochs())
    last = told[-1]
    assert len(told) == 8
    assert isinstance(last, EpochMetrics)
    assert last.val_accuracy > 0.8
