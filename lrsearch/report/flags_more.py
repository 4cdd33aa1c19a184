"""Augmentation and arithmetic of a study as options of another package's training script, and what it has none for."""

from typing import Any, Final

from lrsearch.report.flags import Options
from lrsearch.report.targets import Script
from lrsearch.spec.study import StudySpec
from lrsearch.spec.training import AugmentSpec
from lrsearch.trial import Arithmetic

COLOURS: Final = ("brightness", "contrast", "saturation")
RATIO: Final = (3 / 4, 4 / 3)
"""Of the sides of a resized crop."""


def augmentation(spec: StudySpec, script: Script) -> tuple[Options, tuple[str, ...]]:
    """Return the options that change training images as the study did, and a sentence where some have none."""
    augment = spec.augment or AugmentSpec()
    match script:
        case "timm":
            options, said = _timm(augment)
        case "transformers":
            options, said = {"label_smoothing_factor": augment.label_smoothing or 0.0}, ("label_smoothing",)
        case "torchvision":
            options, said = _torchvision(augment)
    unsaid = [key for key in augment.given if key not in said]
    if not unsaid:
        return options, ()
    return options, (f"the search changed images by {', '.join(augment.said(unsaid))}, for which there is no option",)


def arithmetic(spec: StudySpec) -> Arithmetic:
    """Return how the study computes."""
    return spec.facts.arithmetic or spec.training.arithmetic or Arithmetic()


def parts(spec: StudySpec, batch_size: int) -> tuple[int, int]:
    """Return how many images are computed at once, and how often before an update, where these make a whole batch."""
    most = arithmetic(spec).micro_batch
    if most is None or most >= batch_size or batch_size % most:
        return batch_size, 1
    return most, batch_size // most


def _timm(augment: AugmentSpec) -> tuple[dict[str, Any], tuple[str, ...]]:
    colours = {getattr(augment, key) for key in COLOURS}
    jitter = colours.pop() if len(colours) == 1 else None
    said = ["flip", "erase", "resized_crop", "mixup", "cutmix", "label_smoothing", *(COLOURS if jitter else ())]
    options: dict[str, Any] = {"smoothing": augment.label_smoothing or 0.0}
    if augment.mixes:
        given = {"mixup": augment.mixup, "cutmix": augment.cutmix}
        options |= {key: value for key, value in given.items() if value} | {"mixup_mode": "elem"}
    if not (augment.flip or augment.erase or augment.resized_crop or jitter):
        return options | {"no_aug": True}, tuple(said)
    crop = augment.resized_crop
    return options | {
        "hflip": 0.5 if augment.flip else 0.0,
        "color_jitter": jitter or 0.0,
        "scale": (1.0, 1.0) if crop is None else (crop, 1.0),
        "ratio": (1.0, 1.0) if crop is None else RATIO,
        "train_interpolation": "bilinear",
        **({"reprob": augment.erase} if augment.erase else {}),
    }, tuple(said)


def _torchvision(augment: AugmentSpec) -> tuple[dict[str, Any], tuple[str, ...]]:
    options: dict[str, Any] = {"auto_augment": "ta_wide"} if augment.trivial else {}
    given = {
        "random_erase": augment.erase,
        "mixup_alpha": augment.mixup,
        "cutmix_alpha": augment.cutmix,
        "label_smoothing": augment.label_smoothing,
    }
    options |= {key: value for key, value in given.items() if value}
    return options, ("flip", "trivial", "erase", "mixup", "cutmix", "label_smoothing")
