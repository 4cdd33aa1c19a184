"""What a study trains, in words: its data, its model, the levels of that model's layers."""

from collections.abc import Iterator, Sequence

from rich import box
from rich.text import Text

from lrsearch import given
from lrsearch.analysis.by_class import ClassScore
from lrsearch.analysis.levels import LevelRate, Majority, is_unbalanced, level_rates, majority
from lrsearch.report import words
from lrsearch.report.fitted import FittedTable
from lrsearch.spec.sources import Code, Pictures, data_of, without_folder
from lrsearch.spec.study import StudySpec
from lrsearch.text import counted, shown
from lrsearch.trial import Arithmetic, Facts, TrialConfig

NAMED_CLASSES = 12
"""Classes that are named with their counts; the others are counted."""
SHOWN_LEVELS = 24
"""Levels that are shown in full; of more, as many from both ends."""


def name(text: str) -> str:
    """Return what a data set or a model is called where there is little room.

    >>> [name(one) for one in ("digits", "folder:/data/my pets", "torchvision/resnet18", "/home/me/net.py:build")]
    ['digits', 'my pets', 'torchvision/resnet18', 'net.py:build']
    """
    own = data_of(text)
    return shown(without_folder(own.path if isinstance(own, Pictures) else given.short(text)))


def trained(spec: StudySpec) -> str:
    """Return which model a study trains on which data, where there is little room."""
    if spec.loop is not None:
        return f"{source(spec.loop.name)}"
    return f"{name(spec.model.name)} on {name(spec.dataset.name)}"


def trained_json(spec: StudySpec) -> dict[str, str]:
    """Return the names of data set and model, or of the loop that stands for both, by key."""
    if spec.loop is not None:
        return {"loop": spec.loop.name}
    return {"dataset": spec.dataset.name, "model": spec.model.name}


def judged_by(spec: StudySpec) -> str:
    """Return what a trial is trained on and judged by."""
    n = spec.facts.n_validation
    images = f"judged on {n} validation images" if n else "judged by what it tells"
    if spec.loop is not None:
        return f"those of {source(spec.loop.name)}; {images}"
    return f"{source(spec.dataset.name)}, {source(spec.model.name)}; {images}"


def source(text: str) -> str:
    """Return where a person's own data or model comes from; of others the name.

    >>> [source(one) for one in ("folder:/data/my pets", "csv:labels.csv", "net.py:build", "timm/vit_tiny_patch16_224")]
    ['the pictures of /data/my pets', 'the pictures of labels.csv', 'build of net.py', 'timm/vit_tiny_patch16_224']
    """
    match data_of(text):
        case Pictures(path=path):
            return f"the pictures of {shown(path)}"
        case Code(where=given.MODULE, function=function):
            return f"{function}, handed over in Python"
        case Code(where=where, function=function):
            return f"{function} of {shown(where)}"
        case None:
            return shown(text)


def data(spec: StudySpec) -> str:
    """Return the images in words: where from, how large, how many of each set."""
    facts = spec.facts
    if spec.loop is not None:
        known = f"{facts.n_train:,} examples to train on" if facts.n_train else _updates(spec)
        return f"those of {source(spec.loop.name)}: {known}"
    of = source(spec.dataset.name)
    if spec.dataset.own is not None:
        channels, height, width = facts.shape
        kind = "grey" if channels == 1 else "colour"
        of += f" at {height}x{width} pixels in {kind}, {counted(len(facts.classes), 'class', 'classes')}"
    return (
        f"{of}: {counted(facts.n_train, 'image')} to train on, {facts.n_validation:,} to validate, "
        f"{facts.n_test:,} untouched ones to test"
    )


def _updates(spec: StudySpec) -> str:
    assert spec.loop is not None
    if isinstance(spec.loop.steps_per_epoch, int):
        return f"{counted(spec.loop.steps_per_epoch, 'update')} an epoch"
    return ", ".join(f"{counted(n, 'update')} an epoch of batches of {size}" for size, n in spec.facts.steps)


def class_counts(facts: Facts) -> str:
    """Return how many images of each class there are in all three sets, the commonest first."""
    counts = [sum(of) for of in zip(facts.train_counts, facts.validation_counts, facts.test_counts, strict=True)]
    order = sorted(range(len(counts)), key=lambda label: -counts[label])
    said = [f"{shown(facts.classes[label])} {counts[label]:,}" for label in order[:NAMED_CLASSES]]
    more = [f"and {len(order) - NAMED_CLASSES} more"] if len(order) > NAMED_CLASSES else []
    return ", ".join([*said, *more])


def by_class(spec: StudySpec, scores: Sequence[ClassScore]) -> str:
    """Return how many test images of each class are right, the worst class first; empty where classes are balanced."""
    if not scores or not is_unbalanced(spec.facts):
        return ""
    worst = sorted(scores, key=lambda one: one.share)
    said = [f"{shown(one.label)} {one.n_right:,} of {one.n:,}" for one in worst[:NAMED_CLASSES]]
    more = [f"and {len(worst) - NAMED_CLASSES} more"] if len(worst) > NAMED_CLASSES else []
    return f"right in the test: {', '.join([*said, *more])}"


def guess(spec: StudySpec) -> str:
    """Return what always answering the class of most training images scores; empty for a published data set.

    Where classes are unbalanced its balanced accuracy is said too, whatever the metric of the study.
    """
    facts = spec.facts
    found = None if spec.dataset.own is None else majority(facts)
    if found is None:
        return ""
    said = (
        f"always '{shown(found.label)}': accuracy {words.accuracy(found.validation, facts.n_validation)} in validation"
    )
    if found.test is not None:
        said += f", {words.accuracy(found.test, facts.n_test)} in the test"
    return said + _balanced(spec, found)


def _balanced(spec: StudySpec, found: Majority) -> str:
    facts = spec.facts
    if not is_unbalanced(facts):
        return ""
    said = f"; balanced accuracy {words.accuracy(found.balanced, facts.n_validation)}"
    if spec.metric.name == "balanced_accuracy":
        return said
    low, high = min(facts.train_counts), max(facts.train_counts)
    return f'{said} (classes of {low:,} to {high:,} images: objective.metric = "balanced_accuracy" counts each alike)'


def model(spec: StudySpec) -> str:
    """Return the model in words: its name, its size, where its weights begin, what is not trained."""
    network = spec.facts.network
    if spec.loop is not None:
        size = f", {counted(network.n_parameters, 'trained parameter')}" if network and network.n_parameters else ""
        return f"that of {source(spec.loop.name)}{size}"
    if network is None:
        hidden = ", ".join(map(str, spec.model.hidden_resolved)) or "none"
        return f"{source(spec.model.name)}, hidden layers {hidden}"
    parts = [source(spec.model.name)]
    if spec.model.args:
        parts.append(", ".join(f"{key} = {shown(str(value))}" for key, value in spec.model.args.items()))
    if spec.model.own is None:
        parts.append(f"hidden layers {', '.join(map(str, spec.model.hidden_resolved)) or 'none'}")
    parts.append(counted(network.n_parameters, "trained parameter"))
    parts.append(weights(spec))
    if network.frozen:
        parts.append(f"{counted(len(network.frozen), 'tensor')} frozen ({frozen(spec)})")
    if spec.model.loss is not None:
        parts.append(f"loss {source(spec.model.loss)}")
    return ", ".join(parts)


def weights(spec: StudySpec) -> str:
    """Return where training starts."""
    begins = spec.model.weights if spec.model.weights is not None else spec.model.init_from
    network = spec.facts.network
    if begins is None:
        return "weights drawn at random"
    sha256 = f" (SHA-256 {network.weights[:12]})" if network is not None and network.weights else ""
    return f"weights of {shown(begins)}{sha256}"


def frozen(spec: StudySpec) -> str:
    """Return what is not trained."""
    asked = spec.model.freeze
    if asked is None:
        return "as its function says"
    return shown(asked if isinstance(asked, str) else ", ".join(asked))


def warning(spec: StudySpec) -> str:
    """Return what a person must know of the model before trusting a repetition; empty where there is nothing."""
    network = spec.facts.network
    if network is None or network.repeats:
        return ""
    return (
        "two trainings of this model from one state differ: a trial that was interrupted and went on is not the one "
        "that would have been, and no result can be repeated exactly"
    )


def levels(spec: StudySpec, config: TrialConfig) -> str:
    """Return how layers learn with a setting; empty where all learn alike."""
    network = spec.facts.network
    return "" if network is None else words.layers(config, len(network.levels))


def decay(spec: StudySpec) -> str:
    """Return what weight decay acts upon."""
    return "matrices and kernels, not on biases and norms" if spec.decay_matrices else "all that is trained"


HEADER = ("level", "first module", "last module", "tensors", "lr at the peak")


def level_rows(spec: StudySpec, config: TrialConfig) -> list[tuple[str, ...]]:
    """Return the levels as rows of a table, the stem first; of many those at both ends."""
    found = level_rates(spec, config)
    rows = [_row(one, len(found)) for one in found]
    if len(rows) <= SHOWN_LEVELS:
        return rows
    ends = SHOWN_LEVELS // 2
    left_out = (f"{len(rows) - 2 * ends} more", *[""] * (len(HEADER) - 1))
    return [*rows[:ends], left_out, *rows[-ends:]]


def _row(one: LevelRate, n: int) -> tuple[str, ...]:
    role = " (stem)" if one.number == 0 else " (head)" if one.number == n - 1 else ""
    return f"{one.number}{role}", shown(one.first), shown(one.last), str(one.n_tensors), words.rate(one.peak_lr)


def level_table(spec: StudySpec, config: TrialConfig) -> FittedTable | None:
    """Return the table of levels; None where nobody has looked at the model, or all layers learn alike."""
    if not levels(spec, config):
        return None
    table = FittedTable("--json has all", box=box.MARKDOWN, header_style="bold")
    for heading, gives_way in zip(HEADER, (0, 2, 3, 4, 0), strict=True):
        number = heading in ("tensors", "lr at the peak")
        table.add_column(
            heading.capitalize() if heading != "lr at the peak" else heading,
            gives_way=gives_way,
            justify="right" if number else "left",
            **({"no_wrap": True} if number else {"overflow": "fold"}),
        )
    for row in level_rows(spec, config):
        table.add_row(*(Text(cell) for cell in row))
    return table


def level_json(spec: StudySpec, config: TrialConfig) -> list[dict[str, object]]:
    """Return the levels as JSON, with the names of their parameters."""
    network = spec.facts.network
    if network is None:
        return []
    return [
        {"level": one.number, "share": one.share, "peak_lr": one.peak_lr, "parameters": list(names)}
        for one, names in zip(level_rates(spec, config), network.levels, strict=True)
    ]


def plain_loss(spec: StudySpec) -> bool:
    """Whether trainings are trained by the plain cross entropy of logits and labels, as far as the study file says."""
    smooth = spec.augment is not None and spec.augment.label_smoothing is not None
    return spec.model.loss is None and not spec.training.class_weights and not smooth


def augmentation(spec: StudySpec) -> str:
    """Return how training images are changed, and what that makes of the training loss; empty where they are not."""
    if spec.augment is None:
        return ""
    why = "on changed images" if len(spec.augment.of_the_loss) < len(spec.augment.given) else "on smoothed labels"
    return (
        f"{spec.augment.words}, in training alone: a training loss is one {why}, and to be compared neither with a "
        f"validation loss nor with that of a study that changes them otherwise"
    )


def arithmetic(spec: StudySpec, *, on_gpu: bool = False) -> str:
    """Return how trainings compute, in words; empty for whole batches in fp32 on a CPU."""
    how = spec.facts.arithmetic or spec.training.arithmetic or Arithmetic()
    said = []
    if how.precision != "fp32":
        said.append(f"matrix products and convolutions in {how.precision}, weights, optimizer and loss in fp32")
    tf32 = spec.training.tf32
    if tf32 is not None or (on_gpu and how.precision == "fp32"):
        where = {None: "in convolutions alone", "on": "in convolutions and matrix products", "off": "nowhere"}
        said.append(f"fp32 as TF32 {where[tf32]}")
    if how.channels_last:
        said.append("the channels of a pixel side by side")
    if how.micro_batch is not None:
        said.append(f"the gradients of at most {counted(how.micro_batch, 'image')} at once, added up")
    return "; ".join(said)


def about(spec: StudySpec) -> Iterator[tuple[str, str]]:
    """Yield what there is to know of a study of a person's own, each under its name."""
    if spec.dataset.own is not None and spec.facts.train_counts:
        yield "classes", class_counts(spec.facts)
        yield "guessing", guess(spec)
    if power := spec.training.class_weights:
        yield "class weights", f"inverse frequency to the power of {power:g}, in the training loss"
    if said := augmentation(spec):
        yield "augmentation", said
    if warned := warning(spec):
        yield "repeatable", f"no: {warned}"
