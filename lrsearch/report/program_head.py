"""What stands at the top of an exported program: where it comes from, what it needs, what it keeps of the search."""

import shlex
import textwrap
from collections.abc import Iterator
from typing import Final

from lrsearch import families, schedules
from lrsearch.report import study_words, words
from lrsearch.report.model_code import ModelCode
from lrsearch.spec.datasets import DATASETS
from lrsearch.spec.study import StudySpec
from lrsearch.text import counted, in_docstring
from lrsearch.trial import Trial
from lrsearch.version import __version__

AUGMENTS: Final = ("flip", "crop")
"""Changes of training images that a program does."""
EXACT: Final = "label_smoothing"
"""What it does without drawing anything."""
WIDTH: Final = 88
"""Characters beyond which a line is broken; what formatters have where nobody has told them."""


def head(trial: Trial, spec: StudySpec, framework: str) -> str:
    """Return where the program comes from, as lines of a table."""
    config = trial.config
    optimizer = f"{words.optimizer(config.optimizer)}; peak lr {words.rate(config.optimizer.peak_lr)}"
    network = spec.facts.network
    by_layer = "" if network is None else words.layers(config, len(network.levels))
    steps = spec.steps_per_epoch(config.batch_size)
    length = f"{counted(config.epochs, 'epoch')} of {counted(steps, 'update')}"
    rows = {
        "setting": f"{optimizer}; batch size {config.batch_size}",
        **({"layers": by_layer} if by_layer else {}),
        **({"computes": computes} if (computes := study_words.arithmetic(spec)) else {}),
        "schedule": f"{schedules.describe(config.schedule)}; {length}",
        "score": score(trial, spec),
        "study": spec.name,
        "made by": f"lrsearch {__version__}: lrsearch export {shlex.quote(spec.name)} --trial {trial.number} "
        f"--to {framework}",
    }
    lines = []
    for name, text in rows.items():
        lines += textwrap.wrap(
            in_docstring(text), WIDTH, initial_indent=f"{name:<10}", subsequent_indent=" " * 10, break_on_hyphens=False
        )
    return "\n".join(lines)


def score(trial: Trial, spec: StudySpec) -> str:
    """Return how good the trial was, in words."""
    if not trial.metrics:
        return f"none, the trial is {words.state(trial)}"
    last, n = trial.metrics[-1], spec.facts.n_validation
    said = f"validation accuracy {words.accuracy(last.val_accuracy, n)}, loss {words.number(last.val_loss)}"
    said += f" on {counted(n, 'image')}"
    if trial.test_accuracy is not None:
        said += f"; test accuracy {words.accuracy(trial.test_accuracy, spec.facts.n_test)} on {spec.facts.n_test}"
    if last.epoch < trial.config.epochs:
        said += f"; {words.state(trial)} after epoch {last.epoch}"
    return said


def needs(trial: Trial, spec: StudySpec, framework: str, model: ModelCode) -> str:
    """Return what the program needs, and what it keeps of the search."""
    packages = ["lightning"] if framework == "lightning" else []
    packages += list(dict.fromkeys(_packages(spec, model)))
    named = ", ".join(packages[:-1]) + (" and " if len(packages) > 1 else "") + packages[-1]
    kept = "The learning rate of every update is that of the search (--lr-log writes it down)"
    if families.of(trial.config.schedule).feedback:
        kept = "The learning rate follows the validation loss as it did in the search (--lr-log writes it down)"
    begins = "It begins with the weights of the search and sees the images in the same order"
    said = f"It needs {named}, and no lrsearch. {kept}. {begins}"
    done, left = augmentation(spec)
    if left:
        said += (
            f". It leaves out what the search did to training images at random ({', '.join(left)}): write that into "
            "it, or expect another score."
        )
    elif done:
        said += (
            f". Training images are changed at random as in the search ({', '.join(done)}), but drawn otherwise, so "
            "that it should come near that score, and not to the same weights."
        )
    elif model.draws:
        said += (
            ". What the model draws at random while it trains, as dropout does, is drawn otherwise than in the search, "
            "so that it should come near that score, and not to the same weights."
        )
    else:
        said += ", so that it should come close to that score."
    return textwrap.fill(said, WIDTH)


def augmentation(spec: StudySpec) -> tuple[list[str], list[str]]:
    """Return how training images are changed, in words: what a program does too, and what it leaves out."""
    if spec.augment is None:
        return [], []
    given = spec.augment.given
    done = [key for key in given if key in AUGMENTS]
    return spec.augment.said(done), spec.augment.said(key for key in given if key not in (*done, EXACT))


def _packages(spec: StudySpec, model: ModelCode) -> Iterator[str]:
    if spec.dataset.own is not None:
        yield "pillow"
    else:
        yield "scikit-learn" if DATASETS[spec.dataset.name].torchvision is None else "torchvision"
    if model.kind in ("torchvision", "timm"):
        yield model.kind
    if model.file is not None and model.file.is_safetensors:
        yield "safetensors"
