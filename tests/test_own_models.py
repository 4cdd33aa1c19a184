"""Models that are not lrsearch's own, built: those of packages, a person's own functions, and resnet9."""

import sys
import textwrap
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from lrsearch.errors import StudyFileError
from lrsearch.spec.models import MODELS, Layer
from lrsearch.training.models import ModelConfig, assembled, build, n_parameters
from lrsearch.training.networks import own_loss
from lrsearch.training.outputs import logits_of, loss_of
from lrsearch.training.residual import Residual

COLOUR = (3, 32, 32)
N = 7
"""Classes."""

HEAD = """
    import functools
    import random

    import numpy as np
    import torch
    from torch import nn

    def net(c, n, size=32):
        return nn.Sequential(nn.Flatten(), nn.Linear(c * size * size, n))

"""


def written(tmp_path: Path, code: str, name: str = "net.py") -> ModelConfig:
    """Write a person's file with a function ``build`` and return the model that it is."""
    path = tmp_path / name
    path.write_text(textwrap.dedent(HEAD) + textwrap.dedent(code))
    return ModelConfig(f"{path}:build")


def line_of(config: ModelConfig, words: str) -> str:
    """Return ``FILE, line N`` of the first line that holds the words."""
    path = config.name.rpartition(":")[0]
    number = next(n for n, line in enumerate(Path(path).read_text().splitlines(), 1) if words in line)
    return f"({path}, line {number})"


@pytest.mark.parametrize(
    "signature",
    [
        "num_classes, in_chans",
        "n_classes, channels",
        "*, n_classes, in_channels=3",
        "num_classes=1000, input_shape=(9, 9, 9)",
        "input_shape, num_classes, image_size",
        "num_classes, **more",
        "**more",
        "num_classes, width=3, *others",
    ],
)
def test_a_function_is_called_with_the_keywords_that_it_has(signature: str, tmp_path: Path) -> None:
    code = f"""
        def build({signature}):
            given = dict(locals())
            given |= given.pop("more", {{}})
            given.pop("others", None)
            made = net(3, given.get("num_classes") or given.get("n_classes"))
            made.given = given
            return made
    """
    model = build(written(tmp_path, code), COLOUR, N)
    meant = {"num_classes": N, "n_classes": N, "input_shape": COLOUR, "image_size": 32}
    meant |= dict.fromkeys(("in_chans", "in_channels", "channels"), 3)
    given: dict[str, object] = model.given
    assert given.pop("width", 3) == 3
    assert given
    assert given == {name: meant[name] for name in given}
    # What goes on to others has the name that torchvision and timm have for it, and no two names for one thing.
    assert {"num_classes", "n_classes"} - given.keys()


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (
            "class build(nn.Linear):\n    def __init__(self, num_classes):\n        super().__init__(4, num_classes)",
            "class",
        ),
        ("build = functools.partial(nn.Linear, 4, out_features=5)", "partial"),
        ("def build(num_classes):\n    return nn.Linear(4, num_classes).double().float()", "plain"),
        ("build = lambda num_classes: nn.Linear(4, num_classes)", "lambda"),
    ],
)
def test_a_class_and_a_partial_will_do(code: str, name: str, tmp_path: Path) -> None:
    del name
    path = tmp_path / "net.py"
    path.write_text(f"import functools\nfrom torch import nn\n{code}\n")
    assert isinstance(build(ModelConfig(f"{path}:build"), (1, 1, 4), 5), nn.Linear)


def test_functions_of_packages_are_named_as_modules() -> None:
    config = ModelConfig("torchvision.models:shufflenet_v2_x0_5", args={"stages_repeats": [1, 1, 1]})
    with pytest.raises(StudyFileError, match=r"raised TypeError: .*stages_repeats"):
        build(config, COLOUR, N)
    model = build(ModelConfig("torchvision.models:shufflenet_v2_x0_5"), COLOUR, N)
    assert model.eval()(torch.zeros(2, *COLOUR)).shape == (2, N)


def test_args_of_the_study_file_reach_the_function(tmp_path: Path) -> None:
    config = written(tmp_path, "def build(num_classes, width):\n    return nn.Linear(width, num_classes)")
    found = build(ModelConfig(config.name, args={"width": 9}), COLOUR, N)
    assert isinstance(found, nn.Linear)
    assert (found.in_features, found.out_features) == (9, N)


REFUSED = [
    # code, args, what is said, words of the line that is named
    (
        "def build(num_classes):\n    pass",
        None,
        "must return a network (a torch.nn.Module), and it returned nothing",
        "def build",
    ),
    ("def build(num_classes):\n    return 3", None, "and it returned a int", "def build"),
    ("def build(num_classes):\n    return nn.Linear", None, "and it returned a type", "def build"),
    (
        "def build(num_classes, width):\n    return 1",
        None,
        "asks for 'width', and is called with those of num_",
        "def build",
    ),
    ("def build(classes, /):\n    return 1", None, "asks for 'classes', and is called with those of", "def build"),
    ("def build(width=3):\n    return 1", {"witdh": 4}, "takes no 'witdh' (did you mean 'width'?)", "def build"),
    ("build = nn.Linear(3, 4)", None, "must be a function that builds a network, anew for every trial", None),
    ("def build():\n    raise ValueError('no\\nsuch')", None, "raised ValueError: no", "raise"),
    ("def build():\n    return inner()\ndef inner():\n    return 1 / 0", None, "ZeroDivisionError: division", "1 / 0"),
    ("def build():\n    return torch.zeros(2) @ torch.zeros(3)", None, "raised RuntimeError: ", "@"),
    ("def built():\n    return 1", None, "has no function 'build' (did you mean 'built'?)", None),
    ("def build(:", None, "SyntaxError: ", "def build(:"),
    ("import no_such_module", None, "ModuleNotFoundError: No module named 'no_such_module'", "no_such_module"),
    (
        "def build(num_classes):\n    return net(3, num_classes).requires_grad_(False)",
        None,
        "has no trainable parameter",
        "def build",
    ),
    ("def build(num_classes):\n    return nn.Flatten()", None, "has no trainable parameter", "def build"),
    (
        "def build(num_classes):\n    return nn.Sequential(nn.LazyConv2d(2, 99), nn.LazyLinear(num_classes))",
        None,
        "the first images through",
        None,
    ),
]


@pytest.mark.parametrize(("code", "args", "sentence", "words"), REFUSED)
def test_what_cannot_be_built_is_said_with_the_persons_file_and_line(
    code: str, args: dict[str, object] | None, sentence: str, words: str | None, tmp_path: Path
) -> None:
    config = written(tmp_path, code)
    with pytest.raises(StudyFileError) as caught:
        build(ModelConfig(config.name, args=args), COLOUR, N)
    said = str(caught.value)
    assert said.startswith(("model.name: ", "model.args: "))
    assert sentence in said
    assert "\n" not in said
    if words is not None:
        assert said.endswith(line_of(config, words))


def test_a_file_that_changes_is_read_anew_and_one_that_does_not_is_not(tmp_path: Path) -> None:
    counts = tmp_path / "counts"
    code = """
        with open(r'{}', 'a') as file:
            file.write('x')
        def build(num_classes):
            return nn.Linear({}, num_classes)
    """
    config = written(tmp_path, code.format(counts, 4))
    for _ in range(3):
        assert build(config, COLOUR, N).in_features == 4
    assert counts.read_text() == "x"
    written(tmp_path, code.format(counts, 44))
    assert build(config, COLOUR, N).in_features == 44


def test_the_file_of_a_loss_is_read_once_for_all_trials(tmp_path: Path) -> None:
    counts = tmp_path / "counts"
    code = f"""
        with open(r'{counts}', 'a') as file:
            file.write('x')
        def loss(logits, labels):
            return functional.cross_entropy(logits, labels)
    """
    config = ModelConfig(loss=written(tmp_path, code).name.replace(":build", ":loss"))
    for _ in range(3):
        assert own_loss(config) is not None
    assert counts.read_text() == "x"


@pytest.mark.parametrize(
    "code",
    [
        "def build(num_classes):\n    return net(3, num_classes)",
        "def build(num_classes):\n    m = net(3, num_classes)\n    m[1].bias.data += np.random.rand()\n    return m",
        "def build(num_classes):\n    m = net(3, num_classes)\n    m[1].bias.data += random.random()\n    return m",
        "def build(num_classes):\n    return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))",
    ],
)
def test_one_seed_is_one_start_whatever_draws(code: str, tmp_path: Path) -> None:
    config = written(tmp_path, code)
    starts = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        starts.append(build(config, COLOUR, N).state_dict())
    assert all(torch.equal(t, starts[1][name]) for name, t in starts[0].items())
    assert not all(torch.equal(t, starts[2][name]) for name, t in starts[0].items())
    assert not any(nn.parameter.is_lazy(t) for t in starts[0].values())


@pytest.mark.parametrize("name", ["torchvision/mobilenet_v3_small", "timm/mobilenetv3_small_050", "resnet9"])
@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 40, 40), (4, 33, 65)])
def test_a_model_is_sized_by_channels_and_classes(name: str, shape: tuple[int, int, int]) -> None:
    model = build(ModelConfig(name), shape, N)
    assert model.eval()(torch.zeros(2, *shape)).shape == (2, N)


def test_a_model_of_a_package_starts_alike_whether_or_not_another_was_built_before() -> None:
    config = ModelConfig("timm/resnet18")
    starts = []
    for _ in range(2):
        torch.manual_seed(3)
        starts.append(build(config, (1, 32, 32), N).state_dict())
        build(ModelConfig("torchvision/resnet18"), COLOUR, N)
    assert all(torch.equal(t, starts[1][name]) for name, t in starts[0].items())


@pytest.mark.parametrize(
    ("name", "size", "stem", "kernel", "has_pool"),
    [
        ("torchvision/resnet18", 32, None, 3, False),
        ("torchvision/resnet18", 63, "auto", 3, False),
        ("torchvision/resnet18", 64, "auto", 7, True),
        ("torchvision/resnet18", 64, "small", 3, False),
        ("torchvision/resnet18", 32, "full", 7, True),
        ("timm/resnet18", 32, None, 3, False),
        ("timm/seresnet50", 64, None, 7, True),
    ],
)
def test_small_images_get_a_small_stem(name: str, size: int, stem: str | None, kernel: int, has_pool: bool) -> None:
    model = build(ModelConfig(name, stem=stem), (3, size, size), N)
    assert model.conv1.kernel_size == (kernel, kernel)
    assert model.conv1.stride == ((1, 1) if kernel == 3 else (2, 2))
    assert isinstance(model.maxpool, nn.MaxPool2d) is has_pool
    assert model.eval()(torch.zeros(2, 3, size, size)).shape == (2, N)


def test_a_small_stem_passes_on_as_much_as_the_large_one() -> None:
    torch.manual_seed(0)
    images = torch.randn(8, 3, 32, 32)
    large, small = (
        build(ModelConfig("torchvision/resnet18", stem=stem), COLOUR, N).conv1(images).std().item()
        for stem in ("full", "small")
    )
    assert small == pytest.approx(large, rel=0.2)


@pytest.mark.parametrize(
    ("name", "kernel"),
    [("torchvision/densenet121", 3), ("timm/densenet121", 3), ("torchvision/googlenet", 3), ("timm/resnet18d", None)],
)
def test_stems_that_are_known_by_their_layers_and_others(name: str, kernel: int | None) -> None:
    torch.manual_seed(0)
    model = build(ModelConfig(name), COLOUR, N)
    full = build(ModelConfig(name, stem="full"), COLOUR, N)
    first = next(one for one in model.modules() if isinstance(one, nn.Conv2d))
    kept = {n: t.shape for n, t in model.state_dict().items()} == {n: t.shape for n, t in full.state_dict().items()}
    assert kept is (kernel is None)
    assert kernel is None or first.kernel_size == (kernel, kernel)
    assert model.eval()(torch.zeros(2, *COLOUR)).shape == (2, N)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (ModelConfig("torchvision/resnet19"), "torchvision has no classifier 'resnet19' (did you mean 'resnet18'?)"),
        (ModelConfig("torchvision/fcn_resnet50"), "torchvision has no classifier 'fcn_resnet50'"),
        (ModelConfig("timm/resnet_18"), "timm has no classifier 'resnet_18' (did you mean 'resnet18'?)"),
        (ModelConfig("timm/hf-hub:someone/else"), "timm has no classifier 'hf-hub:someone/else'"),
        (ModelConfig("torchvision/resnet18", args={"widht": 3}), "model.args: torchvision/resnet18 cannot be built"),
        (ModelConfig("torchvision/resnet18", args={"weights": "DEFAULT"}), "is said by model.weights"),
        (ModelConfig("timm/resnet18", args={"num_classes": 3}), "model.args: 'num_classes' is not for args"),
        (ModelConfig("timm/mobilenetv3_small_050", stem="small"), "model.stem: 'small' is for networks that begin"),
        (ModelConfig("resnet9", stem="small"), "model.stem: is for models of torchvision and timm, and resnet9 is"),
        (ModelConfig("resnet8"), "unknown model 'resnet8' (did you mean 'resnet9'?); known: mlp, cnn, resnet9"),
    ],
)
def test_what_packages_do_not_have_is_refused(config: ModelConfig, sentence: str) -> None:
    with pytest.raises(StudyFileError) as caught:
        build(config, COLOUR, N)
    assert sentence in str(caught.value)


def test_a_missing_package_is_named_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from lrsearch.training import zoo

    monkeypatch.setitem(sys.modules, "timm", None)  # as Python itself says that there is none
    zoo.timm.cache_clear()
    with pytest.raises(StudyFileError, match=r"model\.name: .* pip install 'lrsearch\[timm\]'"):
        build(ModelConfig("timm/resnet18"), COLOUR, N)
    zoo.timm.cache_clear()


def test_resnet9_by_hand() -> None:
    model = build(ModelConfig("resnet9"), (1, 28, 28), 10)
    norms = 2 * (32 + 64 + 128 + 256 + 2 * 64 + 2 * 256)
    convolutions = 9 * (1 * 32 + 32 * 64 + 64 * 128 + 128 * 256 + 2 * 64 * 64 + 2 * 256 * 256)
    assert n_parameters(model) == norms + convolutions + 256 * 10 + 10
    assert [type(one) for one in model.children()].count(Residual) == 2
    model.eval()
    x = torch.randn(3, 64, 14, 14)
    branch = model.residual2
    by_hand = functional.relu(branch.norm1(branch.conv1(x)))
    by_hand = x + functional.relu(branch.norm2(branch.conv2(by_hand)))
    assert torch.equal(branch(x), by_hand)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 8, 8), (3, 9, 64)])
def test_resnet9_fits_and_learns(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    model = build(ModelConfig("resnet9"), shape, 2)
    images, labels = torch.randn(8, *shape), torch.arange(8) % 2
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        loss = functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 < losses[0]


def test_resnet9_is_refused_for_images_that_its_poolings_would_use_up() -> None:
    with pytest.raises(StudyFileError, match=r"'resnet9' needs images of at least 8x8 pixels, got 7x30; use 'mlp'"):
        build(ModelConfig("resnet9"), (3, 7, 30), N)


@pytest.mark.parametrize("name", MODELS)
def test_the_code_of_a_records_layers_makes_the_model_that_is_trained(name: str) -> None:
    record = MODELS[name]
    layers: list[Layer] = record.layers(record.hidden, COLOUR, N)
    torch.manual_seed(5)
    ours = build(ModelConfig(name), COLOUR, N)
    torch.manual_seed(5)
    code = f"nn.Sequential({', '.join(layer.code for layer in layers)})"
    theirs = eval(code, {"nn": nn, "Residual": Residual})
    states = list(ours.state_dict().values()), list(theirs.state_dict().values())
    assert all(torch.equal(one, other) for one, other in zip(*states, strict=True))
    images = torch.randn(2, *COLOUR)
    assert torch.equal(ours.eval()(images), theirs.eval()(images))


LOGITS = torch.tensor([[1.0, 2.0, -1.0], [0.0, 0.5, 3.0]])
LABELS = torch.tensor([1, 0])


class Answer(OrderedDict[str, torch.Tensor]):
    """As the outputs of transformers are."""


@pytest.mark.parametrize(
    "output", [LOGITS, SimpleNamespace(logits=LOGITS), {"logits": LOGITS, "hidden": 3}, Answer(logits=LOGITS)]
)
def test_logits_are_found_in_what_networks_return(output: object) -> None:
    assert logits_of(output) is LOGITS
    loss, logits = loss_of(output, LABELS)
    assert logits is LOGITS
    assert torch.equal(loss, functional.cross_entropy(LOGITS, LABELS))


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ((LOGITS, LOGITS), "a tuple of 2"),
        ([LOGITS], "a list of 1"),
        (None, "nothing"),
        ({"out": LOGITS, "aux": LOGITS}, "a dict with the keys 'out', 'aux'"),
        ({}, "an empty dict"),
        ({"logits": 3}, "a dict with the keys 'logits'"),
        (SimpleNamespace(scores=LOGITS), "a SimpleNamespace"),
    ],
)
def test_other_outputs_are_refused_in_words(output: object, said: str) -> None:
    with pytest.raises(StudyFileError, match="must return logits") as caught:
        logits_of(output)
    assert str(caught.value).endswith(f"and it returned {said}")


def test_auxiliary_heads_count_in_training_as_in_their_papers() -> None:
    from torchvision.models.googlenet import GoogLeNetOutputs
    from torchvision.models.inception import InceptionOutputs

    auxiliary, other = LOGITS * 0.5, LOGITS - 1
    main, first, second = (functional.cross_entropy(one, LABELS) for one in (LOGITS, auxiliary, other.flip(1)))
    loss, logits = loss_of(InceptionOutputs(LOGITS, auxiliary), LABELS)
    assert logits is LOGITS
    assert loss.item() == pytest.approx((main + 0.4 * first).item(), rel=1e-6)
    loss, _ = loss_of(GoogLeNetOutputs(LOGITS, auxiliary, other.flip(1)), LABELS)
    assert loss.item() == pytest.approx((main + 0.3 * first + 0.3 * second).item(), rel=1e-6)
    loss, _ = loss_of(GoogLeNetOutputs(LOGITS, None, None), LABELS)
    assert torch.equal(loss, main)


def test_an_own_loss_is_that_of_auxiliary_heads_too() -> None:
    from torchvision.models.inception import InceptionOutputs

    def own(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return (logits * labels[:, None]).sum()

    loss, _ = loss_of(InceptionOutputs(LOGITS, LOGITS * 10), LABELS, own)
    assert loss.item() == pytest.approx(2.0 + 0.4 * 20.0)


def test_googlenet_in_training_is_what_loss_of_takes() -> None:
    model = build(ModelConfig("torchvision/googlenet"), (3, 64, 64), N)
    loss, logits = loss_of(model.train()(torch.randn(2, 3, 64, 64)), torch.tensor([0, 1]))
    assert logits.shape == (2, N)
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(
    ("freeze", "trained"),
    [
        ("backbone", {"fc"}),
        ("layer1", {"conv1", "bn1", "layer2", "layer3", "layer4", "fc"}),
        (("conv1", "bn1", "layer1.", "layer2", "layer3.0", "layer3.1"), {"layer4", "fc"}),
    ],
)
def test_what_is_frozen_needs_no_gradient(freeze: Any, trained: set[str]) -> None:
    model = build(ModelConfig("torchvision/resnet18", freeze=freeze), COLOUR, N)
    assert {name.partition(".")[0] for name, p in model.named_parameters() if p.requires_grad} == trained


def test_a_prefix_ends_where_a_name_does() -> None:
    model = build(ModelConfig("mlp", tuple([4] * 11), freeze="dense1"), COLOUR, N)
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == {"dense1.weight", "dense1.bias"}


@pytest.mark.parametrize(
    ("freeze", "sentence"),
    [
        ("layer5", r"model\.freeze: no parameter's name begins with 'layer5' \(did you mean 'layer4'\?\); known: back"),
        (("layer1", "bakbone"), r"begins with 'bakbone' \(did you mean 'backbone'\?\)"),
        (("conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"), r"model\.freeze: .* has no trainable param"),
    ],
)
def test_what_cannot_be_frozen_is_refused(freeze: Any, sentence: str) -> None:
    with pytest.raises(StudyFileError, match=sentence):
        build(ModelConfig("torchvision/resnet18", freeze=freeze), COLOUR, N)


def test_drawn_weights_say_nothing_of_loading() -> None:
    assert assembled(ModelConfig("mlp"), COLOUR, N)[1] is None
