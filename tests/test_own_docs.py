"""The page about one's own classifier: its network is built and its commands are run, in their order, as they stand."""

import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
from command_line import run_process
from ones_own import make_pictures

pytest_plugins = ["command_line"]
pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[1] / "docs" / "own.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def pets(folder: Path) -> None:
    """Lay pictures there: real ones, 20 of each of three classes, where there are some."""
    emoji = Path(os.environ.get("LRSEARCH_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")) / "emoji/pictures"
    if not emoji.is_dir():
        make_pictures(folder)
        return
    for name in ("animals and nature", "flags", "symbols"):
        (folder / name).mkdir(parents=True)
        for path in sorted((emoji / name).iterdir())[:20]:
            shutil.copy(path, folder / name)


def test_the_commands_of_the_page_run_in_their_order(tmp_path: Path) -> None:
    pets(tmp_path / "pets")
    (tmp_path / "new-pictures").mkdir()
    for path in sorted((tmp_path / "pets").glob("*/*.png"))[::10]:
        shutil.copy(path, tmp_path / "new-pictures")
    (net,) = blocks("py")
    (tmp_path / "net.py").write_text(net)
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    assert len(lines) >= 8
    for line in lines:
        program, *words = shlex.split(line)
        assert program == "lrsearch"
        if words[:3] == ["run", "--name", "tuned"]:
            trained = run_process(
                ["train", "pets-net", "-o", "pets-net-trial"], tmp_path, LRSEARCH_CACHE=str(tmp_path / "c")
            )
            assert trained.code == 0, trained.err
        done = run_process(words, tmp_path, LRSEARCH_CACHE=str(tmp_path / "c"))
        assert done.code == 0, (line, done.err)
    assert (tmp_path / "what-they-are.csv").read_text().count("\n") == 7
    assert (tmp_path / "train-pets.py").is_file()
    assert (tmp_path / "pets.png").is_file()
