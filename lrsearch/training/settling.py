"""How the trainings of a study compute: as it says, or, where it leaves that open, as suits its first worker's device.

For the second a few updates of a training as it will be are made, and thrown away. What is found is filed with the
study, and all its trainings compute so.
"""

import logging
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from lrsearch.domain import high_end
from lrsearch.errors import DeviceError, StudyFileError
from lrsearch.spec.study import StudySpec
from lrsearch.spec.training import LEAST_WITH_BATCH_NORM, TrainingSpec
from lrsearch.training import precision as precisions
from lrsearch.training.device import is_out_of_memory
from lrsearch.training.engine import Paused
from lrsearch.training.micro_batches import N_FIRST
from lrsearch.training.serial import SerialEngine, SerialTraining
from lrsearch.trial import Arithmetic, OptimizerConfig, ScheduleConfig, TrialConfig

log = logging.getLogger(__name__)

N_TIMED = 5
"""Most updates of each layout that are timed."""
ENOUGH_SECONDS = 2.0
"""After so long in timed updates the measurement is good enough."""
FASTER = 1.03
"""How many times as fast channels-last must be; less is the noise of so few updates."""
KERNEL_DIMS = 4
"""Of a weight that a layout of channels concerns."""
OPTIMIZER = OptimizerConfig("adamw", 1e-6)
"""None here keeps a larger state; its rate is too low for a training to diverge."""


class _BeforeEach:
    """Has a training stand still before each update."""

    def is_set(self) -> bool:
        return True

    def ends(self) -> bool:
        return False


def begin(engine: SerialEngine, spec: StudySpec) -> None:
    """Have a new engine compute as its study is filed, or as far as it says.

    Raises:
        DeviceError: the device cannot.
        StudyFileError: parts of a batch would be too small to be normalised.
    """
    training, known = spec.training, spec.measured_facts
    precisions.set_tf32(training.tf32)
    filed = None if known is None else known.arithmetic
    if filed is not None:
        follow(engine, spec, filed)
    elif training.arithmetic is not None:
        follow(engine, spec, training.arithmetic, is_settled=not training.leaves_open)


def follow(engine: SerialEngine, spec: StudySpec, arithmetic: Arithmetic, *, is_settled: bool = True) -> None:
    """Have an engine compute so; say where parts of a batch are normalised each by itself.

    Args:
        engine: of the study.
        spec: the study.
        arithmetic: how its trainings compute.
        is_settled: whether that is how the study is filed.

    Raises:
        DeviceError: the device cannot.
        StudyFileError: parts of a batch would be too small to be normalised.
    """
    engine.follow(arithmetic, is_settled=is_settled)
    network, micro_batch = engine.facts.network, arithmetic.micro_batch
    if network is None or not network.batch_norm or micro_batch is None:
        return
    if micro_batch >= high_end(spec.space.batch_size):
        return
    if micro_batch < LEAST_WITH_BATCH_NORM:
        raise StudyFileError(
            f"training.micro_batch must be at least {LEAST_WITH_BATCH_NORM}, because {spec.model.name} normalises by "
            f"batch, got {micro_batch}"
        )
    log.warning(
        "training.micro_batch: %s normalises by batch, and in batches of more than %d images it normalises parts of "
        "at most so many, so that results are others than those of whole batches",
        spec.model.name,
        micro_batch,
    )


def settle(engine: SerialEngine, training: TrainingSpec, batch_size: int) -> Arithmetic:
    """Return how the trainings of a study are to compute, by what it asks for and what this device does best.

    Args:
        engine: of the study, on the device of its first worker.
        training: what the study asks for; what it says holds.
        batch_size: the largest of the study [examples].

    Raises:
        DeviceError: the device cannot compute as the study asks, or its memory does not hold the training.
    """
    device = engine.splits.device
    found = training.arithmetic or Arithmetic()
    found = replace(found, precision=precisions.resolved(training.precision, device))
    precisions.check(found.precision, device)
    try:
        if training.micro_batch == "auto":
            found = replace(found, micro_batch=_fitting(engine.computing(found), batch_size))
        if training.channels_last == "auto":
            found = replace(found, channels_last=_is_faster(engine, found, batch_size))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceError(
            f"the memory of {engine.device} must hold the gradients of a few images, and does not: free some, or name "
            f"another --device or a smaller model"
        ) from None
    log.info("trainings compute so, by a look at %s: %s", engine.device, found)
    return found


def _fitting(engine: SerialEngine, batch_size: int) -> int | None:
    """Return how many images' gradients memory holds at once; None where it is a whole batch."""
    training = _begun(engine, batch_size)
    list(islice(_updates(training), N_FIRST))
    return training.micro_batch


def _is_faster(engine: SerialEngine, arithmetic: Arithmetic, batch_size: int) -> bool:
    """Whether updates take less time with the channels of a pixel side by side."""
    layouts = [replace(arithmetic, channels_last=last) for last in (False, True)]
    trainings = [_begun(engine.computing(one), batch_size) for one in layouts]
    if not any(p.ndim == KERNEL_DIMS for p in trainings[0].model.parameters()):
        return False
    streams = [_updates(training) for training in trainings]
    pairs: list[tuple[float, float]] = []
    # In turn, so that whatever else the machine does concerns both; the first allocates.
    for seconds in islice(zip(*streams, strict=True), 1, 1 + N_TIMED):
        pairs.append((seconds[0], seconds[1]))
        if sum(map(sum, pairs)) > ENOUGH_SECONDS:
            break
    ratio = statistics.median(plain / last for plain, last in pairs)
    log.info("channels-last is %.2f times as fast on %s, at batch size %d", ratio, engine.device, batch_size)
    return ratio >= FASTER


def _begun(engine: SerialEngine, batch_size: int) -> SerialTraining:
    config = TrialConfig(OPTIMIZER, ScheduleConfig("constant"), batch_size, max(N_FIRST, N_TIMED) + 1, seed=0)
    return engine.start(config, attention=_BeforeEach())


def _updates(training: SerialTraining) -> Iterator[float]:
    """Make one update after another, each in a step of its own; yield what it took [seconds]."""
    begun: float | None = None
    for told in training.epochs():
        if not isinstance(told, Paused):
            continue  # after an epoch; what that costs belongs to its last update
        if begun is not None:
            yield time.perf_counter() - begun
        begun = time.perf_counter()
