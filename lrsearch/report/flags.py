"""A setting in the words of another package's own training script: what all such scripts have in common."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from lrsearch import families, layer_rates, schedules
from lrsearch.errors import UsageError
from lrsearch.report.model_code import model_code
from lrsearch.report.targets import Script
from lrsearch.spec.optimizers import arguments
from lrsearch.spec.study import StudySpec
from lrsearch.trial import Trial, TrialConfig

CALLED: Final[Mapping[Script, str]] = {
    "timm": "timm's train.py",
    "transformers": "the Trainer of transformers",
    "torchvision": "torchvision's references/classification/train.py",
}
"""In a sentence."""

Options = Mapping[str, Any]
"""By the names that the script gives them, in Python's form: ``warmup_epochs``. True is an option without a value."""


@dataclass(frozen=True, slots=True)
class Flags:
    """One way to say a setting; where a script says things less finely than a study there are several."""

    script: Script
    epochs: int
    """That are trained, warm-up included."""
    updates_per_epoch: int
    """That the script makes."""
    schedule: Options
    """What the script makes its scheduler of."""
    optimizer: Options = field(default_factory=dict)
    data: Options = field(default_factory=dict)
    """Images, model and batches."""
    rest: Options = field(default_factory=dict)
    differs: tuple[str, ...] = ()
    """In what the training differs from that of the search, a sentence each."""


def refusal(trial: Trial, script: Script, why: str) -> UsageError:
    """Return what is said where a script has no option for something."""
    return UsageError(f"trial {trial.number} cannot be trained by {CALLED[script]}: {why}; export it --to torch")


def no_schedule(trial: Trial, script: Script) -> UsageError:
    """Return what is said where a script has no such schedule."""
    schedule = trial.config.schedule
    if families.of(schedule).feedback:
        why = f"with {schedule.family} the learning rate depends on validation results, and cannot be held against ours"
    else:
        why = f"it has no option for the schedule {schedules.describe(schedule)}"
    return refusal(trial, script, why)


def check_one_rate(trial: Trial, spec: StudySpec, script: Script) -> None:
    """Make sure that all layers learn at one rate.

    Raises:
        UsageError: they do not, and the script has no option for that.
    """
    if is_layer_wise(trial.config, spec):
        raise refusal(trial, script, "its layers learn at different rates, for which it has no option")


def is_layer_wise(config: TrialConfig, spec: StudySpec) -> bool:
    """Whether some layers learn at another rate than the head."""
    network = spec.facts.network
    return network is not None and any(share != 1 for share in layer_rates.shares(len(network.levels), config))


def settings_of(trial: Trial) -> dict[str, Any]:
    """Return every argument of torch's optimizer, all defaults filled in."""
    return arguments(trial.config.optimizer)


def without_decay_adam_is_adamw(trial: Trial) -> bool:
    """Whether the optimizer is Adam without weight decay, which AdamW is too."""
    return trial.config.optimizer.name == "adam" and not trial.config.optimizer.weight_decay


def differences(spec: StudySpec, script: Script) -> Iterator[str]:
    """Yield in what any script's training differs from that of the search."""
    model = model_code(spec)
    if spec.model.loss is not None:
        yield f"the loss is cross entropy, and not {spec.model.loss}"
    if spec.training.class_weights:
        yield "classes weigh alike in the training loss, which has no option for class weights"
    if model.freezes:
        yield f"nothing is frozen; the search froze {', '.join(model.freezes)}"
    if model.stem == "small":
        yield "the first layers are the package's own, for large images; the search made the stem small"
    if not spec.decay_matrices and script != "torchvision":
        yield "weight decay leaves biases and norms alone; in the search it acted on all weights"
