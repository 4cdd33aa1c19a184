"""A loop that a framework owns: it is left cleanly, whatever the framework makes of that, and the next trains right."""

import contextvars
import gc
import logging
import signal
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from conftest import wait_until
from greenlet import greenlet
from torch.optim.optimizer import register_optimizer_step_pre_hook

from lrsearch import own_code
from lrsearch.schedules import factors
from lrsearch.spec.metrics import METRICS
from lrsearch.spec.sources import Code
from lrsearch.training.engine import Paused
from lrsearch.training.loop.engine import LoopEngine, LoopTraining
from lrsearch.training.loop.faults import LoopError
from lrsearch.training.loop.run import LoopRules
from lrsearch.trial import Divergence, EpochMetrics, Facts, OptimizerConfig, ScheduleConfig, TrialConfig

pytest_plugins = ["own_loops"]

EXAMPLES = Path(__file__).resolve().parent.parent / "docs" / "loops"
CPU = torch.device("cpu")
RULES = LoopRules(METRICS["accuracy"], averaging=False, divergence_watch=True, decay_matrices=True)
SGD = OptimizerConfig("sgd", 0.1, 5e-4, momentum=0.9, dampening=0.0, nesterov=False)
CONFIG = TrialConfig(SGD, ScheduleConfig("cosine", 0.1, 0.01), 50, 3, 7)


def engine(path: Path, function: str = "loop", n_train: int = 500, every: int = 1) -> LoopEngine:
    """Return the engine of a loop in a file, which makes an update for every so many batches."""
    found = own_code.find(Code(str(path), function), "loop.name")
    return LoopEngine(
        found, {}, lambda batch: -(-n_train // (batch * every)), CPU, RULES, Facts(0, 0, 0, (0, 0, 0), ())
    )


def told(training: LoopTraining) -> list[EpochMetrics | Divergence | Paused]:
    return [replace(one, seconds=0.0) if isinstance(one, EpochMetrics) else one for one in training.epochs()]


class Asked:
    """Whether a worker was asked to leave."""

    def __init__(self) -> None:
        self.asked = False

    def is_set(self) -> bool:
        return self.asked

    def ends(self) -> bool:
        return self.asked


class AskedAt(Asked):
    """It is asked to when it looks for the nth time."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.left = n

    def is_set(self) -> bool:
        self.left -= 1
        self.asked = self.left < 0
        return self.asked


# --- what a framework may make of being told to leave -----------------------------------------------------------------

SWALLOWS = """

def train(run, epochs):
    for told in epochs:
        run.report(val_accuracy=told.val_accuracy)

def returns(run):
    try:
        train(run, forgetful(run))
    except BaseException:
        return

def wraps(run):
    try:
        train(run, forgetful(run))
    except BaseException as error:
        raise RuntimeError("training failed") from error

def exits(run):
    import sys
    try:
        train(run, forgetful(run))
    except BaseException:
        sys.exit(1)

def goes_on(run):
    import itertools
    again = 0
    model = build()
    optimizer = run.optimizer(model)
    for n in itertools.count():
        try:
            model(torch.zeros(2, 64)).sum().backward()
            optimizer.step()
            run.step()
            if n % run.steps_per_epoch == run.steps_per_epoch - 1:
                run.report(val_accuracy=0.5)
        except BaseException:
            again += 1
            if again == 3:
                raise

def goes_on_as_a_generator(run):
    try:
        yield from forgetful(run)
    except BaseException:
        run.step()
"""
ON_ITS_WAY_OUT = ("returns", "wraps", "exits", "goes_on", "goes_on_as_a_generator")


@pytest.fixture
def swallows(loop_file: Path) -> Path:
    loop_file.write_text(loop_file.read_text() + SWALLOWS)
    return loop_file


@pytest.mark.parametrize("function", ON_ITS_WAY_OUT)
def test_a_framework_that_catches_everything_is_left_all_the_same(function: str, swallows: Path) -> None:
    first, left = told(engine(swallows, function).start(CONFIG, None, AskedAt(13)))
    assert isinstance(first, EpochMetrics)
    assert left == Paused(2, 13)


@pytest.mark.parametrize("function", ON_ITS_WAY_OUT)
def test_a_framework_that_catches_everything_is_pruned_all_the_same(
    function: str, swallows: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = len(alive())
    epochs = engine(swallows, function).start(CONFIG).epochs()
    assert isinstance(next(epochs), EpochMetrics)
    epochs.close()  # type: ignore[attr-defined]
    assert len(alive()) == before
    # What it says instead is none of ours, and is told.
    assert bool(caplog.records) == (function in ("wraps", "exits"))


def alive() -> list[greenlet]:
    """Return the greenlets that have begun and not ended, this thread's own left out."""
    gc.collect()
    return [one for one in gc.get_objects() if type(one) is greenlet and one and one.parent is not None]


def test_a_loop_that_exits_by_itself_is_told_as_an_error(loop_file: Path) -> None:
    loop_file.write_text(loop_file.read_text() + "\n\ndef leaves(run):\n    raise SystemExit(3)\n    yield\n")
    with pytest.raises(own_code.OwnCodeError, match=r"leaves raised SystemExit: 3 \(.*mine.py, line"):
        told(engine(loop_file, "leaves").start(CONFIG))


MODES = """

def within_no_grad(run):
    for told in forgetful(run):
        with torch.inference_mode():
            yield told

def reports_within_no_grad(run):
    for told in forgetful(run):
        with torch.inference_mode():
            run.report(val_accuracy=told.val_accuracy)
        assert torch.is_grad_enabled()
"""


@pytest.mark.parametrize("function", ["within_no_grad", "reports_within_no_grad"])
def test_what_a_loop_switches_off_stays_its_own(function: str, loop_file: Path) -> None:
    loop_file.write_text(loop_file.read_text() + MODES)
    plain = told(engine(loop_file, "forgetful").start(CONFIG))
    for ends in (False, True):
        rows = []
        epochs = engine(loop_file, function).start(CONFIG).epochs()
        for row in epochs:
            assert torch.is_grad_enabled()
            assert not torch.is_inference_mode_enabled()
            rows.append(replace(row, seconds=0.0))  # type: ignore[type-var]
            if ends:
                break
        epochs.close()  # type: ignore[attr-defined]
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
        assert [row.val_accuracy for row in rows] == [row.val_accuracy for row in plain[: len(rows)]]


CONTEXT = """

import contextvars
OF_THE_LOOP = contextvars.ContextVar("of_the_loop", default=0)

def sets_a_context(run):
    assert OF_THE_LOOP.get() == 0
    assert "of_the_caller" in [one.name for one in contextvars.copy_context()]
    for told in forgetful(run):
        OF_THE_LOOP.set(OF_THE_LOOP.get() + 1)
        run.report(val_accuracy=told.val_accuracy)
    assert OF_THE_LOOP.get() == run.config.epochs

def reports_from_a_thread(run):
    import threading
    made = next(forgetful(run))
    found = []
    def body():
        try:
            run.report(val_accuracy=made.val_accuracy)
        except BaseException as error:
            found.append(error)
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    raise found[0]
"""


OF_THE_CALLER = contextvars.ContextVar[int]("of_the_caller")


def test_a_loop_has_the_context_variables_of_its_caller_and_keeps_its_own(loop_file: Path) -> None:
    loop_file.write_text(loop_file.read_text() + CONTEXT)
    OF_THE_CALLER.set(1)
    training = engine(loop_file, "sets_a_context")
    for _ in range(2):
        for _ in training.start(CONFIG).epochs():
            assert "of_the_loop" not in [one.name for one in contextvars.copy_context()]


def test_reports_come_from_the_thread_of_the_loop(loop_file: Path) -> None:
    loop_file.write_text(loop_file.read_text() + CONTEXT)
    with pytest.raises(LoopError, match=r"must be called in the thread in which the loop itself was"):
        told(engine(loop_file, "reports_from_a_thread").start(CONFIG))


# --- Lightning --------------------------------------------------------------------------------------------------------


@pytest.fixture
def lightning_file(tmp_path: Path) -> Path:
    pytest.importorskip("lightning", reason="needs Lightning: pip install 'lrsearch[loops]'")
    path = tmp_path / "lightning_loop.py"
    path.write_text((EXAMPLES / path.name).read_text("utf-8"))
    return path


def changed(path: Path, *edits: tuple[str, str]) -> Path:
    """Edit an example; each of the old texts must be there once."""
    text = path.read_text("utf-8")
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path.write_text(text)
    return path


N_EXAMPLES = 1437
"""Of the examples' training set."""

_LOADER = "DataLoader(train, run.config.batch_size, shuffle=True"
WITH_PROCESSES = (f"{_LOADER})", f"{_LOADER}, num_workers=1, persistent_workers=True)")


def state_of_the_process() -> dict[str, object]:
    """Return what a framework may change and leave behind."""
    loggers = ["lightning", "lightning.pytorch", "lrsearch", ""]
    return {
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")),
        "numbers": (torch.get_default_dtype(), torch.get_float32_matmul_precision(), torch.get_num_threads()),
        "deterministic": (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic),
        "signals": [(one, signal.getsignal(one)) for one in signal.valid_signals()],
        "loggers": [(name, [id(one) for one in logging.getLogger(name).handlers]) for name in loggers],
        "threads": sorted(one.name for one in threading.enumerate()),
        "greenlets": len(alive()),
    }


def children() -> set[int]:
    """Return the processes that this one has begun and that live."""
    found = psutil.Process().children(recursive=True)
    return {one.pid for one in found if one.status() != psutil.STATUS_ZOMBIE}


@pytest.mark.slow
@pytest.mark.parametrize("within", ["on_train_epoch_end", "on_validation_end"])
def test_a_pruned_lightning_training_leaves_nothing_and_the_next_one_trains_right(
    lightning_file: Path, within: str
) -> None:
    changed(lightning_file, ("def on_train_epoch_end", f"def {within}"), WITH_PROCESSES)
    trains, running = engine(lightning_file, n_train=N_EXAMPLES), children()
    whole = trains.start(CONFIG)
    rows, weights = told(whole), whole.weights()
    assert [row.epoch for row in rows] == [1, 2, 3]  # type: ignore[union-attr]
    del whole
    other = trains.start(replace(CONFIG, batch_size=32, seed=8))
    wait_until(lambda: children() == running)
    before = state_of_the_process()
    epochs = other.epochs()
    assert isinstance(next(epochs), EpochMetrics)
    assert len(children()) == len(running) + 1
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    assert len(alive()) == 1
    epochs.close()  # type: ignore[attr-defined]
    model = weakref.ref(other.run.model)
    del other, epochs
    again = trains.start(CONFIG)
    assert model() is None, "what is over holds no memory when the next one begins"
    wait_until(lambda: children() == running)
    assert state_of_the_process() == before
    assert told(again) == rows
    assert again.weights() == weights


SIGNALS = """

class Signalled(L.Callback):
    def __init__(self, number):
        self.number = number

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        import signal
        if batch_idx == 4:
            signal.raise_signal(self.number)
"""


def signalled(path: Path, number: signal.Signals) -> LoopEngine:
    """Return Lightning's engine, whose process hears a signal after the fifth update."""
    changed(path, ("callbacks=[Searched(run)]", f"callbacks=[Searched(run), Signalled({int(number)})]"))
    path.write_text(path.read_text() + SIGNALS)
    return engine(path, n_train=N_EXAMPLES)


@contextmanager
def heard_by(number: signal.Signals, handler: Any) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
        assert signal.getsignal(number) is handler, "Lightning gives back what it has taken"
    finally:
        signal.signal(number, before)


@pytest.mark.slow
def test_lightnings_own_way_out_at_sigterm_keeps_the_trial(lightning_file: Path) -> None:
    attention = Asked()
    with heard_by(signal.SIGTERM, lambda *_: setattr(attention, "asked", True)):
        found = told(signalled(lightning_file, signal.SIGTERM).start(CONFIG, None, attention))
    assert found == [Paused(1, 5)]


@pytest.mark.slow
def test_an_interrupt_that_lightning_makes_an_exit_of_is_one_again(lightning_file: Path) -> None:
    with heard_by(signal.SIGINT, signal.default_int_handler), pytest.raises(KeyboardInterrupt):
        told(signalled(lightning_file, signal.SIGINT).start(CONFIG))


@contextmanager
def rates_seen() -> Iterator[list[list[float]]]:
    """Record the learning rates of the groups of whatever optimizer makes an update."""
    seen = list[list[float]]()
    hook = register_optimizer_step_pre_hook(
        lambda optimizer, *_: seen.append([float(group["lr"]) for group in optimizer.param_groups])
    )
    try:
        yield seen
    finally:
        hook.remove()


def searched(n_groups: int, n_steps: int) -> Any:
    wanted = factors(CONFIG.schedule, n_steps) * CONFIG.optimizer.peak_lr
    return np.repeat(wanted[:, None], n_groups, axis=1)


BY_SCHEDULER = (
    (
        "return self.optimizer  # and no scheduler",
        'return {"optimizer": self.optimizer, "lr_scheduler": self.scheduler}',
    ),
    ('self.run.step(outputs["loss"])', "pass"),
)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_lightnings_accumulated_updates_have_the_searched_rates(lightning_file: Path, precision: str) -> None:
    built = "self.optimizer = run.optimizer(self)\n"
    own = f'{built}        self.scheduler = {{"scheduler": run.scheduler(self.optimizer), "interval": "step"}}\n'
    more = f'num_sanity_val_steps=0,\n        accumulate_grad_batches=2,\n        precision="{precision}",'
    path = changed(lightning_file, (built, own), *BY_SCHEDULER, ("num_sanity_val_steps=0,", more))
    with rates_seen() as seen:
        rows = told(engine(path, n_train=N_EXAMPLES, every=2).start(CONFIG))
    assert [row.step for row in rows] == [15, 30, 45]  # type: ignore[union-attr]
    np.testing.assert_allclose(seen, searched(2, 45), rtol=0, atol=1e-12)


@pytest.mark.slow
def test_a_scheduler_that_lightning_steps_once_an_epoch_is_found_out(lightning_file: Path) -> None:
    built = "self.optimizer = run.optimizer(self)\n"
    path = changed(
        lightning_file, (built, f"{built}        self.scheduler = run.scheduler(self.optimizer)\n"), *BY_SCHEDULER
    )
    with pytest.raises(LoopError, match=r"calls run.step\(\) 1 times in its first epoch for 29 updates"):
        told(engine(path, n_train=N_EXAMPLES).start(CONFIG))


# --- Transformers and Accelerate --------------------------------------------------------------------------------------


@pytest.fixture
def transformers_file(tmp_path: Path) -> Path:
    pytest.importorskip("transformers", reason="needs Transformers: pip install 'lrsearch[loops]'")
    path = tmp_path / "transformers_loop.py"
    path.write_text((EXAMPLES / path.name).read_text("utf-8"))
    return path


@pytest.mark.slow
def test_a_pruned_training_of_the_trainer_leaves_the_next_one_as_it_was(transformers_file: Path) -> None:
    trains = engine(transformers_file, n_train=N_EXAMPLES)
    whole = trains.start(CONFIG)
    rows, weights = told(whole), whole.weights()
    del whole
    for attention in (None, AskedAt(60)):
        other = trains.start(replace(CONFIG, batch_size=32, seed=8), None, attention)
        epochs = other.epochs()
        assert isinstance(next(epochs), EpochMetrics)
        if attention is not None:
            assert next(epochs) == Paused(2, 60)
        epochs.close()  # type: ignore[attr-defined]
        model = weakref.ref(other.run.model)
        del other, epochs
        again = trains.start(CONFIG)
        assert model() is None
    assert told(again) == rows
    assert again.weights() == weights
    assert not alive()


@pytest.mark.slow
def test_the_trainers_accumulated_updates_have_the_searched_rates(transformers_file: Path) -> None:
    path = changed(
        transformers_file, ('report_to="none",', 'report_to="none",\n            gradient_accumulation_steps=2,')
    )
    with rates_seen() as seen:
        rows = told(engine(path, n_train=N_EXAMPLES, every=2).start(CONFIG))
    assert [row.step for row in rows] == [15, 30, 45]  # type: ignore[union-attr]
    np.testing.assert_allclose(seen, searched(2, 45), rtol=0, atol=1e-12)


ACCELERATED = """

def accelerated(run):
    from accelerate import Accelerator
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps={every})
    train, validation = data()
    model = build()
    optimizer = run.optimizer(model)
    loader = DataLoader(train, batch_size=run.config.batch_size, shuffle=True)
    model, optimizer, loader, scheduler = accelerator.prepare(model, optimizer, loader, run.scheduler(optimizer))
    for _ in range(run.config.epochs):
        model.train()
        for images, labels in loader:
            with accelerator.accumulate(model):
                accelerator.backward(F.cross_entropy(model(images), labels))
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
        yield run.epoch(val_accuracy=evaluate(accelerator.unwrap_model(model), *validation)[0])
"""


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 2])
def test_accelerates_own_scheduler_has_the_searched_rates(every: int, loop_file: Path) -> None:
    pytest.importorskip("accelerate", reason="needs Accelerate: pip install 'lrsearch[loops]'")
    loop_file.write_text(loop_file.read_text() + ACCELERATED.format(every=every))
    with rates_seen() as seen:
        rows = told(engine(loop_file, "accelerated", every=every).start(CONFIG))
    assert [row.step for row in rows] == [10 // every, 20 // every, 30 // every]  # type: ignore[union-attr]
    np.testing.assert_allclose(seen, searched(2, 30 // every), rtol=0, atol=1e-12)
