"""The model of a study as a program builds it, without lrsearch: what the templates of programs need to know of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from lrsearch.analysis.levels import prefixes
from lrsearch.report import study_words
from lrsearch.report.code_lines import literal
from lrsearch.spec.models import MODELS, RESIDUAL, Layer
from lrsearch.spec.sources import Code, Zoo, code_of, without_folder
from lrsearch.spec.study import ModelSpec, StudySpec

SMALL: Final = 64
"""Images with a side below this make a stem small that nobody has decided and that is drawn [pixels]."""
COLOURS: Final = 3
"""Channels for which torchvision makes its models."""
OF_FILES: Final = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")
"""How the names of files of weights end."""
IN_FOLDER: Final = "weights.safetensors"
"""What `lrsearch train` calls its file."""
SEVERAL_OUTPUTS: Final = ("inception_v3", "googlenet")
"""Models of torchvision that return auxiliary logits too while they are trained."""


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """A file of weights from which training starts."""

    path: str
    sha256: str

    @property
    def is_safetensors(self) -> bool:
        """Whether it has that format; else torch.save wrote it."""
        return self.path.endswith(".safetensors")


@dataclass(frozen=True, slots=True)
class ModelCode:
    """How a program builds the model of a study."""

    kind: Literal["layers", "torchvision", "timm", "function"]
    title: str
    """In words."""
    shape: tuple[int, int, int]
    """Channels, height and width of an image."""
    n_classes: int
    layers: tuple[str, ...] = ()
    """The modules of a model of lrsearch's own."""
    named: bool = False
    """Whether these have their names, too."""
    has_residual: bool = False
    """Whether a branch is among them whose output is added to what came in."""
    name: str = ""
    """Of a model of a package."""
    keywords: tuple[str, ...] = ()
    """What the package's function is called with besides, as code."""
    function: Code | None = None
    """The person's own."""
    args: str = ""
    """What it is called with besides, as code; empty where there is nothing."""
    sets_channels: bool = False
    """Whether the first convolution is made for other channels than three."""
    stem: Literal["", "small", "as in the file"] = ""
    """Whether a large stem is made small; where the file of weights has a small one."""
    sizes_itself: bool = False
    """Whether it must be found out what a model of timm is told of the size of images."""
    published: str = ""
    """Weights of the package, by name; empty where there are none."""
    file: WeightsFile | None = None
    freezes: tuple[str, ...] = ()
    """Modules and parameters that the study freezes."""
    rests: bool = False
    """Whether parts of it are not trained, by the study or by its function: they evaluate while others train."""
    draws: bool = False
    """Whether it draws random numbers while it trains."""
    loss: Code | None = None
    """The person's own."""
    several: bool = False
    """Whether it may return something else than logits."""

    @property
    def is_plain(self) -> bool:
        """Whether a batch goes in, logits come out, and the loss is cross entropy."""
        return self.loss is None and not self.several

    @property
    def starts_from_weights(self) -> bool:
        """Whether they are loaded, and not drawn."""
        return bool(self.published) or self.file is not None

    @property
    def functions(self) -> tuple[Code, ...]:
        """The person's own."""
        return tuple(one for one in (self.function, self.loss) if one is not None)


def model_code(spec: StudySpec) -> ModelCode:
    """Return how a program builds the model of a study."""
    facts, model = spec.facts, spec.model
    network, own, shape = facts.network, model.own, facts.shape
    given = model.weights if model.weights is not None else model.init_from
    of_file = given is not None and (model.init_from is not None or _is_file(given))
    freezes: tuple[str, ...] = ()
    if network is not None and model.freeze is not None:
        freezes = prefixes([network.frozen, [name for level in network.levels for name in level]])[0]
    layers = MODELS[model.name].layers(model.hidden_resolved, shape, len(facts.classes)) if own is None else ()
    # Files of weights and levels know the layers by their names.
    named = own is None and (spec.layer_wise or model.starts_from_weights or model.freeze is not None)
    zoo = own if isinstance(own, Zoo) else None
    return ModelCode(
        kind=zoo.package if zoo is not None else "layers" if own is None else "function",
        title=study_words.source(without_folder(model.name)),
        shape=shape,
        n_classes=len(facts.classes),
        layers=tuple(f"{layer.name}={_code(layer)}" if named else layer.code for layer in layers),
        named=named,
        has_residual=any(layer.class_name == RESIDUAL for layer in layers),
        name="" if zoo is None else zoo.name,
        keywords=() if zoo is None else _keywords(zoo, model, shape),
        sizes_itself=zoo is not None and zoo.package == "timm" and "img_size" not in (model.args or {}),
        function=own if isinstance(own, Code) else None,
        args=literal(model.args) if model.args and zoo is None else "",
        sets_channels=zoo is not None and zoo.package == "torchvision" and shape[0] != COLOURS,
        stem="" if zoo is None else _stem(model, shape, of_file=of_file),
        published=given if given is not None and not of_file else "",
        file=_file(given, network.weights if network is not None else "") if given is not None and of_file else None,
        freezes=freezes,
        rests=network is not None and bool(network.frozen),
        draws=network is not None and network.draws,
        loss=None if model.loss is None else code_of(model.loss),
        several=isinstance(own, Code) or has_auxiliary_heads(model),
    )


def has_auxiliary_heads(model: ModelSpec) -> bool:
    """Whether a model of torchvision returns auxiliary logits beside its own while it is trained."""
    return isinstance(model.own, Zoo) and model.own.name in SEVERAL_OUTPUTS


def _keywords(own: Zoo, model: ModelSpec, shape: tuple[int, int, int]) -> tuple[str, ...]:
    """Return the keywords of a package's function, as ``training.zoo`` has them; the number of classes apart."""
    given: dict[str, object] = {}
    if own.package == "timm":
        given["in_chans"] = shape[0]
    elif own.name.startswith("vit_"):
        given["image_size"] = shape[1]
    elif own.name.startswith("maxvit"):
        given["input_size"] = shape[1:]
    elif own.name in SEVERAL_OUTPUTS:
        given |= {"init_weights": True, "transform_input": shape[0] == COLOURS}
    return tuple(f"{name}={literal(value)}" for name, value in (given | dict(model.args or {})).items())


def _code(layer: Layer) -> str:
    """Return a layer as code, a branch with the names of its own layers."""
    if layer.class_name != RESIDUAL:
        return layer.code
    return f"{RESIDUAL}(OrderedDict({', '.join(f'{one.name}={_code(one)}' for one in layer.within)}))"


def _stem(model: ModelSpec, shape: tuple[int, int, int], *, of_file: bool) -> Literal["", "small", "as in the file"]:
    """Return what becomes of a large stem, as ``training.models`` decides it."""
    if model.stem == "small":
        return "small"
    if model.stem == "full":
        return ""
    if of_file:
        return "as in the file"
    return "small" if model.weights is None and min(shape[1:]) < SMALL else ""


def _is_file(text: str) -> bool:
    """Whether what stands for weights is the name of a file, as ``training.states`` sees it."""
    return text.endswith(OF_FILES) or "/" in text or "\\" in text


def _file(text: str, sha256: str) -> WeightsFile:
    """Return the file of weights that a study names, or that in the folder of `lrsearch train` which it names."""
    path = Path(text).expanduser().absolute()
    return WeightsFile(str(path if text.endswith(OF_FILES) else path / IN_FOLDER), sha256)
