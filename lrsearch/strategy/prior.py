"""Which studies are similar enough that their trials say something of a new one, and which trials say most."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lrsearch.spec import sources
from lrsearch.spec.models import MODELS, n_parameters
from lrsearch.spec.study import StudySpec
from lrsearch.strategy.view import KnownTraining
from lrsearch.trial import Role, State, Trial

MOST = 100
"""Trials that are taken over, of all similar studies together: the model of the strategy takes some 300 scores in all,
and the study's own are to be most of them."""

LARGEST_RATIOS: Mapping[str, float] = {"images": 8, "epochs": 8, "parameters": 4, "classes": 2, "side": 2}
"""By what factor two studies may differ at most and still be similar; see ``distance``."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What of a study the best learning rate depends on."""

    metric: tuple[str, str]
    """Its name and direction."""
    kind: str
    """The family of the model (``resnet`` of torchvision/resnet18); of a loop of one's own, its name."""
    starts_from_weights: bool
    frozen: bool
    """Whether a part of the model is not trained."""
    channels: int
    sizes: Mapping[str, float]
    """Numbers that may differ by a factor, as ``LARGEST_RATIOS`` names them; 0 where nobody knows."""


def traits(spec: StudySpec) -> Traits:
    """Return what of a study the best learning rate depends on."""
    facts, model = spec.facts, spec.model
    channels, height, width = facts.shape
    sizes = {
        "images": float(facts.n_train),
        "epochs": float(spec.epochs),
        "parameters": float(_parameters(spec)),
        "classes": float(len(facts.classes)),
        "side": math.sqrt(height * width),
    }
    kind = _family(model.name) if spec.loop is None else sources.without_folder(spec.loop.name)
    metric = (spec.metric.name, spec.metric.direction)
    return Traits(metric, kind, model.starts_from_weights, model.freeze is not None, channels, sizes)


def distance(new: StudySpec, old: StudySpec) -> float | None:
    """Return how far a study is from another, 0 and more; None: nothing can be expected of its trials.

    Similar studies have the same metric, because scores are compared; models of one family, both trained from drawn
    weights or both from given ones, because fine-tuning wants rates of another order; grey or colour images both. In
    what may differ, a factor is allowed that is expected to move the best learning rate by about an octave, a third of
    the decade within which the strategy looks:

    * images and epochs by 8: the exponents that docs/transfer.md measured lie between -.2 and .35, and 8 ** .35 is 2.1;
    * parameters by 4, so that a layer is twice as wide: its best rate then halves where nothing is corrected for it
      (Yang et al. 2022, arXiv 2203.03466);
    * classes by 2 and the side of an image by 2: the loss at the start is the logarithm of the classes, and the first
      layer of a perceptron grows with the image; both were chosen, not measured.

    What the prior says of the optimum is doubted by the strategy where trials of the study itself speak against it:
    similarity has to be right about most of it, not about all.

    Args:
        new: the study that begins.
        old: the one that has been trained.

    Returns:
        the sum of the octaves by which they differ, each over the octaves that are allowed.
    """
    one, other = traits(new), traits(old)
    if any(getattr(one, name) != getattr(other, name) for name in ("metric", "kind", "channels")):
        return None
    if (one.starts_from_weights, one.frozen) != (other.starts_from_weights, other.frozen):
        return None
    far = 0.0
    for name, largest in LARGEST_RATIOS.items():
        mine, theirs = one.sizes[name], other.sizes[name]
        if not mine and not theirs:
            continue  # of a loop of one's own nobody knows it
        if not mine or not theirs or max(mine / theirs, theirs / mine) > largest * (1 + 1e-9):
            return None
        far += abs(math.log2(mine / theirs)) / math.log2(largest)
    return far


def informing(new: StudySpec, old: StudySpec, trials: Sequence[Trial], most: int) -> list[tuple[int, KnownTraining]]:
    """Return the trials of another study that say most of a new one, each with its number.

    Those of the search that have ended by what they did, with an optimizer that the new study has: first those that
    were trained through, then those that diverged, which say where the rates end, then pruned ones, those that were
    trained longer first; of equals the earlier.

    Args:
        new: the study that begins.
        old: the other one.
        trials: of the other one.
        most: so many at most.
    """
    rank = {State.COMPLETE: 0, State.DIVERGED: 1, State.PRUNED: 2}
    usable = [
        trial
        for trial in trials
        if trial.role == Role.SEARCH
        and trial.state in rank
        and trial.config.optimizer.name in new.space.optimizers
        and (trial.state != State.PRUNED or trial.metrics)
    ]
    chosen = sorted(usable, key=lambda trial: (rank[trial.state], -len(trial.metrics), trial.number))[:most]
    return [(trial.number, _known(trial, old.name)) for trial in sorted(chosen, key=lambda trial: trial.number)]


def _known(trial: Trial, source: str) -> KnownTraining:
    scores = tuple(math.nan if row.rung_score is None else row.rung_score for row in trial.metrics)
    value = trial.outcome.value if trial.outcome is not None and trial.state == State.COMPLETE else None
    return KnownTraining(trial.config, trial.state, scores, value, source)


def _parameters(spec: StudySpec) -> int:
    """Return the trainable numbers of a model; 0 where nobody has counted them."""
    network = spec.facts.network
    if network is not None:
        return network.n_parameters
    if spec.loop is not None or spec.model.name not in MODELS:
        return 0
    facts = spec.facts
    layers = MODELS[spec.model.name].layers(spec.model.hidden_resolved, facts.shape, len(facts.classes))
    return n_parameters(layers)


def _family(model: str) -> str:
    """Return the family of a model.

    >>> [_family(name) for name in ("torchvision/resnet18", "timm/resnet34.a1_in1k", "nets/mine.py:build", "cnn")]
    ['resnet', 'resnet', 'mine.py:build', 'cnn']
    """
    own = sources.model_of(model)
    if not isinstance(own, sources.Zoo):
        return sources.without_folder(model) if model not in MODELS else model
    return re.match(r"[a-z_]*", own.name.lower()).group().strip("_") or own.name  # type: ignore[union-attr]
