"""How numbers and settings are written for people: sensible digits, and a sign for what is no number."""

import math
from datetime import datetime

from lrsearch.layer_rates import layer_decay
from lrsearch.report.plain import BY_LAYER
from lrsearch.spec.metrics import Metric
from lrsearch.spec.optimizers import OPTIMIZERS
from lrsearch.spec.study import StudySpec
from lrsearch.text import counted
from lrsearch.trial import OptimizerConfig, Outcome, Reason, Trial, TrialConfig

NOTHING = "-"
"""Stands where there is no value."""

UNKNOWN_IMAGES = 10_000
"""On so many an accuracy is said and drawn as measured where nobody knows on how many it was [examples]."""


def number(value: float | None, digits: int = 3) -> str:
    """Return a number to so many significant digits, trailing zeros kept: losses stand under each other.

    >>> [number(v) for v in (2.3, 0.00123456, 1234567.0, 0.0, float("inf"), float("nan"), None)]
    ['2.30', '0.00123', '1.23e+06', '0.00', 'inf', 'nan', '-']
    """
    if value is None:
        return NOTHING
    if not math.isfinite(value):
        return f"{value}"
    if value == 0:
        return f"{0:.{digits - 1}f}"
    return f"{value:#.{digits}g}".rstrip(".")


def rate(value: float | None) -> str:
    """Return a learning rate to three significant digits, without trailing zeros.

    >>> [rate(v) for v in (0.1, 0.018104, 1.3e-05, None)]
    ['0.1', '0.0181', '1.3e-05', '-']
    """
    return NOTHING if value is None else f"{value:.3g}"


def accuracy(value: float | None, n_images: int) -> str:
    """Return an accuracy [0..1] to as many digits as that many images can show, at most four; 0 where nobody knows.

    >>> accuracy(0.97, 200), accuracy(0.97, 12000), accuracy(0.97, 0), accuracy(float("nan"), 200)
    ('0.970', '0.9700', '0.9700', 'nan')
    """
    if value is None:
        return NOTHING
    return f"{value:.{3 if (n_images or UNKNOWN_IMAGES) <= 1000 else 4}f}"


def objective_value(value: float | None, spec: StudySpec) -> str:
    """Return a value of the study's objective."""
    return metric_value(spec.metric, value, spec.facts.n_validation)


def metric_value(metric: Metric, value: float | None, n_images: int) -> str:
    """Return a value of a metric on so many images: a share to the digits that they can show, a loss to three.

    >>> from lrsearch.spec.metrics import METRICS
    >>> metric_value(METRICS["balanced_accuracy"], 0.97, 200), metric_value(METRICS["loss"], 0.97, 200)
    ('0.970', '0.970')
    """
    return accuracy(value, n_images) if metric.is_share else number(value)


def duration(seconds: float | None) -> str:
    """Return a time span in its two largest units.

    >>> [duration(s) for s in (0.04, 8.2, 75, 3600, 90_000, None)]
    ['0.0 s', '8.2 s', '1 min 15 s', '1 h 00 min', '1 d 01 h', '-']
    """
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600:02d} h"


def moment(when: datetime | None) -> str:
    """Return a time in UTC, to the second."""
    return NOTHING if when is None else f"{when:%Y-%m-%d %H:%M:%S} UTC"


def reason(why: Reason) -> str:
    """Return a reason in words: ``out of memory``."""
    return why.value.replace("_", " ")


def ended_as(outcome: Outcome) -> str:
    """Return how a trial ended in a word: its state, or ``collapsed`` or ``overflowing`` for such a divergence."""
    kinds = (Reason.COLLAPSED, Reason.OVERFLOWING)
    return outcome.reason.value if outcome.reason in kinds else outcome.state.value


def state(trial: Trial) -> str:
    """Return how a trial stands in a word: how it ended, or ``interrupted`` where nobody works on it now."""
    if trial.outcome is not None:
        return ended_as(trial.outcome)
    return "interrupted" if trial.interrupted else "paused" if trial.paused else trial.state.value


def setting(config: TrialConfig) -> str:
    """Return a setting in one line, its least important parts left out.

    >>> from lrsearch.trial import ScheduleConfig
    >>> config = TrialConfig(OptimizerConfig("sgd", 0.24), ScheduleConfig("cosine", 0.05, 0.01), 512, 8, 0)
    >>> setting(config)
    'sgd peak_lr=0.24 cosine warmup=0.05 batch=512'
    """
    warmup = f" warmup={config.schedule.warmup_fraction:.2g}" if config.schedule.warmup_fraction else ""
    optimizer, family = config.optimizer, config.schedule.family
    said = f"{optimizer.name} peak_lr={rate(optimizer.peak_lr)} {family}{warmup} batch={config.batch_size}"
    return said + "".join(f" {name}={value:.2g}" for name, value in by_layer(config).items())


def by_layer(config: TrialConfig) -> dict[str, float]:
    """Return what a setting says of the learning rates of its layers, by field; nothing where they have one."""
    found = {name: getattr(config, name) for name in BY_LAYER}
    return {name: value for name, value in found.items() if value is not None}


def layers(config: TrialConfig, n_levels: int) -> str:
    """Return how the learning rates of so many levels of layers differ; empty where they do not.

    >>> from lrsearch.trial import ScheduleConfig
    >>> config = TrialConfig(OptimizerConfig("sgd", 0.1), ScheduleConfig("constant"), 64, 8, 0, stem_ratio=0.05)
    >>> layers(config, 10)
    'stem ratio 0.05 (layer decay 0.717 over 10 levels)'
    """
    said = [f"{name.replace('_', ' ')} {rate(value)}" for name, value in by_layer(config).items()]
    over = f"over {counted(n_levels, 'level')}"
    if config.stem_ratio is not None:
        said[0] += f" (layer decay {rate(layer_decay(n_levels, config))} {over})"
    elif config.layer_decay is not None:
        said[0] += f" {over}"
    return ", ".join(said)


def optimizer_settings(config: OptimizerConfig) -> dict[str, float | bool]:
    """Return the settings in which an optimizer differs from torch's defaults, the learning rate apart."""
    defaults = OPTIMIZERS[config.name].defaults
    found = {name: getattr(config, name) for name in defaults}
    return {n: v for n, v in found.items() if v is not None and v != defaults[n]}


def optimizer(config: OptimizerConfig) -> str:
    """Return an optimizer with all settings that are not torch's defaults.

    >>> optimizer(OptimizerConfig("sgd", 0.1, weight_decay=5e-4, momentum=0.9))
    'sgd, momentum 0.9, weight decay 0.0005'
    """
    words = [
        f"{n.replace('_', ' ')} {v:g}" if not isinstance(v, bool) else n for n, v in optimizer_settings(config).items()
    ]
    return ", ".join([config.name, *words])


def file_size(n_bytes: int) -> str:
    """Return the size of a file.

    >>> file_size(4_200), file_size(5_030_000)
    ('4.2 kB', '5.0 MB')
    """
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes >= 1e5 else f"{n_bytes / 1e3:.1f} kB"
