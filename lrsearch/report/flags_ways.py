"""The ways in which a setting can be said to another package's training script."""

from typing import assert_never

from lrsearch.report.flags import Flags
from lrsearch.report.flags_timm import timm_flags
from lrsearch.report.flags_torchvision import torchvision_flags
from lrsearch.report.flags_transformers import transformers_flags
from lrsearch.report.targets import Script
from lrsearch.spec.study import StudySpec
from lrsearch.trial import Trial


def ways(trial: Trial, spec: StudySpec, script: Script) -> tuple[Flags, ...]:
    """Return all ways that there are, at least one.

    Raises:
        UsageError: the script has no option for something that sets the learning rate or the optimizer, or a loop of
            the person's own trains the study.
    """
    spec.check_has_images()
    match script:
        case "timm":
            return timm_flags(trial, spec)
        case "transformers":
            return transformers_flags(trial, spec)
        case "torchvision":
            return torchvision_flags(trial, spec)
        case _:
            assert_never(script)
