"""Weights by their tag, downloaded by the real code from a server on this machine: whole, cut, changed, not at all."""

import gc
import hashlib
import io
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from command_line import InProcess, one_line, run_process
from painted import paint_classes
from served import Mirror
from torchvision.models import ShuffleNet_V2_X0_5_Weights  # type: ignore[import-untyped]

from lrsearch.training import published
from lrsearch.training.models import ModelConfig, build

pytest_plugins = ["command_line", "served"]

SHAPE = (3, 64, 64)
NAME = "torchvision/shufflenet_v2_x0_5"
LOOK = ("model", NAME, "--weights", "DEFAULT", "--dataset", "folder:pics", "--set", "dataset.image_size=32")
KEPT = Path(".cache/torch/hub/checkpoints")


@pytest.fixture(autouse=True)
def _as_at_the_start() -> Iterator[None]:
    """Let nothing be known from a test before; collect the answers that torch leaves open."""
    published._tensors.cache_clear()
    yield
    published._tensors.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="module")
def content() -> bytes:
    """What torchvision's file holds: a state for 1,000 classes."""
    torch.manual_seed(5)
    out = io.BytesIO()
    torch.save(build(ModelConfig(NAME, stem="full"), SHAPE, 1000).state_dict(), out)
    return out.getvalue()


@pytest.fixture
def served(mirror: Mirror, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have torchvision's weights published by the mirror; return the name of the file."""
    paint_classes(tmp_path / "pics", {"a": 6, "b": 6})
    name = f"shufflenetv2_x0.5-{hashlib.sha256(content).hexdigest()[:10]}.pth"
    mirror.files = {name: content}
    monkeypatch.setattr(ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1.value, "url", f"{mirror.url}{name}")
    return name


def test_they_are_downloaded_once_and_nothing_but_the_answer_is_printed(
    served: str, mirror: Mirror, lrsearch: InProcess, tmp_path: Path
) -> None:
    for tag in ("DEFAULT", "IMAGENET1K_V1", "ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1"):
        seen = lrsearch(*(tag if word == "DEFAULT" else word for word in LOOK), "--json")
        assert (seen.code, seen.err) == (0, "")
        assert json.loads(seen.out)["said"] == [
            "model.weights: the head (fc.weight, fc.bias) is one for other classes, and drawn anew for 2"
        ]
        assert len(seen.document["weights_sha256"]) == 64
    assert mirror.asked == [served]
    assert [path.name for path in (tmp_path / KEPT).iterdir()] == [served]


def test_a_search_begins_with_them(served: str, content: bytes, lrsearch: InProcess, tmp_path: Path) -> None:
    search = ("run", "--model", NAME, *LOOK[2:], "--set", "space.batch_size=[4]", "--name", "tuned", "--epochs", "1")
    done = lrsearch(*search, "--trials", "1", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["winner"]["config"]["stem_ratio"] is not None
    theirs = torch.load(io.BytesIO(content), weights_only=True)
    torch.manual_seed(1)
    ours = build(ModelConfig(NAME, weights="DEFAULT"), (3, 32, 32), 2).state_dict()
    assert {name for name in theirs if not torch.equal(theirs[name], ours[name])} == {"fc.weight", "fc.bias"}
    (tmp_path / KEPT / served).unlink()
    published._tensors.cache_clear()
    again = lrsearch(*search, "--trials", "2")
    assert again.code == 0, again.err  # downloaded again, and known for the same


def cut(mirror: Mirror, name: str) -> None:
    mirror.cut = name


def changed(mirror: Mirror, name: str) -> None:
    whole = bytearray(mirror.files[name])
    whole[len(whole) // 2] ^= 1
    mirror.files[name] = bytes(whole)


def gone(mirror: Mirror, name: str) -> None:
    del mirror.files[name]


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (cut, "it was cut short, or changed on its way"),
        (changed, "it was cut short, or changed on its way"),
        (gone, "HTTP Error 404: Not Found"),
    ],
)
def test_what_does_not_arrive_as_it_was_published_is_said_and_nothing_is_left(
    spoil: Callable[[Mirror, str], None], why: str, served: str, mirror: Mirror, lrsearch: InProcess, tmp_path: Path
) -> None:
    spoil(mirror, served)
    for command in (LOOK, ("run", "--model", NAME, *LOOK[2:], "--trials", "1")):
        said = lrsearch(*command)
        assert (said.code, said.out) == (2, "")
        text = one_line(said)
        assert text.startswith(f"lrsearch: model.weights: 'DEFAULT' of {NAME} cannot be had: {served} is not in ")
        assert str(tmp_path / KEPT) in text
        assert f"could not be downloaded ({'' if spoil is gone else 'what arrived has not the SHA-256 '}" in text
        assert why in text
        assert "or name another file of weights" in text
        assert mirror.url not in text
    assert not (tmp_path / ".cache/torch").exists()
    assert not (tmp_path / "lrsearch.db").exists()


def test_without_a_network_it_is_said_what_to_do(
    served: str, lrsearch: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nobody answers there
    monkeypatch.setattr(ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1.value, "url", f"http://weights.invalid/{served}")
    said = lrsearch(*LOOK)
    assert said.code == 2
    assert "(Connection refused); connect to the network, or put the file there" in one_line(said)
    assert not (tmp_path / ".cache/torch").exists()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda whole: whole[:-1000], "is damaged, its SHA-256 begins with "),
        (lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]), "; delete it, and it is downloaded anew"),
        (lambda _whole: b"", "is damaged"),
    ],
)
def test_a_damaged_file_where_torch_keeps_them_is_said(
    spoil: Callable[[bytes], bytes], said: str, served: str, content: bytes, lrsearch: InProcess, tmp_path: Path
) -> None:
    kept = tmp_path / KEPT / served
    kept.parent.mkdir(parents=True)
    kept.write_bytes(spoil(content))
    seen = lrsearch(*LOOK)
    assert seen.code == 2
    assert str(kept) in one_line(seen)
    assert said in seen.err
    assert kept.exists(), "it is a person's to delete"


def test_a_folder_that_cannot_be_written_is_said(served: str, lrsearch: InProcess, tmp_path: Path) -> None:
    (tmp_path / ".cache").mkdir(exist_ok=True)
    (tmp_path / ".cache/torch").write_text("no folder")
    seen = lrsearch(*LOOK)
    assert seen.code == 2
    assert "make its folder writable, or name another one with TORCH_HOME" in one_line(seen)


def test_a_download_that_is_interrupted_leaves_nothing(
    served: str, mirror: Mirror, lrsearch: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.stalled = served
    monkeypatch.setattr("lrsearch.training.download.NETWORK_TIMEOUT_SECONDS", 0.3)
    seen = lrsearch(*LOOK)
    assert seen.code == 2
    assert "(timed out)" in one_line(seen)
    assert not (tmp_path / ".cache/torch").exists()


# timm, by its hub's own client, which takes the address of its server from the environment


TIMM = "timm/test_resnet"
TAG = "r160_in1k"
PATH = f"timm/test_resnet.{TAG}/resolve/main/model.safetensors"


@pytest.fixture
def hub(mirror: Mirror, tmp_path: Path) -> dict[str, str]:
    """Have a small model of timm published by the mirror; return the environment in which it is asked."""
    paint_classes(tmp_path / "pics", {"a": 6, "b": 6})
    torch.manual_seed(5)
    state = build(ModelConfig(TIMM), SHAPE, 1000).state_dict()
    mirror.files = {PATH: safetensors.torch.save(state)}
    mirror.headers = {"ETag": f'"{hashlib.sha256(mirror.files[PATH]).hexdigest()}"', "X-Repo-Commit": "c" * 40}
    return {"HF_ENDPOINT": mirror.url.rstrip("/"), "HF_HOME": str(tmp_path / "hub"), "HF_HUB_DISABLE_XET": "1"}


def looked(folder: Path, tag: str, environment: dict[str, str], *more: str) -> Any:
    """Look at the model in a process of its own: the client reads its settings when it is imported."""
    said = ("model", TIMM, "--weights", tag, "--dataset", "folder:pics", "--set", "dataset.image_size=32", *more)
    return run_process(said, folder, **environment)


@pytest.mark.slow
def test_timms_are_downloaded_once_by_its_own_client(hub: dict[str, str], mirror: Mirror, tmp_path: Path) -> None:
    for tag in (TAG, "DEFAULT"):
        seen = looked(tmp_path, tag, hub, "--json")
        assert (seen.code, seen.err) == (0, "")
        assert len(seen.document["weights_sha256"]) == 64
    assert mirror.asked.count(PATH) == 1


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [cut, gone])
def test_of_timms_it_is_said_in_one_sentence_that_they_did_not_arrive(
    spoil: Callable[[Mirror, str], None], hub: dict[str, str], mirror: Mirror, tmp_path: Path
) -> None:
    spoil(mirror, PATH)
    seen = looked(tmp_path, TAG, hub)
    assert (seen.code, seen.out) == (2, "")
    assert one_line(seen).startswith(f"lrsearch: model.weights: '{TAG}' of {TIMM} cannot be had: ")
    assert "download them elsewhere, and name the file" in seen.err
    assert [path for path in (tmp_path / "hub").rglob("*.safetensors") if path.exists()] == []


@pytest.mark.slow
def test_of_timms_without_a_network_it_is_said_in_one_sentence(hub: dict[str, str], tmp_path: Path) -> None:
    seen = looked(tmp_path, TAG, {**hub, "HF_HUB_OFFLINE": "1"})
    assert (seen.code, seen.out) == (2, "")
    assert one_line(seen).startswith(f"lrsearch: model.weights: '{TAG}' of {TIMM} cannot be had: ")
