"""How long two settings are the same training: as long as their learning rates are, and nothing else differs.

Two configurations that differ in their schedules alone, and whose factors are equal bit for bit for the first s
updates, make the same weights up to there. What one has trained the other need not: it branches from it.
"""

from dataclasses import replace
from functools import lru_cache

from lrsearch import families, schedules
from lrsearch.shapes import Factors
from lrsearch.trial import ScheduleConfig, TrialConfig


def shared_steps(a: TrialConfig, b: TrialConfig, n_steps: int) -> int:
    """Return the number of first updates at which two trainings of ``n_steps`` have the same learning rate.

    Bit for bit, 0..``n_steps``. It is 0 where anything but the schedule differs; a schedule with feedback shares with
    none but itself, because nobody knows its drops beforehand.

    >>> from lrsearch.trial import OptimizerConfig
    >>> flat = TrialConfig(OptimizerConfig("sgd", 0.1), ScheduleConfig("constant"), 32, 10, seed=0)
    >>> tail = replace(flat, schedule=ScheduleConfig("wsd", final_fraction=0.0, decay_fraction=0.25))
    >>> shared_steps(flat, tail, 80), shared_steps(flat, replace(tail, seed=1), 80)
    (61, 0)

    Raises: StudyFileError for a schedule that ``schedules.validate`` refuses, ValueError for ``n_steps`` < 1.
    """
    if a.optimizer.peak_lr != b.optimizer.peak_lr or a.batch_size != b.batch_size:
        return 0  # what differs most often, before the other fields are looked at
    if replace(a, schedule=b.schedule) != b:
        return 0
    return _shared(a.schedule, b.schedule, n_steps)


def shared_epochs(a: TrialConfig, b: TrialConfig, steps_per_epoch: int) -> int:
    """Return how many whole epochs of two trainings have the same learning rates; see ``shared_steps``.

    Raises: as ``shared_steps``.
    """
    return shared_steps(a, b, steps_per_epoch * a.epochs) // steps_per_epoch


@lru_cache(maxsize=4096)
def _shared(a: ScheduleConfig, b: ScheduleConfig, n_steps: int) -> int:
    """Return the number of first updates at which two schedules have the same factor."""
    if a == b:
        return n_steps
    if families.of(a).feedback or families.of(b).feedback:
        return 0
    differ = _factors(a, n_steps) != _factors(b, n_steps)
    first = int(differ.argmax())
    return first if differ[first] else n_steps


@lru_cache(maxsize=32)
def _factors(schedule: ScheduleConfig, n_steps: int) -> Factors:
    found = schedules.factors(schedule, n_steps)
    found.flags.writeable = False
    return found
