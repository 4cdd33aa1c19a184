"""What is handed over in Python: its forms, how it is known again, and what other processes are told of it."""

import importlib
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import handed_over
import numpy as np
import pytest
import torch
from command_line import run_process, run_python
from handed_over import IMAGES, LABELS, ONE, PAIR, linear
from torch import nn
from torch.utils.data import TensorDataset

import lrsearch
from lrsearch import given, own_code
from lrsearch.api import handed, source
from lrsearch.errors import LrsearchError, UsageError
from lrsearch.spec.sources import code_of

pytest_plugins = ["command_line", "handed_over", "ones_own"]


def local() -> Any:
    def inner(num_classes: int, in_chans: int) -> nn.Module:
        return linear(num_classes, in_chans)

    return inner


class Pairs(torch.utils.data.Dataset[tuple[np.ndarray[Any, Any], int]]):
    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, row: int) -> tuple[np.ndarray[Any, Any], int]:
        return IMAGES[row], int(LABELS[row])


def returned(n: int = 60) -> object:
    return IMAGES[:n], LABELS[:n]


@pytest.mark.parametrize(
    "data",
    [
        PAIR,
        [IMAGES, LABELS],
        (IMAGES[..., None], LABELS),
        (IMAGES / np.float32(255), LABELS),
        (torch.from_numpy(IMAGES)[:, None], torch.from_numpy(LABELS)),
        TensorDataset(torch.from_numpy(IMAGES), torch.from_numpy(LABELS)),
        Pairs(),
        Pairs,
        {"train": PAIR},
        lambda: PAIR,
        returned,
    ],
    ids=range(11),
)
def test_equal_images_are_one_study_in_whatever_form_they_are_handed_over(data: object) -> None:
    found = lrsearch.search(data=data, name="mine", **ONE)
    again = lrsearch.search(data=PAIR, name="mine", **ONE | {"trials": 2})
    assert again.spec.facts.fingerprint == found.spec.facts.fingerprint
    assert len(again.trials) == 2, "it goes on"
    other = (IMAGES[::-1].copy(), LABELS[::-1].copy())
    with pytest.raises(LrsearchError, match="SHA-256"):
        lrsearch.search(data=other, name="mine", **ONE)


def test_validation_and_test_images_are_those_that_were_given() -> None:
    apart = {"validation": (IMAGES[40:50], LABELS[40:50]), "test": lambda: (IMAGES[50:], LABELS[50:])}
    found = lrsearch.search(data=(IMAGES[:40], LABELS[:40]), **apart, **ONE)
    facts = found.spec.facts
    assert (facts.n_train, facts.n_validation, facts.n_test) == (40, 10, 10)
    named = lrsearch.search(data={"train": PAIR, "classes": ["dark", "grey", "light"]}, name="named", **ONE)
    assert named.spec.facts.classes == ("dark", "grey", "light")


def test_a_folder_may_be_a_path(pictures: Path) -> None:
    found = lrsearch.search(data=pictures, **ONE)
    assert found.spec.dataset.name == f"folder:{pictures}"
    assert found.name == "pics-mlp"


@pytest.mark.slow
def test_what_can_be_imported_is_named_by_its_file_and_known_to_the_command_line(
    net: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module("net")
    found = lrsearch.search(data=pictures, model=partial(module.build, width=5), name="mine", **ONE)
    assert (found.spec.model.name, found.spec.model.args) == (f"{net}:build", {"width": 5})
    words = ["run", "--name", "mine", "--epochs", "1", "--trials", "3", "--set", "space.batch_size=8", "--workers", "2"]
    words += ["--dataset", "folder:pics", "--model", "net.py:build", "--set", "model.args.width=5"]
    done = run_process(words, tmp_path, LRSEARCH_CACHE=str(tmp_path / "cache"))
    assert done.code == 0, done.err
    assert len(found.trials) == 3, "the command line went on with it"


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (linear, f"{Path(handed_over.__file__)}:linear"),
        (Pairs, f"{Path(__file__)}:Pairs"),
        (nn.Flatten, "torch.nn.modules.flatten:Flatten"),
        (importlib.import_module, "importlib:import_module"),
        (lambda: 0, None),
        (local, f"{Path(__file__)}:local"),
        (local(), None),
        (partial(linear, size=3), None),
        (Pairs.__len__, None),
        (len, None),
    ],
    ids=range(10),
)
def test_a_name_is_one_that_finds_the_same_function_again(function: Any, named: str | None) -> None:
    assert handed.importable(function) == named
    if named is not None and ".py:" not in named:
        code = code_of(named)
        assert code is not None
        assert own_code.find(code, "model.name").function is function


def test_a_function_of_the_script_that_runs_is_none_that_others_can_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "linear", linear, raising=False)
    assert handed.importable(linear) is None


def test_what_cannot_be_imported_is_known_in_this_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = local()
    found = lrsearch.search(data=PAIR, model=inner, **ONE)
    assert found.name == "data-inner"
    assert found.spec.model.name == "lrsearch.given:inner"
    refused = "workers=2 starts other processes, and they cannot have 'inner' and 'data', which no file holds"
    with pytest.raises(UsageError, match=refused):
        lrsearch.search(data=PAIR, model=inner, **ONE | {"workers": 2})
    with pytest.raises(UsageError, match="a program has to find 'data', which was handed over in Python"):
        found.export("torch")
    assert found.export("json").is_file()
    monkeypatch.setattr(given, "_of_process", {})  # as in another process ...
    given._of_thread.set({})  # ... and in another thread of it
    assert lrsearch.open_study().best is not None, "an answer needs no function"
    with pytest.raises(LrsearchError) as raised:
        lrsearch.search("data-inner", trials=2, progress=False)
    said = "was handed to lrsearch.search in Python, and only the process that did so has it: hand it over here too, or"
    assert said in str(raised.value)
    assert "put it in a file, such as net.py, and name net.py:" in str(raised.value)


@pytest.mark.slow
def test_other_processes_say_what_to_do_about_what_they_do_not_have(tmp_path: Path) -> None:
    lrsearch.search(data=PAIR, model=local(), storage=tmp_path / "lrsearch.db", **ONE)
    for words in (["best"], ["report"], ["trials"], ["status"]):
        assert run_process(words, tmp_path).code == 0, "what needs no function works everywhere"
    for words in (["worker", "--study", "data-inner"], ["run", "data-inner", "--trials", "2"], ["train"]):
        done = run_process(words, tmp_path, LRSEARCH_CACHE=str(tmp_path / "cache"))
        assert done.code == 2
        assert "only the process that did so has it" in done.err
        assert "Traceback" not in done.err


def test_other_processes_are_not_sent_to_what_only_another_one_had() -> None:
    text = "import numpy as np\n\ndef pair():\n    found = np.load('x.npz')\n    return found['x'], found['y']\n"
    Path("data.py").write_text(text)
    np.savez("x.npz", x=IMAGES, y=LABELS)
    lrsearch.search(data=PAIR, name="mine", **ONE)
    with pytest.raises(UsageError, match="was filed with something that was handed over in Python"):
        lrsearch.search(data="data.py:pair", name="mine", **ONE | {"workers": 2, "trials": 3})
    assert len(lrsearch.search(data="data.py:pair", name="mine", **ONE | {"trials": 2}).trials) == 2


def test_two_things_of_one_name_are_refused() -> None:
    def inner() -> object:
        return PAIR

    with pytest.raises(UsageError, match="are both called 'inner': rename one of them"):
        lrsearch.search(data=inner, model=local(), **ONE)


def test_each_thread_finds_what_it_was_handed_under_one_name() -> None:
    def one() -> int:
        return 1

    def other() -> int:
        return 2

    def in_a_thread(function: Any) -> int:
        given.hand_over(given.Given("both", function))
        barrier.wait(10)
        found = given.found("both")
        assert found is not None
        return int(found.function())

    barrier = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        assert [*pool.map(in_a_thread, (one, other))] == [1, 2]
    assert given.found("both") is not None, "another thread of the process has it too"


# By what a function is known.


class Head(nn.Linear):
    """What several networks end with."""


def blocks(width: int) -> nn.Module:
    return nn.Linear(3, width)


WIDTH = 3
SIZES = {"first": [1, 2], "second": {3, 1}}
MASK = np.eye(2)


def uses_nothing(num_classes: int) -> nn.Module:
    return nn.Linear(3, num_classes)


def uses_a_class(num_classes: int) -> nn.Module:
    return Head(3, num_classes)


def uses_another(num_classes: int) -> nn.Module:
    return nn.Sequential(blocks(3), uses_a_class(num_classes))


def uses_values(num_classes: int) -> nn.Module:
    return nn.Linear(WIDTH + sum(SIZES["first"]) + int(MASK.sum()), num_classes)


def closes_over(width: object) -> Any:
    def inner(num_classes: int) -> nn.Module:
        return nn.Linear(3, width, num_classes)  # type: ignore[arg-type]

    return inner


FUNCTIONS = (uses_nothing, uses_a_class, uses_another, uses_values, Head, closes_over(3))


@pytest.mark.slow
def test_a_function_is_known_by_its_source_in_every_process() -> None:
    code = f"""
    import sys
    sys.path.insert(0, {str(Path(__file__).parent)!r})
    import test_api_given as here
    from lrsearch.api import source
    print(*(source.digest(one) for one in here.FUNCTIONS))
    """
    done = run_python(code, Path())
    assert done.out.split() == [source.digest(one) for one in FUNCTIONS], done.err
    assert len({*done.out.split()}) == len(FUNCTIONS)


@pytest.mark.parametrize(
    ("function", "name", "other"),
    [
        (uses_a_class, "Head", nn.Bilinear),
        (uses_another, "blocks", uses_nothing),
        (uses_another, "Head", nn.Bilinear),
        (uses_values, "WIDTH", 4),
        (uses_values, "SIZES", {"first": [1, 3]}),
        (uses_values, "MASK", np.ones((2, 2))),
    ],
)
def test_what_a_function_uses_of_its_module_is_part_of_it(
    function: Any, name: str, other: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = source.digest(function)
    monkeypatch.setitem(globals(), name, other)
    assert source.digest(function) != before


def test_what_a_function_closes_over_is_part_of_it() -> None:
    assert source.digest(closes_over(3)) == source.digest(closes_over(3))
    assert source.digest(closes_over(3)) != source.digest(closes_over(4))
    assert source.digest(closes_over(torch.ones(2))) != source.digest(closes_over(torch.zeros(2)))


def test_a_lambda_is_itself_and_not_its_statement() -> None:
    one, trials = (lambda num_classes: nn.Linear(3, num_classes)), 3
    other, trials = (lambda num_classes: nn.Linear(3, num_classes)), trials + 1
    assert source.digest(one) == source.digest(other)
    third = lambda num_classes: nn.Linear(4, num_classes)  # noqa: E731
    assert source.digest(third) != source.digest(one)


def test_a_function_that_is_changed_is_another_one_and_a_word_may_stand_for_it() -> None:
    first = lrsearch.search(data=PAIR, model=closes_over_images(8), name="mine", **ONE)
    with pytest.raises(LrsearchError, match=r"model.name .SHA-256. is .* add name='mine-2'"):
        lrsearch.search(data=PAIR, model=closes_over_images(9), name="mine", **ONE)
    assert len(lrsearch.search(data=PAIR, model=closes_over_images(8), name="mine", **ONE | {"trials": 2}).trials) == 2
    assert len(first.trials) == 2
    lrsearch.search(data=PAIR, model=closes_over_images(8), name="word", key="v1", **ONE)
    again = lrsearch.search(data=PAIR, model=closes_over_images(9), name="word", key="v1", **ONE | {"trials": 2})
    assert len(again.trials) == 2, "the word has not changed"
    with pytest.raises(LrsearchError, match="SHA-256"):
        lrsearch.search(data=PAIR, model=closes_over_images(8), name="word", key="v2", **ONE)


def closes_over_images(unused: int) -> Any:
    def inner(num_classes: int, in_chans: int) -> nn.Module:
        assert unused
        return linear(num_classes, in_chans)

    return inner


def without_source() -> Any:
    space: dict[str, Any] = {}
    lines = (
        "def build(num_classes, in_chans):",
        "    from handed_over import linear",
        "    return linear(num_classes, in_chans)",
    )
    exec("\n".join(lines), space)
    return space["build"]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (without_source(), "'build' has no source that Python can find, so that"),
        (partial(without_source(), size=8), "'build' has no source that Python can find"),
        (partial(linear, 3), "'model' has no source that Python can find"),
        (closes_over(object()), "'inner' uses 'width', an object, whose content lrsearch cannot tell, so that"),
    ],
)
def test_what_has_no_source_needs_a_word(model: Any, words: str) -> None:
    with pytest.raises(LrsearchError, match=words) as raised:
        lrsearch.search(data=PAIR, model=model, **ONE)
    assert "give key='...', a word that you change whenever it changes, or put it in a file" in str(raised.value)
    assert not Path("lrsearch.db").exists()


def test_a_word_is_enough_without_a_source() -> None:
    assert lrsearch.search(data=PAIR, model=without_source(), key="v1", **ONE).best is not None


def test_data_need_no_source() -> None:
    space: dict[str, Any] = {"pair": PAIR}
    exec("def mine(): return pair", space)
    assert lrsearch.search(data=space["mine"], **ONE).name == "mine-mlp"
