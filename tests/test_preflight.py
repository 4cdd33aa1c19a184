"""What a look at a model finds before anything is trained."""

import logging
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from lrsearch.errors import StudyFileError
from lrsearch.training import preflight
from lrsearch.training.models import ModelConfig, build
from lrsearch.training.preflight import ModelLook, examine, look

SHAPE = (3, 8, 8)
N = 5
"""Classes."""

HEAD = """
    import numpy as np
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self, num_classes, norm=False, **layers):
            super().__init__()
            self.body = nn.Linear(192, 16)
            self.norm = nn.BatchNorm1d(16) if norm else nn.Identity()
            self.head = nn.Linear(16, num_classes)

        def features(self, x):
            return torch.relu(self.norm(self.body(x.flatten(1))))

        def forward(self, x):
            return self.head(self.features(x))
"""


def written(tmp_path: Path, code: str) -> ModelConfig:
    path = tmp_path / "net.py"
    path.write_text(textwrap.dedent(HEAD) + "\n" + textwrap.dedent(code))
    return ModelConfig(f"{path}:build")


def line_of(config: ModelConfig, words: str) -> str:
    path = config.name.rpartition(":")[0]
    lines = Path(path).read_text().splitlines()
    return f"({path}, line {max(n for n, line in enumerate(lines, 1) if words in line)})"


def seen_of(tmp_path: Path, code: str) -> ModelLook:
    return examine(written(tmp_path, code), SHAPE, N)


def net(forward: str, build: str = "return Own(num_classes)") -> str:
    """Return a person's code: a network with this forward, and a function that builds it."""
    return f"""
class Own(Net):
    def forward(self, x):
{textwrap.indent(textwrap.dedent(forward), "        ")}

def build(num_classes):
{textwrap.indent(textwrap.dedent(build), "    ")}
"""


PLAIN = net("return super().forward(x)")


def test_nothing_is_said_of_a_network_that_is_as_it_should_be(tmp_path: Path) -> None:
    config = written(tmp_path, PLAIN)
    seen = examine(config, SHAPE, N)
    assert (seen.remarks, seen.ties) == ((), ())
    found = seen.network
    assert found.n_parameters == 192 * 16 + 16 + 16 * N + N
    assert found.levels == (("body.weight", "body.bias"), ("head.weight", "head.bias")) == seen.levels
    assert (found.frozen, found.batch_norm, found.draws, found.repeats, found.weights) == ((), False, False, True, "")
    assert len(found.code) == 64


def test_a_look_changes_neither_what_is_trained_from_nor_the_generator(tmp_path: Path) -> None:
    config = written(tmp_path, net("return super().forward(x)", "return Own(num_classes, norm=True)"))
    torch.manual_seed(preflight.SEED)
    start = build(config, SHAPE, N).state_dict()
    torch.manual_seed(4)
    generator = torch.get_rng_state()
    seen = examine(config, SHAPE, N)
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(t, start[name]) for name, t in seen.model.state_dict().items())


REFUSED = [
    # forward, build, what is said, words of the line that is named
    ("return x.flatten(1)", "return Own(num_classes)", "must return logits [images, classes] = [2, 5]", "def build"),
    ("return super().forward(x)", "return Own(10)", "and returns [2, 10]: size its last layer by", "def build"),
    ("return super().forward(x)[0]", "return Own(num_classes)", "and returns [5]: size its last", "def build"),
    ("return self.head(x)", "return Own(num_classes)", "raised RuntimeError: mat1 and mat2 shapes", "self.head(x)"),
    ("raise KeyError('a')", "return Own(num_classes)", "evaluating the images of", "raise KeyError"),
    ("return super().forward(x) / 0", "return Own(num_classes)", "must return finite logits", "def build"),
    (
        "return super().forward(x) / (0 if self.training else 1)",
        "return Own(num_classes)",
        "must have a finite loss, and its first is nan",
        "def build",
    ),
    (
        "y = super().forward(x)\nreturn y[:1] if self.training else y",
        "return Own(num_classes)",
        "raised ValueError: Expected input batch_size (1) to match target batch_size (2)",
        None,
    ),
    (
        "assert not self.training\nreturn super().forward(x)",
        "return Own(num_classes)",
        "training of",
        "assert not self.training",
    ),
    ("return super().forward(x), x", "return Own(num_classes)", "and it returned a tuple of 2", "def build"),
    ("return {'out': super().forward(x)}", "return Own(num_classes)", "a dict with the keys 'out'", "def build"),
    (
        "y = super().forward(x)\nreturn {'out': y} if self.training else y",
        "return Own(num_classes)",
        "a dict with the keys 'out'",
        "def build",
    ),
    (
        "with torch.no_grad():\n    return super().forward(x)",
        "return Own(num_classes)",
        "must give its logits a gradient in training",
        "def build",
    ),
    ("return super().forward(x)", "return SHARED", "must build a network anew at every call", "def build"),
    (
        "self.kept = self.features(x)\nreturn self.head(self.kept)",
        "return Own(num_classes)",
        "must be a network that can be copied",
        "def build",
    ),
    (
        "return super().forward(x) + self.table.sum()",
        "own = Own(num_classes)\nown.table = torch.randn(3)\nreturn own",
        "must have all that it answers by in its state",
        "def build",
    ),
    (
        "return super().forward(x)",
        "own = Own(num_classes)\nif torch.rand(()) < .45:\n    own.more = nn.Linear(2, 2)\nreturn own",
        "must build the same network at every call, and built another with another seed",
        "def build",
    ),
]


@pytest.mark.parametrize(("forward", "build", "sentence", "words"), REFUSED)
def test_what_cannot_be_trained_is_refused_with_the_persons_file_and_line(
    forward: str, build: str, sentence: str, words: str | None, tmp_path: Path
) -> None:
    config = written(tmp_path, net(forward, build) + "\nSHARED = Own(5)\n")
    with pytest.raises(StudyFileError) as caught:
        look(config, SHAPE, N)
    said = str(caught.value)
    assert said.startswith("model.name: ")
    assert sentence in said
    assert "\n" not in said
    if words is not None:
        assert said.endswith(line_of(config, words))


REMARKED = [
    # forward, build, what is said; the network that was measured is otherwise as it should be
    ("return super().forward(x).softmax(1)", "return Own(num_classes)", "seems to return probabilities"),
    (
        "return super().forward(x)",
        "own = Own(num_classes)\nown.more = nn.Linear(3, 3)\nreturn own",
        "trains without a gradient for more.weight, more.bias: its loss does not depend",
    ),
    (
        "return super().forward(x) + torch.randn(())",
        "return Own(num_classes)",
        "answers otherwise when it is asked twice in evaluation",
    ),
    (
        "COUNTS.append(1)\nreturn super().forward(x) * (len(COUNTS) if self.training else 1)",
        "return Own(num_classes)",
        "does not train twice alike from one state",
    ),
    (
        "return super().forward(x)",
        "own = Own(num_classes)\nnn.init.normal_(own.head.bias, generator=GENERATOR)\nreturn own",
        "does not draw its first weights from the generators that are seeded",
    ),
]


@pytest.mark.parametrize(("forward", "build", "sentence"), REMARKED)
def test_what_may_be_meant_is_said_once(
    forward: str, build: str, sentence: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = written(tmp_path, net(forward, build) + "\nGENERATOR, COUNTS = torch.Generator(), []\n")
    with caplog.at_level(logging.WARNING, "lrsearch"):
        found = look(config, SHAPE, N)
    said = [record.getMessage() for record in caplog.records]
    assert len([one for one in said if sentence in one]) == 1
    assert len(said) == 1
    assert said[0].startswith(f"model.name: {config.name} ")
    assert said[0].endswith(line_of(config, "def build"))
    assert found.repeats is ("twice alike" not in sentence)


@pytest.mark.parametrize(
    ("forward", "draws", "elsewhere", "repeats"),
    [
        ("return super().forward(nn.functional.dropout(x, .5, self.training))", True, False, True),
        ("return super().forward(nn.functional.dropout(x, 0., self.training))", False, False, True),
        # The engine seeds these as well, before every update.
        ("return super().forward(x) + (np.random.randn() if self.training else 0)", True, True, True),
        ("import random\nreturn super().forward(x) + (random.random() if self.training else 0)", True, True, True),
        ("return super().forward(x) + torch.initial_seed() % 2", False, False, True),
    ],
)
def test_random_numbers_in_training_are_seen(
    forward: str, draws: bool, elsewhere: bool, repeats: bool, tmp_path: Path
) -> None:
    found = seen_of(tmp_path, net(forward)).network
    assert (found.draws, found.draws_elsewhere, found.repeats) == (draws, elsewhere, repeats)


def test_a_layer_that_is_skipped_at_random_trains_with_a_gradient(tmp_path: Path) -> None:
    forward = """
        y = self.features(x)
        if not self.training or torch.rand(()) < 0.8:  # .64, .35, .89 in the updates of a look
            y = self.more(y)
        return self.head(y)
    """
    build = "own = Own(num_classes)\nown.more = nn.Linear(16, 16)\nreturn own"
    seen = seen_of(tmp_path, net(forward, build))
    assert seen.remarks == ()
    assert seen.network.draws


@pytest.mark.parametrize(
    ("code", "batch_norm"),
    [
        (PLAIN, False),
        (net("return super().forward(x)", "return Own(num_classes, norm=True)"), True),
        (
            net(
                "return super().forward(x)",
                "own = Own(num_classes, norm=True)\nown.norm.requires_grad_(False)\nreturn own",
            ),
            False,  # it is frozen, and so in evaluation
        ),
    ],
)
def test_batch_norm_is_seen_where_it_trains(code: str, batch_norm: bool, tmp_path: Path) -> None:
    assert seen_of(tmp_path, code).network.batch_norm is batch_norm


@pytest.mark.parametrize(
    "output",
    ["y", "y.double().abs()"],
)
def test_outputs_of_other_forms_are_taken(output: str, tmp_path: Path) -> None:
    seen = seen_of(tmp_path, net(f"y = super().forward(x)\nreturn {output}"))
    assert (seen.remarks, len(seen.levels)) == ((), 2)


def test_frozen_parameters_are_in_no_level_that_learns(tmp_path: Path) -> None:
    config = written(tmp_path, net("return super().forward(x)", "return Own(num_classes, norm=True)"))
    seen = examine(replace(config, freeze="body"), SHAPE, N)
    assert seen.network.frozen == ("body.weight", "body.bias")
    assert seen.network.levels == (("norm.weight", "norm.bias"), ("head.weight", "head.bias"))
    assert seen.levels[0] == ("body.weight", "body.bias", "norm.weight", "norm.bias")
    assert seen.network.n_parameters == 32 + 16 * N + N
    # Nothing moved it while the look trained.
    torch.manual_seed(preflight.SEED)
    assert torch.equal(seen.model.body.weight, build(config, SHAPE, N).body.weight)


@pytest.mark.parametrize(
    ("loss", "sentence"),
    [
        ("return nn.functional.cross_entropy(logits, labels, label_smoothing=.1)", None),
        ("return nn.functional.cross_entropy(logits, labels, reduction='none')", "must return the mean loss, one num"),
        ("return 3.0", "and returned float"),
        ("return logits.argmax(1).float().mean()", "one number that depends on the logits"),
        ("return logits.nope()", "AttributeError: 'Tensor' object has no attribute 'nope'"),
        ("return logits.mean() * float('inf')", "must return a finite loss, and its first is "),
    ],
)
def test_a_loss_of_ones_own_is_looked_at_too(loss: str, sentence: str | None, tmp_path: Path) -> None:
    config = written(tmp_path, f"{PLAIN}\ndef own_loss(logits, labels):\n    {loss}\n")
    config = replace(config, loss=config.name.replace(":build", ":own_loss"))
    if sentence is None:
        assert examine(config, SHAPE, N).remarks == ()
        return
    with pytest.raises(StudyFileError) as caught:
        examine(config, SHAPE, N)
    assert str(caught.value).startswith("model.loss: ")
    assert sentence in str(caught.value)


@pytest.mark.slow
def test_of_a_lightning_module_forward_is_taken_and_that_is_said(tmp_path: Path) -> None:
    code = """
        import lightning

        class Lit(lightning.LightningModule):
            def __init__(self, num_classes):
                super().__init__()
                self.net = Net(num_classes)

            def forward(self, x):
                return self.net(x)

            def training_step(self, batch, _):
                raise AssertionError

        def build(num_classes):
            return Lit(num_classes)
    """
    seen = seen_of(tmp_path, code)
    assert [words for words in seen.remarks if "is a LightningModule, of which only forward is used" in words]
    assert (len(seen.remarks), len(seen.levels)) == (1, 2)


@pytest.mark.parametrize(
    ("name", "shape", "sentence"),
    [
        (
            "torchvision/vit_b_32",
            (3, 28, 28),
            "images of 28x28 pixels (AssertionError: Input shape indivisible by patch",
        ),
        ("torchvision/alexnet", (3, 28, 28), "; it takes 64 or 75 or 80: set dataset.image_size"),
        ("torchvision/alexnet", (3, 28, 80), "does not take images of 28x80 pixels (RuntimeError"),
    ],
)
def test_a_size_that_does_not_fit_is_said_with_those_that_do(
    name: str, shape: tuple[int, int, int], sentence: str
) -> None:
    with pytest.raises(StudyFileError) as caught:
        look(ModelConfig(name), shape, N)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("timm/vit_tiny_patch16_224", (1, 32, 32)),
        ("torchvision/resnet18", (3, 32, 32)),
        ("torchvision/googlenet", (3, 64, 64)),
        ("timm/mobilenetv3_small_050", (1, 28, 28)),
        ("resnet9", (1, 28, 28)),
        ("mlp", (1, 28, 28)),
        ("cnn", (3, 32, 32)),
    ],
)
def test_models_of_packages_and_of_lrsearch_pass(name: str, shape: tuple[int, int, int]) -> None:
    seen = examine(ModelConfig(name), shape, N)
    assert seen.remarks == ()
    assert seen.network.repeats
    assert seen.network.batch_norm is (name not in ("mlp", "cnn", "timm/vit_tiny_patch16_224"))
    assert seen.network.draws is (name == "torchvision/googlenet")
    assert seen.network.code == ""


def test_a_head_that_is_drawn_anew_and_a_normalisation_that_is_assumed_are_said(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(build(ModelConfig("torchvision/resnet18"), (3, 32, 32), 9).state_dict(), tmp_path / "w.pt")
    config = ModelConfig("torchvision/resnet18", init_from=str(tmp_path / "w.pt"), freeze="backbone")
    seen = examine(config, (3, 32, 32), N)
    assert [one.partition(":")[0] for one in seen.remarks] == ["model.init_from"] * 2
    assert "the head (fc.weight, fc.bias) is one for other classes, and drawn anew for 5" in seen.remarks[0]
    assert "taken are mean 0.485, 0.456, 0.406 and standard deviation 0.229" in seen.remarks[1]
    assert len(seen.network.weights) == 64
    assert seen.network.levels == (("fc.weight", "fc.bias"),)
    assert not seen.network.batch_norm  # all of it is frozen


def test_order_alone_is_said(tmp_path: Path) -> None:
    state = build(ModelConfig("cnn"), (1, 28, 28), N).state_dict()
    torch.save({f"t{n}": t for n, t in enumerate(state.values())}, tmp_path / "w.pt")
    seen = examine(ModelConfig("cnn", init_from=str(tmp_path / "w.pt")), (1, 28, 28), N)
    assert "told apart by their order, in which all shapes agree" in seen.remarks[0]
    assert "does not say how its images were normalised, so that yours are normalised by their own" in seen.remarks[1]


def test_frozen_statistics_do_not_move_in_a_look() -> None:
    config = ModelConfig("torchvision/resnet18", freeze="layer1")
    seen = examine(config, (3, 32, 32), N)
    statistics = seen.model.layer1[0].bn1
    assert isinstance(statistics, nn.BatchNorm2d)
    assert statistics.num_batches_tracked is not None
    assert statistics.num_batches_tracked.item() == 0
