"""A training that was interrupted and resumed is the one that was not, bit for bit."""

import hashlib
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from io import BytesIO

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lrsearch.spec.models import MODELS
from lrsearch.training import data, device, models, serial
from lrsearch.training import engine as engines
from lrsearch.training.data import DataConfig, ImageSplits
from lrsearch.training.engine import CheckpointError, Engine, Paused, Training
from lrsearch.training.models import ModelConfig
from lrsearch.training.serial import Rules, SerialEngine, SerialTraining
from lrsearch.trial import Divergence, EpochMetrics, OptimizerConfig, ScheduleConfig, TrialConfig

CPU = torch.device("cpu")
MLP = ModelConfig("mlp", (16,))
CNN = ModelConfig("cnn", (8,))

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def digits() -> ImageSplits:
    """Return 160 images to train on and 40 to validate on."""
    return data.load(DataConfig("digits", limit=200))


def engine(rules: Rules = Rules(), model: ModelConfig = MLP, where: torch.device = CPU) -> SerialEngine:  # noqa: B008
    return SerialEngine(digits(), model, where, rules)


MOMENTUM = OptimizerConfig("sgd", 0.05, weight_decay=1e-3, momentum=0.9, nesterov=True)
OPTIMIZERS = {
    "sgd": OptimizerConfig("sgd", 0.1),
    "sgd with nesterov": MOMENTUM,
    "sgd with dampening": OptimizerConfig("sgd", 0.1, momentum=0.9, dampening=0.5),
    "adam": OptimizerConfig("adam", 3e-3, weight_decay=1e-3),
    "adamw": OptimizerConfig("adamw", 3e-3, weight_decay=0.1),
    "rmsprop": OptimizerConfig("rmsprop", 1e-3, momentum=0.5),
}
COSINE = ScheduleConfig("cosine", warmup_fraction=0.2, final_fraction=0.0)
PLATEAU = ScheduleConfig("plateau", warmup_fraction=0.1, final_fraction=0.0, drop_factor=0.5, patience_epochs=0)
SCHEDULES = {
    "constant": ScheduleConfig("constant"),
    "step": ScheduleConfig("step", final_fraction=0.01, drops=3),
    "cosine": COSINE,
    "one_cycle": ScheduleConfig("one_cycle", final_fraction=0.01, rise_fraction=0.3, initial_fraction=0.04),
    "warm_restarts": ScheduleConfig("warm_restarts", final_fraction=0.0, cycles=2, cycle_mult=2),
    "plateau": PLATEAU,
}


def make_config(
    optimizer: OptimizerConfig = MOMENTUM, schedule: ScheduleConfig = COSINE, batch_size: int = 30, epochs: int = 4
) -> TrialConfig:
    return TrialConfig(optimizer, schedule, batch_size, epochs, seed=7)


@dataclass
class At:
    """Asks for attention before the given updates. The loop looks once before each, so looks count updates."""

    steps: frozenset[int]
    looks: int = 0

    def is_set(self) -> bool:
        self.looks += 1
        return self.looks - 1 in self.steps


@dataclass
class Ran:
    """What came of a training."""

    told: list[EpochMetrics | Divergence] = field(default_factory=list)
    digest: str = ""


def result(training: Training) -> str:
    return hashlib.sha256(training.weights()).hexdigest()


def unclocked(told: EpochMetrics | Divergence) -> EpochMetrics | Divergence:
    return replace(told, seconds=0.0) if isinstance(told, EpochMetrics) else told


def through(used: Engine, config: TrialConfig) -> Ran:
    """Train without an interruption."""
    training = used.start(config)
    told = [unclocked(one) for one in training.epochs() if not isinstance(one, Paused)]
    return Ran(told, result(training))


def interrupted(used: Engine, config: TrialConfig, *steps: int) -> Ran:
    """Train in one piece after another, each in a training of its own, cut before those updates."""
    ran, kept, done = Ran(), None, 0
    for step in [*steps, None]:
        training = used.start(config, kept, At(frozenset() if step is None else {step - done}))
        for one in training.epochs():
            if isinstance(one, Paused):
                assert one == Paused(step // steps_per_epoch(training) + 1, step)
                break
            ran.told.append(unclocked(one))
        ran.digest = result(training)
        if ran.told and isinstance(ran.told[-1], Divergence):
            return ran  # before the next cut
        kept, done = training.checkpoint(), step or 0
        torch.rand(3)  # whatever the process does in between
    return ran


def steps_per_epoch(training: Training) -> int:
    assert isinstance(training, SerialTraining)
    return training.steps_per_epoch


def assert_same(ours: Ran, theirs: Ran) -> None:
    assert repr(ours.told) == repr(theirs.told)  # as text: a loss may be no number
    assert ours.digest == theirs.digest


# --- resumed is uninterrupted ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(optimizer: str, schedule: str) -> None:
    """Six updates an epoch: before the first, at the end of an epoch, in the middle of one, and before the last."""
    config = make_config(OPTIMIZERS[optimizer], SCHEDULES[schedule])
    expected = through(engine(), config)
    assert len({one.val_loss for one in expected.told if isinstance(one, EpochMetrics)}) == 4  # it moves
    for step in (0, 6, 15, 23):
        assert_same(interrupted(engine(), config, step), expected)
    assert_same(interrupted(engine(), config, 0, 1, 9, 12, 22), expected)


@pytest.mark.parametrize("averaging", [True, False], ids=["averaging", "raw"])
@pytest.mark.parametrize("drop_last", [True, False], ids=["drop last", "keep last"])
@pytest.mark.parametrize("model", [MLP, CNN], ids=["mlp", "cnn"])
def test_so_it_is_for_every_model_and_every_rule(model: ModelConfig, drop_last: bool, averaging: bool) -> None:
    for watch in (True, False):
        used = engine(Rules(drop_last, watch, averaging), model)
        config = make_config(OPTIMIZERS["adam"], PLATEAU, batch_size=64, epochs=6)
        n_steps = config.epochs * (2 if drop_last else 3)
        expected = through(used, config)
        assert_same(interrupted(used, config, 1, 4, n_steps - 1), expected)


@pytest.mark.slow
@settings(max_examples=30)
@given(
    optimizer=st.sampled_from(list(OPTIMIZERS)),
    schedule=st.sampled_from(list(SCHEDULES)),
    batch_size=st.integers(1, 160),
    drop_last=st.booleans(),
    batches_per_chunk=st.sampled_from([1, 3, 1000]),
    seed=st.integers(0, 2**32),
)
def test_so_it_is_wherever_it_is_cut(
    optimizer: str, schedule: str, batch_size: int, drop_last: bool, batches_per_chunk: int, seed: int
) -> None:
    config = make_config(OPTIMIZERS[optimizer], SCHEDULES[schedule], batch_size, epochs=2)
    used = engine(Rules(drop_last))
    n_steps = 2 * (160 // batch_size if drop_last else math.ceil(160 / batch_size))
    steps = sorted(random.Random(seed).sample(range(n_steps), min(3, n_steps)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serial, "CHUNK_ELEMENTS", batches_per_chunk * batch_size * 784)
        assert_same(interrupted(used, config, *steps), through(used, config))


def test_a_plateau_remembers_its_best_loss_its_patience_and_its_drops() -> None:
    schedule = replace(PLATEAU, warmup_fraction=0.0, patience_epochs=2)
    config = make_config(OptimizerConfig("sgd", 1.0, momentum=0.9), schedule, batch_size=80, epochs=16)
    expected = through(engine(), config)
    rates = [one.lr for one in expected.told if isinstance(one, EpochMetrics)]
    assert len(set(rates)) >= 3
    assert_same(interrupted(engine(), config, *range(0, 32, 3)), expected)


def test_resuming_gathers_no_images_of_chunks_that_are_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    gathered: list[int] = []
    normalize = ImageSplits.normalize

    def counted(splits: ImageSplits, images: torch.Tensor) -> torch.Tensor:
        gathered.append(len(images))
        return normalize(splits, images)

    monkeypatch.setattr(ImageSplits, "normalize", counted)
    monkeypatch.setattr(serial, "CHUNK_ELEMENTS", 20 * 784)
    config = make_config(batch_size=10, epochs=1)
    first = engine().start(config, attention=At(frozenset({13})))
    assert next(first.epochs()) == Paused(1, 13)
    gathered.clear()
    list(engine().start(config, first.checkpoint()).epochs())
    assert gathered == [20, 20, 40, 40]  # two chunks that are left, and the validation images, raw and averaged


def test_the_state_of_an_optimizer_comes_back_as_its_kernels_have_it() -> None:
    """Fused kernels count their updates in float32 on the device of the weights."""
    for optimizer in OPTIMIZERS.values():
        first = engine().start(make_config(optimizer))
        next(first.epochs())
        again = engine().start(make_config(optimizer), first.checkpoint())
        ours, theirs = (training._optimizer.state_dict() for training in (again, first))
        assert repr(ours) == repr(theirs)
        kinds = [
            [
                (name, value.dtype, value.device)
                for state in one["state"].values()
                for name, value in state.items()
                if isinstance(value, torch.Tensor)
            ]
            for one in (ours, theirs)
        ]
        assert kinds[0] == kinds[1]


# --- pausing ---------------------------------------------------------------------------------------------------------


class Always:
    def is_set(self) -> bool:
        return True


def test_attention_pauses_before_every_update_once_and_changes_nothing() -> None:
    config = make_config(epochs=2)
    training = engine().start(config, attention=Always())
    told = list(training.epochs())
    assert [one for one in told if isinstance(one, Paused)] == [Paused(step // 6 + 1, step) for step in range(12)]
    assert [type(one) for one in told] == ([Paused] * 6 + [EpochMetrics]) * 2
    rest = [unclocked(one) for one in told if not isinstance(one, Paused)]
    assert_same(Ran(rest, result(training)), through(engine(), config))


def test_looking_for_attention_is_done_once_an_update() -> None:
    attention = At(frozenset())
    list(engine().start(make_config(), attention=attention).epochs())
    assert attention.looks == 4 * 6


def test_a_checkpoint_and_the_weights_may_be_taken_at_any_pause_without_a_trace() -> None:
    config = make_config(OPTIMIZERS["adam"], PLATEAU)
    training = engine().start(config, attention=Always())
    taken = [training.checkpoint()]
    ran = Ran()
    for one in training.epochs():
        taken.append(training.checkpoint())
        assert training.checkpoint() == taken[-1]  # of equal states equal bytes
        training.weights()
        if not isinstance(one, Paused):
            ran.told.append(unclocked(one))
    ran.digest = result(training)
    expected = through(engine(), config)
    assert_same(ran, expected)
    for kept in taken:
        again = engine().start(config, kept)
        told = [unclocked(one) for one in again.epochs() if not isinstance(one, Paused)]
        assert_same(Ran(expected.told[: 4 - len(told)] + told, result(again)), expected)


def test_after_the_last_epoch_there_is_nothing_left_to_resume() -> None:
    first = engine().start(make_config())
    list(first.epochs())
    again = engine().start(make_config(), first.checkpoint())
    assert list(again.epochs()) == []
    assert again.weights() == first.weights()


def test_the_seconds_of_an_epoch_are_those_of_all_its_pieces_and_not_of_the_pauses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 1.0  # every look at the clock takes a second
        return now

    monkeypatch.setattr(serial.time, "perf_counter", clock)
    config = make_config(epochs=1)
    first = engine().start(config, attention=At(frozenset({2})))
    next(first.epochs())
    whole = engine().start(config, attention=At(frozenset({2}))).epochs()
    next(whole)
    now += 1000.0
    [resumed] = engine().start(config, first.checkpoint()).epochs()
    for told in (resumed, next(whole)):
        assert isinstance(told, EpochMetrics)
        assert told.seconds == 3.0  # to the pause, from there to the last update, and the scores


# --- divergence ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lr", [1e4, 1e10], ids=["far above", "not finite"])
@pytest.mark.parametrize("every", [1, 7, 50])
def test_a_divergence_is_found_at_the_same_step_wherever_the_interruption_lies(
    lr: float, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serial, "CHECK_EVERY_STEPS", every)
    config = make_config(OptimizerConfig("sgd", lr), ScheduleConfig("constant"), batch_size=16, epochs=4)
    expected = through(engine(), config)
    assert isinstance(expected.told[-1], Divergence)
    assert expected.told[-1].epoch == (3 if math.isfinite(expected.told[-1].loss) else 1)
    for step in range(expected.told[-1].step + 1):
        assert repr(interrupted(engine(), config, step).told) == repr(expected.told)


# --- what is no checkpoint of this training --------------------------------------------------------------------------


@cache
def kept() -> bytes:
    training = engine().start(make_config(), attention=At(frozenset({9})))
    list(zip(training.epochs(), range(2), strict=False))
    return training.checkpoint()


def refusal(start: Callable[[], object]) -> str:
    with pytest.raises(CheckpointError) as error:
        start()
    text = str(error.value)
    assert len(text) > 20
    assert "\n" not in text
    assert text == text.strip()
    return text


OTHERS: dict[str, tuple[SerialEngine, TrialConfig, str]] = {
    "peak_lr": (
        engine(),
        make_config(replace(MOMENTUM, peak_lr=0.06)),
        "config.optimizer.peak_lr = 0.05 instead of 0.06",
    ),
    "optimizer": (engine(), make_config(OPTIMIZERS["adam"]), "config.optimizer.name = 'sgd' instead of 'adam'"),
    "schedule": (engine(), make_config(schedule=PLATEAU), "config.schedule.family = 'cosine' instead of 'plateau'"),
    "batch_size": (engine(), make_config(batch_size=31), "config.batch_size = 30 instead of 31"),
    "epochs": (engine(), make_config(epochs=5), "config.epochs = 4 instead of 5"),
    "seed": (engine(), replace(make_config(), seed=8), "config.seed = 7 instead of 8"),
    "hidden": (engine(model=ModelConfig("mlp", (17,))), make_config(), "model.hidden = [16] instead of [17]"),
    "model": (engine(model=CNN), make_config(), "model.name = 'mlp' instead of 'cnn'"),
    "rules": (engine(Rules(averaging=False)), make_config(), "rules.averaging = True instead of False"),
    "data": (
        SerialEngine(data.load(DataConfig("digits", limit=300)), MLP, CPU, Rules()),
        make_config(),
        "data.n_train = 160 instead of 240",
    ),
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_checkpoint_of_another_training_is_refused_and_the_difference_named(what: str) -> None:
    other, config, difference = OTHERS[what]
    assert difference in refusal(lambda: other.start(config, kept()))


def test_a_number_is_the_same_whether_whole_or_a_fraction() -> None:
    config = make_config(OptimizerConfig("sgd", 1.0))
    whole = make_config(OptimizerConfig("sgd", 1))
    assert engine().start(whole, engine().start(config).checkpoint())


@settings(max_examples=60)
@given(length=st.integers(0, 10**6).map(lambda n: n % len(kept())))
def test_a_checkpoint_cut_short_is_refused(length: int) -> None:
    assert f"{length} bytes" in refusal(lambda: engine().start(make_config(), kept()[:length]))


@settings(max_examples=40)
@given(place=st.integers(0, 10**6).map(lambda n: n % len(kept())), bit=st.integers(0, 7))
def test_a_checkpoint_with_a_flipped_bit_is_refused(place: int, bit: int) -> None:
    damaged = bytearray(kept())
    damaged[place] ^= 1 << bit
    refusal(lambda: engine().start(make_config(), bytes(damaged)))


def saved(content: object) -> bytes:
    buffer = BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda: kept().replace(b"checkpoint 2", b"checkpoint 1", 1), "must have the format 2, and this one has '1'"),
        (lambda: saved({"weights": torch.zeros(3)}), "must begin as lrsearch writes it"),
        (lambda: engine().start(make_config()).weights(), "must begin as lrsearch writes it"),
        (lambda: kept() + b"more", "damaged"),
    ],
    ids=["another format", "another program's", "only weights", "too long"],
)
def test_what_is_no_checkpoint_is_refused(content: Callable[[], bytes], says: str) -> None:
    assert says in refusal(lambda: engine().start(make_config(), content()))


# --- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [MLP, CNN], ids=["mlp", "cnn"])
def test_weights_make_the_round_trip_and_are_judged_as_those_just_trained(model: ModelConfig) -> None:
    used, config = engine(model=model), make_config()
    training = used.start(config)
    *_, last = training.epochs()
    weights = training.weights()
    tensors = safetensors.torch.load(weights)
    assert set(tensors) == set(training.model.state_dict())
    assert all(torch.equal(tensors[name], value) for name, value in training.model.state_dict().items())
    tested = used.test(config, weights)
    assert isinstance(last, EpochMetrics)
    assert isinstance(tested, engines.TestResult)
    assert tested == used.test(config)
    assert (tested.val_loss, tested.val_accuracy) == (last.val_loss, last.val_accuracy)
    assert used.test(config, used.start(config).weights()) != tested


def test_weights_of_a_training_that_would_diverge_are_judged_without_training_it() -> None:
    config = make_config(OptimizerConfig("sgd", 1e10))
    assert isinstance(engine().test(config), Divergence)
    assert isinstance(engine().test(config, engine().start(config).weights()), engines.TestResult)


def test_weights_of_another_model_or_cut_short_are_refused() -> None:
    weights = engine().start(make_config()).weights()
    for n in (0, 7, 100, len(weights) - 1):
        assert f"{n} bytes" in refusal(lambda n=n: engine().test(make_config(), weights[:n]))
    wider = engine(model=ModelConfig("mlp", (17,)))
    assert "dense1.weight has the shape (16, 784)" in refusal(lambda: wider.test(make_config(), weights))
    deeper = engine(model=ModelConfig("mlp", (16, 16)))
    assert "dense2.weight has the shape None" in refusal(lambda: deeper.test(make_config(), weights))


@pytest.mark.parametrize("name", MODELS)
def test_the_state_of_a_model_is_all_of_it(name: str) -> None:
    """A buffer that is not saved would be lost, a random number drawn while training would not repeat."""
    model = models.build(ModelConfig(name), (1, 28, 28), 10)
    held = [key for key, _ in (*model.named_parameters(), *model.named_buffers())]
    assert sorted(held) == sorted(model.state_dict())
    before = torch.random.get_rng_state()
    model.train()(torch.zeros(2, 1, 28, 28)).sum().backward()
    assert torch.equal(torch.random.get_rng_state(), before)


# --- CUDA ------------------------------------------------------------------------------------------------------------


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", [MLP, CNN], ids=["mlp", "cnn"])
def test_a_checkpoint_of_cuda_goes_on_there_bit_for_bit_and_loads_on_the_cpu(
    model: ModelConfig, optimizer: str
) -> None:
    cuda = torch.device("cuda", 0)
    device.prepare(cuda, 1)
    used = engine(model=model, where=cuda)
    config = make_config(OPTIMIZERS[optimizer], PLATEAU)
    expected = through(used, config)
    assert_same(interrupted(used, config, 0, 6, 15, 23), expected)

    first = used.start(config, attention=At(frozenset({15})))
    *_, paused = (one for one, _ in zip(first.epochs(), range(3), strict=False))
    assert paused == Paused(3, 15)
    here, there = engine(model=model).start(config, first.checkpoint()), used.start(config, first.checkpoint())
    assert here.weights() == there.weights() == first.weights()
    on_cpu, on_cuda = ([one for one in t.epochs() if isinstance(one, EpochMetrics)] for t in (here, there))
    assert [one.epoch for one in on_cpu] == [3, 4]
    assert [one.train_loss for one in on_cpu] == pytest.approx([one.train_loss for one in on_cuda], rel=0.02)
    assert used.test(config, here.weights())
