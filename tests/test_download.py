"""Downloads run torchvision's own code against a real server on this machine; corrupt files are real files."""

import gc
import gzip
import hashlib
import io
import pickle
import subprocess
import sys
import tarfile
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io  # type: ignore[import-untyped]
import torch
from served import Mirror
from torchvision import datasets  # type: ignore[import-untyped]
from torchvision.datasets import utils  # type: ignore[import-untyped]

from lrsearch.errors import DataError, StudyFileError
from lrsearch.training import download
from lrsearch.training.data import DataConfig, load

pytest_plugins = ["served"]

IDX = download.IDX_FILES


@pytest.fixture(autouse=True)
def _no_proxy_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let urllib look at the environment anew: it keeps the proxies that a test before this one had set."""
    monkeypatch.setattr(urllib.request, "_opener", None)


@pytest.fixture(scope="module", autouse=True)
def _what_there_is_already() -> None:
    """Spare the collections below what was there before: they took seconds a test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _answers_that_torchvision_leaves_open() -> Iterator[None]:
    """Collect the answers of refused downloads here, quietly: their sockets would warn within some later test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


# --- small sets in the real formats, and a server for them ------------------------------------------------------------


def idx(values: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    header = bytes((0, 0, 8, values.ndim)) + b"".join(size.to_bytes(4, "big") for size in values.shape)
    return header + values.tobytes()


def small_mnist(n_train: int = 60, n_test: int = 20) -> dict[str, bytes]:
    """Return the four files of a data set in MNIST's format."""
    rng = np.random.default_rng(0)
    contents = []
    for n in (n_train, n_test):
        contents += [rng.integers(0, 256, (n, 28, 28)), np.arange(n) % 10]
    return {name: idx(c.astype(np.uint8)) for name, c in zip(IDX, contents, strict=True)}


def small_cifar10() -> dict[str, bytes]:
    """Return the files of a data set in CIFAR-10's format."""
    rng = np.random.default_rng(0)
    files = {}
    for name in download.layout_of("cifar10").files[:-1]:
        batch = {"data": rng.integers(0, 256, (12, 3072)).astype(np.uint8), "labels": [i % 10 for i in range(12)]}
        files[name] = pickle.dumps(batch)
    files["batches.meta"] = pickle.dumps({"label_names": list(download.layout_of("cifar10").classes)})
    return files


def small_cifar100(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Return the files of a data set in CIFAR-100's format, and have torchvision expect their checksums."""
    rng = np.random.default_rng(0)
    files = {}
    for name in ("train", "test"):
        batch = {
            "data": rng.integers(0, 256, (120, 3072)).astype(np.uint8),
            "fine_labels": [i % 100 for i in range(120)],
            "coarse_labels": [i % 20 for i in range(120)],
        }
        files[name] = pickle.dumps(batch)
    files["meta"] = pickle.dumps({"fine_label_names": list(download.layout_of("cifar100").classes)})
    cls = datasets.CIFAR100
    monkeypatch.setattr(cls, "train_list", [["train", md5(files["train"])]])
    monkeypatch.setattr(cls, "test_list", [["test", md5(files["test"])]])
    monkeypatch.setattr(cls, "meta", {**cls.meta, "md5": md5(files["meta"])})
    return files


def small_svhn(monkeypatch: pytest.MonkeyPatch, url: str = "") -> dict[str, bytes]:
    """Return the files of a data set in SVHN's format: the image is the last dimension, and 10 stands for the digit 0.

    Torchvision expects their checksums.
    """
    rng = np.random.default_rng(0)
    files, known = {}, dict(datasets.SVHN.split_list)
    for part, n in (("train", 60), ("test", 20)):
        out, name = io.BytesIO(), f"{part}_32x32.mat"
        pixels = rng.integers(0, 256, (32, 32, 3, n)).astype(np.uint8)
        scipy.io.savemat(out, {"X": pixels, "y": (np.arange(n) % 10 + 1).astype(np.uint8)[:, None]})
        files[name] = out.getvalue()
        known[part] = [f"{url}{name}", name, md5(files[name])]
    monkeypatch.setattr(datasets.SVHN, "split_list", known)
    return files


def put(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def packed(files: dict[str, bytes], folder: str = "cifar-10-batches-py") -> bytes:
    """Return CIFAR's archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def serve_mnist(mirror: Mirror, monkeypatch: pytest.MonkeyPatch, class_name: str = "MNIST") -> dict[str, bytes]:
    """Put a small MNIST on the mirror and make torchvision download from there; return its files."""
    files = small_mnist()
    mirror.files = {f"{name}.gz": gzip.compress(content, 1, mtime=0) for name, content in files.items()}
    cls = getattr(datasets, class_name)
    monkeypatch.setattr(cls, "mirrors", [mirror.url])
    monkeypatch.setattr(cls, "resources", [(name, md5(content)) for name, content in mirror.files.items()])
    return files


def expect_cifar10(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the checksums of these files the ones that torchvision expects."""
    sums = {name: md5(content) for name, content in files.items()}
    monkeypatch.setattr(
        datasets.CIFAR10, "train_list", [[f"data_batch_{i}", sums[f"data_batch_{i}"]] for i in range(1, 6)]
    )
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    meta = {**datasets.CIFAR10.meta, "md5": sums["batches.meta"]}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)


def serve_cifar10(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    files = small_cifar10()
    expect_cifar10(files, monkeypatch)
    archive = packed(files)
    mirror.files = {"cifar-10-python.tar.gz": archive}
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{mirror.url}cifar-10-python.tar.gz")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(archive))
    return files


def tree(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


def both_remedies(sentence: str, folder: Path) -> bool:
    return (
        str(folder) in sentence
        and "--data-dir or LRSEARCH_DATA_DIR" in sentence
        and "connect to the network" in sentence
        and "'digits'" in sentence
        and "\n" not in sentence
        and "http" not in sentence
    )


# --- downloads --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "class_name"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST"), ("kmnist", "KMNIST")]
)
def test_a_missing_set_is_downloaded_once_into_torchvisions_layout(
    name: Any,
    class_name: str,
    mirror: Mirror,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    files = serve_mnist(mirror, monkeypatch, class_name)
    root = tmp_path / "not" / "yet"
    first = load(DataConfig(name), root)
    assert tree(root) == {class_name, f"{class_name}/raw", *(f"{class_name}/raw/{f}" for f in IDX)}
    assert {f: (root / class_name / "raw" / f).read_bytes() for f in IDX} == files
    assert len(first.test.labels) == 20
    assert len(getattr(datasets, class_name)(root, download=False)) == 60
    mirror.asked.clear()
    assert torch.equal(first.train.images, load(DataConfig(name), root).train.images)
    assert mirror.asked == []
    assert capfd.readouterr() == ("", "")


def test_cifar10_is_downloaded_and_read_as_colour_images(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = serve_cifar10(mirror, monkeypatch)
    splits = load(DataConfig("cifar10", scaling="unit"), tmp_path)
    assert tree(tmp_path) == {"cifar-10-batches-py", *(f"cifar-10-batches-py/{f}" for f in files)}
    assert splits.shape == (3, 32, 32)
    assert [len(splits.train.labels), len(splits.validation.labels), len(splits.test.labels)] == [48, 12, 12]
    assert splits.classes[3] == "cat"
    raw = pickle.loads(files["test_batch"])
    assert np.array_equal(splits.test.images.numpy().reshape(12, 3072), raw["data"])
    assert splits.test.labels.tolist() == raw["labels"]
    assert splits.test.images.is_contiguous()
    again = load(DataConfig("cifar10", scaling="unit"), tmp_path, download=False)
    assert torch.equal(splits.train.images, again.train.images)


def test_cifar100_is_downloaded_and_has_its_fine_classes(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = small_cifar100(monkeypatch)
    archive = packed(files, "cifar-100-python")
    mirror.files = {"cifar-100-python.tar.gz": archive}
    monkeypatch.setattr(datasets.CIFAR100, "url", f"{mirror.url}cifar-100-python.tar.gz")
    monkeypatch.setattr(datasets.CIFAR100, "tgz_md5", md5(archive))
    splits = load(DataConfig("cifar100", scaling="unit"), tmp_path)
    assert tree(tmp_path) == {"cifar-100-python", *(f"cifar-100-python/{f}" for f in files)}
    assert splits.shape == (3, 32, 32)
    assert (splits.n_classes, splits.classes[0], splits.classes[99]) == (100, "apple", "worm")
    raw = pickle.loads(files["test"])
    assert np.array_equal(splits.test.images.numpy().reshape(120, 3072), raw["data"])
    assert splits.test.labels.tolist() == raw["fine_labels"]


def test_svhn_is_downloaded_and_its_tens_are_zeros(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.files = small_svhn(monkeypatch, mirror.url)
    splits = load(DataConfig("svhn", scaling="unit"), tmp_path)
    assert tree(tmp_path) == set(mirror.files)
    assert [len(splits.train.labels), len(splits.validation.labels), len(splits.test.labels)] == [48, 12, 20]
    raw = scipy.io.loadmat(tmp_path / "test_32x32.mat")
    assert splits.test.images.is_contiguous()
    assert np.array_equal(splits.test.images.numpy(), raw["X"].transpose(3, 2, 0, 1))
    assert splits.test.labels.tolist() == [i % 10 for i in raw["y"].flatten()]
    mirror.asked.clear()
    assert torch.equal(splits.train.images, load(DataConfig("svhn", scaling="unit"), tmp_path).train.images)
    assert mirror.asked == []


@pytest.mark.parametrize("name", ["cifar100", "svhn"])
def test_of_the_other_sets_too_the_file_that_is_corrupt_or_missing_is_named(
    name: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = small_svhn(monkeypatch) if name == "svhn" else small_cifar100(monkeypatch)
    layout = download.layout_of(name)
    put(tmp_path / layout.folder, files)
    test = tmp_path / layout.folder / layout.files[1]
    test.write_bytes(test.read_bytes()[:-1])
    with pytest.raises(DataError) as corrupt:
        load(DataConfig(name), tmp_path)
    assert str(corrupt.value).startswith(f"{test} is corrupt: its checksum is wrong; delete it")
    test.unlink()
    with pytest.raises(DataError) as missing:
        load(DataConfig(name), tmp_path, download=False)
    assert both_remedies(str(missing.value), tmp_path)
    assert f"that holds {layout.found_by} with" in str(missing.value)


def test_a_download_says_so_on_stderr_when_progress_is_wanted(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    serve_mnist(mirror, monkeypatch)
    load(DataConfig("mnist"), tmp_path, progress=True)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"downloading the data set mnist to {tmp_path / 'MNIST' / 'raw'}\n"


@pytest.mark.parametrize("progress", [True, False])
def test_the_bar_is_drawn_on_a_terminal_only_and_only_if_wanted(
    progress: bool, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    serve_mnist(mirror, monkeypatch)
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    load(DataConfig("mnist"), tmp_path, progress=progress)
    assert ("100%" in terminal.getvalue()) is progress
    assert bool(terminal.getvalue()) is progress


def test_archives_laid_by_hand_are_unpacked_without_a_network(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_mnist(mirror, monkeypatch)
    put(tmp_path / "MNIST" / "raw", mirror.files)
    load(DataConfig("mnist"), tmp_path)
    assert mirror.asked == []


def test_a_download_leaves_files_that_lie_there_as_they_are(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_mnist(mirror, monkeypatch)
    mine = small_mnist(n_train=33)
    put(tmp_path / "MNIST" / "raw", {name: mine[name] for name in IDX[:2]})
    assert len(load(DataConfig("mnist"), tmp_path).train.labels) == 33 - 7
    assert (tmp_path / "MNIST" / "raw" / IDX[0]).read_bytes() == mine[IDX[0]]


def test_without_files_and_without_a_network_one_sentence_says_the_remedies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    url = f"http://127.0.0.1:{nobody.server_address[1]}/"
    nobody.server_close()
    monkeypatch.setattr(datasets.MNIST, "mirrors", [url, url])
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{url}cifar-10-python.tar.gz")
    root = tmp_path / "cache"
    for name, folder in (("mnist", "MNIST/raw"), ("cifar10", "cifar-10-batches-py")):
        with pytest.raises(DataError) as caught:
            load(DataConfig(name), root)  # type: ignore[arg-type]
        assert both_remedies(str(caught.value), root)
        assert folder in str(caught.value)
        assert "(Connection refused)" in str(caught.value)
    assert tree(tmp_path) == set()


def test_a_server_that_never_answers_counts_as_unreachable(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_mnist(mirror, monkeypatch)
    mirror.stalled = "train-images-idx3-ubyte.gz"
    monkeypatch.setattr(download, "NETWORK_TIMEOUT_SECONDS", 0.2)
    with pytest.raises(DataError) as caught:
        load(DataConfig("mnist"), tmp_path)
    assert both_remedies(str(caught.value), tmp_path)
    assert "timed out" in str(caught.value)
    assert tree(tmp_path) == set()


def test_a_missing_set_that_may_not_be_downloaded_is_named_with_its_remedies(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load(DataConfig("fashion-mnist"), tmp_path / "nothing", download=False)
    assert both_remedies(str(caught.value), tmp_path / "nothing")
    assert "FashionMNIST/raw/train-images-idx3-ubyte and 3 more missing" in str(caught.value)
    assert tree(tmp_path) == set()


def test_one_missing_file_is_a_missing_set(tmp_path: Path) -> None:
    files = small_mnist()
    del files[IDX[3]]
    put(tmp_path / "MNIST" / "raw", files)
    with pytest.raises(DataError, match=r"\(MNIST/raw/t10k-labels-idx1-ubyte missing\)"):
        load(DataConfig("mnist"), tmp_path, download=False)


@pytest.mark.parametrize("fault", ["cut off", "another file", "not there", "broken gz"])
def test_what_does_not_arrive_whole_is_not_mistaken_for_a_data_set(
    fault: str, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_mnist(mirror, monkeypatch)
    last = "t10k-labels-idx1-ubyte.gz"
    good = mirror.files[last]
    match fault:
        case "cut off":
            mirror.cut = last
        case "another file":
            mirror.files[last] = b"<html>log in to this network</html>"
        case "not there":
            del mirror.files[last]
        case "broken gz":
            mirror.files[last] = good[:-9]
            resources = [*datasets.MNIST.resources[:-1], (last, md5(good[:-9]))]
            monkeypatch.setattr(datasets.MNIST, "resources", resources)
    with pytest.raises(DataError) as caught:
        load(DataConfig("mnist"), tmp_path)
    assert both_remedies(str(caught.value), tmp_path)
    assert "could not be downloaded" in str(caught.value)
    assert tree(tmp_path) == set()
    # Whole again, it is downloaded.
    mirror.cut = ""
    serve_mnist(mirror, monkeypatch)
    assert len(load(DataConfig("mnist"), tmp_path).test.labels) == 20


# The server's side of the connection that the kill cut is closed by the garbage collector, which says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_process_killed_in_its_download_leaves_no_data_set_behind(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_mnist(mirror, monkeypatch)
    mirror.stalled = "t10k-images-idx3-ubyte.gz"
    code = (
        "import sys; from pathlib import Path; from torchvision import datasets\n"
        "from lrsearch.training.data import DataConfig, load\n"
        "datasets.MNIST.mirrors = [sys.argv[1]]\n"
        "datasets.MNIST.resources = [tuple(r.split('=')) for r in sys.argv[3:]]\n"
        "load(DataConfig('mnist'), Path(sys.argv[2]))\n"
    )
    sums = [f"{name}={md5(content)}" for name, content in mirror.files.items()]
    victim = subprocess.Popen([sys.executable, "-c", code, mirror.url, str(tmp_path), *sums])
    try:
        assert mirror.half_sent.wait(60)
    finally:
        victim.kill()
        victim.wait()
    assert any("train-images" in f for f in tree(tmp_path)), "it was killed too early to tell"
    with pytest.raises(DataError, match="missing"):
        load(DataConfig("mnist"), tmp_path, download=False)
    mirror.stalled = ""
    assert len(load(DataConfig("mnist"), tmp_path).test.labels) == 20


# --- folders that do not serve ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocked", ["data", "data/MNIST", "data/MNIST/raw"])
def test_a_file_where_a_folder_must_be_cannot_be_written(
    blocked: str, tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_mnist(mirror, monkeypatch)
    (tmp_path / blocked).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / blocked).write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(DataError) as caught:
        load(DataConfig("mnist"), tmp_path / "data")
    assert f"the data folder {tmp_path / 'data'} cannot be written" in str(caught.value)
    assert "--data-dir or LRSEARCH_DATA_DIR" in str(caught.value)
    assert tree(tmp_path) == before
    assert mirror.asked == []


def test_a_full_disk_is_not_called_a_bad_network(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    serve_mnist(mirror, monkeypatch)
    monkeypatch.setattr(utils, "_urlretrieve", full)
    with pytest.raises(DataError, match="cannot be written: No space left on device"):
        load(DataConfig("mnist"), tmp_path)


def test_a_folder_that_cannot_be_looked_into_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: File name too long"):
        load(DataConfig("mnist"), tmp_path / ("x" * 300))


def test_without_a_folder_the_users_cache_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import platformdirs

    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / name)
    put(tmp_path / "lrsearch" / "MNIST" / "raw", small_mnist())
    assert len(load(DataConfig("mnist"), download=False).test.labels) == 20


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    put(tmp_path / "sets" / "MNIST" / "raw", small_mnist())
    assert len(load(DataConfig("mnist"), Path("~/sets"), download=False).test.labels) == 20


# --- corrupt files ----------------------------------------------------------------------------------------------------

LABELS = idx((np.arange(60) % 10).astype(np.uint8))


@pytest.mark.parametrize(
    ("file", "damage", "words"),
    [
        (0, lambda b: b[:-1], "its header promises 60 x 28 x 28 bytes of data, 47,056 in all, and it holds 47,055"),
        (0, lambda b: b + b"x", "and it holds 47,057"),
        (0, lambda b: b[:9], "it ends within its header, after 9 bytes"),
        (0, lambda _: b"", "it ends within its header, after 0 bytes"),
        (0, gzip.compress, "it is still compressed"),
        (0, lambda b: b"\x00\x00\x0d\x03" + b[4:], "it starts with 0x00000d03 where 0x00000803 must stand"),
        (0, lambda _: LABELS, "it starts with 0x00000801 where 0x00000803 must stand"),
        (0, lambda b: b[:4] + bytes(12), "its header promises 0 x 0 x 0 bytes of data"),
        (1, lambda b: b[:8] + b[9:], "its header promises 60 bytes of data, 68 in all, and it holds 67"),
        (1, lambda _: idx(np.zeros(59, dtype=np.uint8)), "it holds 59 labels for 60 images"),
        (1, lambda b: b[:-1] + b"\x0a", "it holds the label 10, known are 0..9"),
        (2, lambda b: b[:-1], "its header promises 20 x 28 x 28"),
        (
            2,
            lambda _: idx(np.zeros((20, 8, 9), dtype=np.uint8)),
            "its images are 8x9 where those of training are 28x28",
        ),
        (3, lambda _: LABELS, "it holds 60 labels for 20 images"),
    ],
)
def test_a_corrupt_idx_file_is_named_with_its_fault_and_remedy(
    file: int, damage: Callable[[bytes], bytes], words: str, tmp_path: Path
) -> None:
    files = small_mnist()
    files[IDX[file]] = damage(files[IDX[file]])
    put(tmp_path / "MNIST" / "raw", files)
    with pytest.raises(DataError) as caught:
        load(DataConfig("mnist"), tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'MNIST' / 'raw' / IDX[file]} is corrupt: ")
    assert words in str(caught.value)
    assert str(caught.value).endswith("delete it and let it download again, or put a good copy in its place")


def test_a_corrupt_file_deleted_is_downloaded_again(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = serve_mnist(mirror, monkeypatch)
    put(tmp_path / "MNIST" / "raw", {**files, IDX[0]: b""})
    with pytest.raises(DataError, match="is corrupt"):
        load(DataConfig("mnist"), tmp_path)
    (tmp_path / "MNIST" / "raw" / IDX[0]).unlink()
    assert len(load(DataConfig("mnist"), tmp_path).train.labels) == 48


def test_an_idx_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "MNIST" / "raw", small_mnist())

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(np, "fromfile", denied)
    with pytest.raises(DataError, match="train-images-idx3-ubyte cannot be read: Permission denied"):
        load(DataConfig("mnist"), tmp_path)


@pytest.mark.parametrize("file", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_corrupt_file_of_cifar10_is_named(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = small_cifar10()
    expect_cifar10(files, monkeypatch)
    put(tmp_path / "cifar-10-batches-py", {**files, file: files[file][:-7]})
    with pytest.raises(DataError) as caught:
        load(DataConfig("cifar10"), tmp_path)
    path = tmp_path / "cifar-10-batches-py" / file
    assert str(caught.value).startswith(f"{path} is corrupt: its checksum is wrong; delete it")


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (b"\x80\x04no pickle", "cifar-10-batches-py is corrupt: "),
        (
            pickle.dumps({"data": np.zeros((12, 3072), np.uint8), "labels": [0] * 11}),
            "cifar-10-batches-py is corrupt: it holds 59 labels for 60 images",
        ),
        (
            pickle.dumps({"data": np.zeros((12, 3072), np.uint8), "labels": [10] * 12}),
            "cifar-10-batches-py is corrupt: it holds the label 10, known are 0..9",
        ),
    ],
)
def test_files_of_cifar10_whose_checksums_are_right_are_still_looked_at(
    broken: bytes, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {**small_cifar10(), "data_batch_2": broken}
    expect_cifar10(files, monkeypatch)
    put(tmp_path / "cifar-10-batches-py", files)
    with pytest.raises(DataError) as caught:
        load(DataConfig("cifar10"), tmp_path)
    assert words in str(caught.value)


def test_a_configuration_that_cannot_be_drawn_is_refused_before_anything_is_downloaded(tmp_path: Path) -> None:
    with pytest.raises(StudyFileError):
        load(replace(DataConfig("mnist"), limit=1), tmp_path)
    assert tree(tmp_path) == set()
