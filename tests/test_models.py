"""The models: shapes and counts worked out by hand, and the seed document's network as the oracle."""

import pytest
import torch
from torch import nn

from lrsearch.errors import StudyFileError
from lrsearch.spec.models import MODELS
from lrsearch.training.models import ModelConfig, build, n_parameters

GREY28 = (1, 28, 28)
COLOUR32 = (3, 32, 32)


class SeedCNN(nn.Module):
    """The network of the seed document, as it stands there."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, kernel_size=5)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(10 * 12 * 12, 50)
        self.fc2 = nn.Linear(50, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(torch.relu(self.conv1(x)))
        x = x.view(-1, 10 * 12 * 12)
        x = torch.relu(self.fc1(x))
        return self.fc2(x)  # type: ignore[no-any-return]


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in model.named_parameters()}


@pytest.mark.parametrize(
    ("config", "shape", "expected", "count"),
    [
        (
            ModelConfig("mlp"),
            GREY28,
            {"dense1.weight": (128, 784), "dense1.bias": (128,), "output.weight": (10, 128), "output.bias": (10,)},
            784 * 128 + 128 + 128 * 10 + 10,  # 101,770
        ),
        (
            ModelConfig("mlp"),
            COLOUR32,
            {"dense1.weight": (128, 3072), "dense1.bias": (128,), "output.weight": (10, 128), "output.bias": (10,)},
            3072 * 128 + 128 + 128 * 10 + 10,  # 394,634
        ),
        (
            ModelConfig("mlp", (100, 100)),
            GREY28,
            {
                "dense1.weight": (100, 784),
                "dense1.bias": (100,),
                "dense2.weight": (100, 100),
                "dense2.bias": (100,),
                "output.weight": (10, 100),
                "output.bias": (10,),
            },
            78_500 + 10_100 + 1_010,  # 89,610
        ),
        (ModelConfig("mlp", ()), GREY28, {"output.weight": (10, 784), "output.bias": (10,)}, 7_850),
        (
            ModelConfig("cnn"),
            GREY28,
            {
                "conv.weight": (10, 1, 5, 5),
                "conv.bias": (10,),
                "dense1.weight": (50, 10 * 12 * 12),
                "dense1.bias": (50,),
                "output.weight": (10, 50),
                "output.bias": (10,),
            },
            260 + 72_050 + 510,  # 72,820
        ),
        (
            ModelConfig("cnn"),
            COLOUR32,
            {
                "conv.weight": (10, 3, 5, 5),
                "conv.bias": (10,),
                "dense1.weight": (50, 10 * 14 * 14),
                "dense1.bias": (50,),
                "output.weight": (10, 50),
                "output.bias": (10,),
            },
            760 + 98_050 + 510,  # 99,320
        ),
    ],
)
def test_layers_and_parameters_are_as_worked_out_by_hand(
    config: ModelConfig, shape: tuple[int, int, int], expected: dict[str, tuple[int, ...]], count: int
) -> None:
    model = build(config, shape, 10)
    assert shapes(model) == expected
    assert n_parameters(model) == count
    assert model(torch.zeros(3, *shape)).shape == (3, 10)


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (ModelConfig("mlp"), ["flatten", "dense1", "relu1", "output"]),
        (ModelConfig("mlp", (7, 8)), ["flatten", "dense1", "relu1", "dense2", "relu2", "output"]),
        (ModelConfig("cnn"), ["conv", "conv_relu", "pool", "flatten", "dense1", "relu1", "output"]),
    ],
)
def test_layers_have_names_in_their_order(config: ModelConfig, names: list[str]) -> None:
    assert [name for name, _ in build(config, GREY28, 10).named_children()] == names


def test_the_output_has_as_many_units_as_there_are_classes() -> None:
    assert build(ModelConfig("mlp"), GREY28, 3)(torch.zeros(2, *GREY28)).shape == (2, 3)


def test_the_cnn_is_the_network_of_the_seed_document() -> None:
    theirs = SeedCNN()
    ours = build(ModelConfig("cnn"), GREY28, 10)
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    images = torch.rand(16, *GREY28, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ours(images), theirs(images))


def test_the_cnn_starts_where_the_seed_document_starts() -> None:
    torch.manual_seed(3)
    theirs = SeedCNN()
    torch.manual_seed(3)
    ours = build(ModelConfig("cnn"), GREY28, 10)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_weights_that_are_frozen_do_not_count() -> None:
    model = build(ModelConfig("mlp", ()), GREY28, 10)
    model.get_submodule("output").bias.requires_grad_(False)
    assert n_parameters(model) == 7_840


@pytest.mark.parametrize("name", MODELS)
def test_every_known_model_is_built_by_default(name: str) -> None:
    build(ModelConfig(name), GREY28, 10)  # type: ignore[arg-type]


def test_the_cnn_takes_images_of_six_pixels_and_none_smaller() -> None:
    assert build(ModelConfig("cnn"), (1, 6, 7), 10)(torch.zeros(1, 1, 6, 7)).shape == (1, 10)
    with pytest.raises(StudyFileError, match=r"model\.name: 'cnn' needs images of at least 6x6 pixels, got 6x5"):
        build(ModelConfig("cnn"), (1, 6, 5), 10)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (ModelConfig("cn"), r"model\.name: unknown model 'cn' \(did you mean 'cnn'\?\); known: mlp, cnn"),  # type: ignore[arg-type]
        (ModelConfig("mlp", (100, 0)), r"model\.hidden: a layer has at least 1 unit, got 0"),
        (ModelConfig("cnn", (-1,)), r"model\.hidden: a layer has at least 1 unit, got -1"),
    ],
)
def test_what_cannot_be_built_is_refused_with_its_key(config: ModelConfig, sentence: str) -> None:
    with pytest.raises(StudyFileError, match=sentence):
        build(config, GREY28, 10)
