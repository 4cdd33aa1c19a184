"""The learning rates of a setting by depth, and what the data of a study come to without any learning, in numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from lrsearch import layer_rates
from lrsearch.spec.study import StudySpec
from lrsearch.trial import Facts, TrialConfig

UNBALANCED: Final = 2.0
"""Training images of the largest class over those of the smallest, from which on classes are called unbalanced."""


@dataclass(frozen=True, slots=True)
class LevelRate:
    """A level of layers and how it learns."""

    number: int
    """0 is the stem."""
    first: str
    """Its first module, by name."""
    last: str
    """Its last one."""
    n_tensors: int
    """Its trained parameters, each weight or bias counted as one."""
    share: float
    """Part of the learning rate with which it learns, (0..1]."""
    peak_lr: float
    """Its largest learning rate."""


def level_rates(spec: StudySpec, config: TrialConfig) -> tuple[LevelRate, ...]:
    """Return the levels of a study's model, the stem first; none where nobody has looked at the model."""
    network = spec.facts.network
    if network is None or not network.levels:
        return ()
    shares = layer_rates.shares(len(network.levels), config)
    out = []
    for number, (names, share) in enumerate(zip(network.levels, shares, strict=True)):
        modules = [module_of(name) for name in names] or [""]
        rate = config.optimizer.peak_lr * share
        out.append(LevelRate(number, modules[0], modules[-1], len(names), share, rate))
    return tuple(out)


def module_of(parameter: str) -> str:
    """Return the module in which a parameter lies; one of the model itself stands for itself.

    >>> module_of("layer1.0.bn2.weight"), module_of("cls_token")
    ('layer1.0.bn2', 'cls_token')
    """
    return parameter.rpartition(".")[0] or parameter


def prefixes(levels: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """Return for each level the fewest names of modules or parameters that stand for its parameters, and no others.

    >>> prefixes([["stem.weight", "stem.bias"], ["body.0.a.weight", "body.0.b.weight"], ["body.1.a.weight"]])
    (('stem',), ('body.0',), ('body.1',))
    """
    level_of = {name: number for number, names in enumerate(levels) for name in names}
    inside: dict[str, set[int]] = {}  # of a module: the levels of what lies in it
    for name, number in level_of.items():
        for around in _around(name):
            inside.setdefault(around, set()).add(number)
    found: list[list[str]] = [[] for _ in levels]
    for name, number in level_of.items():
        whole = next(around for around in _around(name) if len(inside[around]) == 1)
        if whole not in found[number]:
            found[number].append(whole)
    return tuple(map(tuple, found))


def _around(parameter: str) -> tuple[str, ...]:
    """Return the modules around a parameter, the outermost first, and last the parameter itself."""
    return tuple(accumulate(parameter.split("."), "{}.{}".format))


@dataclass(frozen=True, slots=True)
class Majority:
    """What a model scores that answers the same for every image: the class of most training images."""

    label: str
    n_train: int
    """Training images of that class [examples]."""
    validation: float
    """Its accuracy on the validation images [0..1]."""
    test: float | None
    """Its accuracy on the test images [0..1]; None where there are none."""
    balanced: float
    """Its balanced accuracy on the validation images [0..1]: one over the number of classes there, or 0."""


def majority(facts: Facts) -> Majority | None:
    """Return what the class of most training images scores; None where the images of each class were not counted."""
    train, validation, test = facts.train_counts, facts.validation_counts, facts.test_counts
    if not train or not any(validation):
        return None
    label = max(range(len(train)), key=train.__getitem__)
    return Majority(
        facts.classes[label],
        train[label],
        validation[label] / sum(validation),
        test[label] / sum(test) if any(test) else None,
        1 / sum(n > 0 for n in validation) if validation[label] else 0.0,
    )


def is_unbalanced(facts: Facts) -> bool:
    """Whether some class has so many more training images than another that accuracy hides the small ones."""
    counts = facts.train_counts
    return bool(counts) and max(counts) >= UNBALANCED * max(min(counts), 1)
