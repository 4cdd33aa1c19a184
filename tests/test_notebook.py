"""In a real kernel of Jupyter: the documentation's notebook, the live view, an interrupt, what a cell redefines."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty

import jupytext
import nbclient
import pytest
from command_line import clean_environment
from conftest import DEADLINE_SECONDS
from jupyter_client.manager import KernelManager

import lrsearch

pytest_plugins = ["command_line"]
pytestmark = pytest.mark.slow

NOTEBOOKS = Path(__file__).parents[1] / "docs" / "notebooks"
NOTEBOOK = NOTEBOOKS / "pictures.py"


@dataclass
class Ran:
    """What a cell has left."""

    displays: list[dict[str, str]] = field(default_factory=list)
    """Outputs as they stand in the end, by form; those that are updated in place are one."""
    updates: int = 0
    result: dict[str, str] = field(default_factory=dict)
    out: str = ""
    err: str = ""
    error: str = ""
    """Kind and words of the exception."""
    traceback: str = ""
    strangers: int = 0
    """Outputs that belong to no cell that runs."""


class Kernel:
    """A kernel of this Python."""

    def __init__(self, folder: Path) -> None:
        self._manager = KernelManager(kernel_name="python3")
        environment = clean_environment(folder, LRSEARCH_CACHE=str(folder / "cache"), OMP_WAIT_POLICY="PASSIVE")
        self._manager.start_kernel(cwd=str(folder), env=environment)
        self._client = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(DEADLINE_SECONDS)

    def run(self, code: str, interrupt_when: str = "") -> Ran:
        """Run a cell; interrupt the kernel once what it shows says something."""
        ran, ids, mine = Ran(), dict[str, int](), self._client.execute(code)
        while True:
            try:
                message = self._client.get_iopub_msg(timeout=DEADLINE_SECONDS)
            except Empty:
                raise AssertionError(f"nothing came for {DEADLINE_SECONDS} s after {ran}") from None
            kind, content = message["msg_type"], message["content"]
            if message["parent_header"].get("msg_id") != mine:
                ran.strangers += kind not in ("status", "execute_input")
                continue
            match kind:
                case "display_data":
                    ids[content["transient"].get("display_id", "")] = len(ran.displays)
                    ran.displays.append(content["data"])
                case "update_display_data":
                    ran.displays[ids[content["transient"]["display_id"]]] = content["data"]
                    ran.updates += 1
                case "execute_result":
                    ran.result = content["data"]
                case "stream" if content["name"] == "stdout":
                    ran.out += content["text"]
                case "stream":
                    ran.err += content["text"]
                case "error":
                    ran.error = f"{content['ename']}: {content['evalue']}"
                    ran.traceback = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(content["traceback"]))
                case "status" if content["execution_state"] == "idle":
                    return ran
            if interrupt_when and any(re.search(interrupt_when, one.get("text/plain", "")) for one in ran.displays):
                self._manager.interrupt_kernel()
                interrupt_when = ""

    def end(self) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)
        self._manager.cleanup_resources()


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    found = Kernel(tmp_path)
    yield found
    found.end()


def test_the_notebook_goes_from_pictures_to_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = jupytext.read(NOTEBOOK)
    for name in list(os.environ):
        if name.startswith("LRSEARCH_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LRSEARCH_CACHE", str(tmp_path / "cache"))
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=DEADLINE_SECONDS, kernel_name="python3", resources=where).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    searches = [cell for cell in cells if "lrsearch.search(" in cell.source]
    assert len(searches) == 3
    for cell in searches:
        (trials,) = re.findall(r"trials=(\d+)", cell.source)
        (shown,) = (one for one in cell.outputs if one.output_type == "display_data")
        assert f"{trials} of {trials} trials" in shown.data["text/html"]
        assert f"{trials} of {trials} trials" in shown.data["text/plain"]
    (answer,) = next(cell for cell in cells if cell.source == "study.best").outputs
    assert "The best of 12 trials of digits-on-paper" in answer.data["text/plain"]
    assert "Too high, too low" in answer.data["text/html"]
    (right,) = (cell.outputs[0].data["text/plain"] for cell in cells if cell.source.startswith("right = "))
    assert int(re.findall(r"(\d+) of 20 right", right)[0]) >= 15
    for cell in cells:
        said = [one.text for one in cell.outputs if one.output_type == "stream" and one.name == "stderr"]
        assert said == [], cell.source
    assert (tmp_path / "digits-on-paper.html").stat().st_size > 1_000_000
    by_two = lrsearch.open_study("digits-by-two", storage=tmp_path / "lrsearch.db")
    assert len({trial.worker for trial in by_two.trials}) == 2
    compile((tmp_path / "train-digits-by-two.py").read_text("utf-8"), "the program", "exec")


def test_the_page_is_that_of_the_notebook() -> None:
    page = NOTEBOOK.with_suffix(".md").read_text("utf-8")
    for cell in jupytext.read(NOTEBOOK).cells:
        text = cell.source if cell.cell_type == "markdown" else f"```py\n{cell.source}\n```\n"
        assert text in page, "run python docs/render_notebook.py --only page"
    assert "12 of 12 trials" in page


BUILD = """
from torch import nn
import lrsearch

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(784, num_classes{more}))

    def forward(self, images):
        return self.layers(images)
"""
FUNCTION = """
def build(num_classes):
    return Net(num_classes)
"""
SEARCH = "study = lrsearch.search(model=build, trials={trials}, epochs={epochs}, name='{name}')"


def test_a_search_shows_one_output_that_is_kept_up_to_date_and_says_nothing_else(kernel: Kernel) -> None:
    assert kernel.run(BUILD.format(more="")).error == ""
    kernel.run(FUNCTION)
    ran = kernel.run(SEARCH.format(trials=4, epochs=3, name="mine") + "\nstudy")
    assert (ran.error, ran.out, ran.err, ran.strangers) == ("", "", "", 0)
    assert len(ran.displays) == 1
    assert ran.updates >= 2
    assert "4 of 4 trials" in ran.displays[0]["text/html"]
    assert "build on digits" in ran.displays[0]["text/html"]
    assert "<script" not in ran.displays[0]["text/html"]
    assert "The best of" in ran.result["text/html"]
    assert ran.result["text/plain"] == "lrsearch.open_study('mine', storage='lrsearch.db')"
    quiet = kernel.run(SEARCH.format(trials=5, epochs=3, name="mine").replace(")", ", progress=False)"))
    assert (quiet.displays, quiet.out, quiet.err) == ([], "", "")
    threads = kernel.run(
        "import threading, torch; print([t.name for t in threading.enumerate() if 'lrsearch' in t.name])"
    )
    assert threads.out == "[]\n"


@pytest.mark.parametrize("workers", ["", ", workers=2"])
def test_an_interrupt_of_the_kernel_returns_a_study_that_the_same_cell_goes_on_with(
    kernel: Kernel, tmp_path: Path, workers: str
) -> None:
    kernel.run("import lrsearch")
    cell = "study = lrsearch.search(trials={trials}, epochs=30, dataset={{'limit': 300}}, name='mine'" + workers + ")"
    ran = kernel.run(cell.format(trials=400), interrupt_when=r"[1-9]\d* of 400 trials")
    assert ran.error == ""
    assert "the same call goes on from there" in ran.displays[0]["text/html"]
    left = lrsearch.open_study(storage=tmp_path / "lrsearch.db").trials
    assert 0 < sum(trial.state.counts for trial in left) < 400
    assert all(trial.interrupted for trial in left if not trial.state.counts)
    again = kernel.run(cell.format(trials=len(left)) + "\nprint(all(t.state.counts for t in study.trials))")
    assert again.out == "True\n"
    assert kernel.run("1 + 1").result == {"text/plain": "2"}, "the kernel hears"


def test_a_class_that_another_cell_redefines_makes_another_network(kernel: Kernel) -> None:
    kernel.run(BUILD.format(more=""))
    kernel.run(FUNCTION)
    search = SEARCH.format(trials=1, epochs=1, name="mine")
    assert kernel.run(search).error == ""
    kernel.run(BUILD.format(more=""))
    assert kernel.run(search).error == "", "the same again, in another cell"
    kernel.run(BUILD.format(more=", bias=False"))
    changed = kernel.run(search)
    assert changed.error.startswith(
        "IdentityError: the study 'mine' in lrsearch.db is another one: model.name (SHA-256)"
    )
    assert "add name='mine-2'" in changed.error


def test_an_error_in_a_cell_is_said_by_the_cell_and_without_the_calls_within(kernel: Kernel) -> None:
    kernel.run("import lrsearch")
    kernel.run("def build(num_classes):\n    return 1 / 0\n")
    ran = kernel.run("lrsearch.search(model=build)")
    assert (
        ran.error == "OwnCodeError: model.name: build raised ZeroDivisionError: division by zero (Cell In[2], line 2)"
    )
    after = ran.traceback.rpartition("The above exception")[2]
    assert "return 1 / 0" in ran.traceback, "the person's own line"
    assert re.findall(r"lrsearch/\w+(?:/\w+)*\.py", after) == ["lrsearch/api/words.py"]
    assert kernel.run("import os; print([p for p in os.listdir() if p.endswith('.db')])").out == "[]\n"


def test_arrays_that_a_notebook_holds_are_known_by_their_content(kernel: Kernel) -> None:
    kernel.run("import lrsearch, numpy as np\nimages = np.random.default_rng(0).integers(0, 255, (90, 8, 8), np.uint8)")
    kernel.run("labels = np.arange(90) % 3")
    call = "lrsearch.search(data=(images, labels), trials={trials}, epochs=1, space={{'batch_size': 8}}).trials"
    assert kernel.run(f"len({call.format(trials=1)})").result == {"text/plain": "1"}
    assert kernel.run(f"len({call.format(trials=2)})").result == {"text/plain": "2"}
    kernel.run("images[0] += 1")
    assert "SHA-256" in kernel.run(call.format(trials=3)).error
