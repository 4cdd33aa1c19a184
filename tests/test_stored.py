"""Words that come from a database are data: hostile names through every command."""

import ast
import doctest
import html.parser
import re
import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa
import typer
from command_line import Finished, InProcess
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lrsearch import text as stored
from lrsearch.cli import app
from lrsearch.text import LONGEST_FILE_NAME, file_name, in_docstring, shown

pytest_plugins = ["command_line"]

HOSTILE = {
    "triple quotes": '"""+str(open("pwned","w"))+"""',
    "quotes that end the docstring": 'a"""b',
    "backslash at the end": "a\\",
    "a quote at the end": 'a"',
    "apostrophe": "it's",
    "up a folder": "../evil",
    "a folder": "a/b",
    "the root": "/tmp/evil",
    "markup that closes": "[/]",
    "markup": "best run [old]",
    "colour": "[red]x[/red]",
    "a link": "[link=/etc/passwd]x[/link]",
    "an escape": "\x1b[31mred\x1b[0m",
    "a title of the terminal": "\x1b]0;owned\x07",
    "one byte of control": "\x9b31m",
    "lines": "one\ntwo\r\nthree",
    "400 letters": "a" * 400,
    "400 letters of three bytes": "\u20ac" * 400,
    "right to left": "abc\u202egnp.exe",
    "a tag": "<script>alert(1)</script>",
    "an attribute": '" onmouseover="alert(1)',
    # Of Jinja, str.format, printf, argparse and the shell: none may be filled in.
    "signs that a template fills in": "{{ 7 * 7 }} {0} %s %(prog)s $HOME",
    "a command": "$(touch pwned); rm -rf x #",
    "an option": "--help",
    "a blank": " ",
    "dots": "..",
    "smile": "\U0001f600 study",
    "a formula": "=1+1",
}

COMMANDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "list": ((), ("--json",)),
    "trials": (("NAME",), ("NAME", "--json"), ("NAME", "--format", "csv")),
    "best": (("NAME",), ("NAME", "--json")),
    "show": (("0", "NAME"), ("0", "NAME", "--json")),
    "status": (("NAME",), ("NAME", "--json")),
    "report": (("NAME",), ("NAME", "--format", "markdown", "-o", "r.md"), ("NAME", "--format", "json", "-o", "r.json")),
    "export": (
        ("NAME", "-o", "p.py"),
        ("NAME", "--to", "lightning", "-o", "l.py"),
        ("NAME", "--to", "json", "-o", "e.json"),
    ),
    "show-schedule": (("NAME", "--trial", "0"),),
    "log": (("NAME", "--to", "csv", "-o", "log"),),
    "extend": (("NAME", "--trials", "+1"),),
    "stop": (("NAME",),),
    "enqueue": (("NAME", "sgd lr=0.1 cosine batch=64"),),
    "doctor": ((),),
    "run": (("NAME", "--dry-run"),),
    "transfer": (("NAME", "--batch-size", "256"), ("NAME", "--epochs", "9", "--json")),
    "confirm": (("NAME", "--detach"),),
}
ELSEWHERE = {
    "train": "trains; its folder is that of file_name, below",
    "predict": "needs weights; tried below",
    "worker": "trains; tried below",
    "dashboard": "serves; tests/test_dashboard.py has its names",
    "delete": "tried last, below",
    "import": "takes a file after the name; tried below",
    "compare": "takes two that differ; tests/test_compare.py",
    "find": "sweeps for seconds, and names the study as the others do; tests/test_find.py",
    "init": "reads no database",
    "data": "reads no database; tests/test_faults.py has names of files",
    "model": "reads no database",
    "completion": "reads no database",
}


def test_every_command_is_tried_or_says_why_not() -> None:
    command = typer.main.get_command(app.app)
    assert isinstance(command, typer.core.TyperGroup)
    assert set(command.commands) <= set(COMMANDS) | set(ELSEWHERE)


class Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(sorted(name for name, _ in attrs))))


def tags(page: str) -> list[tuple[str, tuple[str, ...]]]:
    parser = Tags()
    parser.feed(page)
    return parser.found


def code_of(program: str) -> str:
    """Return a program without its docstrings, as its syntax tree."""
    tree = ast.parse(program)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)


def renamed(folder: Path, finished: Finished, name: str) -> None:
    shutil.copy(finished.database, folder / "lrsearch.db")
    engine = sa.create_engine(f"sqlite:///{folder / 'lrsearch.db'}")
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE studies SET study_name = :name"), {"name": name})
    engine.dispose()


def tried(name: str, folder: Path, finished: Finished, lrsearch: InProcess) -> None:
    renamed(folder, finished, name)
    before = {path.name for path in folder.parent.iterdir()}
    (folder / "past.csv").write_text("optimizer,lr,schedule,batch_size,epochs,accuracy\nsgd,0.1,cosine,64,4,0.9\n")
    imported = lrsearch("import", "--dry-run", "--", name, str(folder / "past.csv"))
    assert imported.code in (0, 2), (name, imported.err[-300:])
    assert "a defect of lrsearch" not in imported.err
    for command, ways in COMMANDS.items():
        for words in ways:
            given_name = [name if word == "NAME" else word for word in words]
            if name.startswith("-") and "NAME" in words:
                at = words.index("NAME")
                rest = [word for i, word in enumerate(given_name) if i != at]
                options = [word for word in rest if word.startswith("-") or rest[rest.index(word) - 1].startswith("-")]
                given_name = [*options, "--", *(word for word in rest if word not in options), name]
            done = lrsearch(command, *given_name)
            what = (command, words, name, done.out[-300:], done.err[-300:])
            assert "a defect of lrsearch" not in done.err, what
            assert done.code in (0, 2, 3), what
            assert done.code != 2 or "://" in name or command == "enqueue", what
            for text in (done.out, done.err):
                assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text), what
    assert {path.name for path in folder.parent.iterdir()} == before
    assert not list(folder.rglob("pwned"))
    if "://" in name:
        return  # a URL may hold a password: it is refused where a study is named
    for program in ("p.py", "l.py"):
        ast.parse((folder / program).read_text("utf-8"))


def cleared(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def written(folder: Path) -> tuple[list[str], list[tuple[str, tuple[str, ...]]]]:
    """Return what two programs do, and of what elements the page consists."""
    programs = [code_of((folder / program).read_text("utf-8")) for program in ("p.py", "l.py")]
    (page,) = folder.glob("*.html")
    return programs, tags(page.read_text("utf-8"))


PLAIN: list[tuple[list[str], list[tuple[str, tuple[str, ...]]]]] = []
"""What the commands write of a study with a plain name, once it is known: the same for every test."""


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_goes_through_every_command(
    name: str, finished: Finished, lrsearch: InProcess, tmp_path: Path
) -> None:
    if not PLAIN:
        tried("plain", tmp_path, finished, lrsearch)
        PLAIN.append(written(tmp_path))
        cleared(tmp_path)
    tried(HOSTILE[name], tmp_path, finished, lrsearch)
    assert written(tmp_path) == PLAIN[0]


@pytest.mark.slow
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60))
def test_any_name_goes_through_every_command(
    name: str, finished: Finished, lrsearch: InProcess, tmp_path: Path
) -> None:
    cleared(tmp_path)
    tried(name, tmp_path, finished, lrsearch)


def test_one_hostile_name_does_not_blind_the_list_for_the_others(
    finished: Finished, lrsearch: InProcess, tmp_path: Path
) -> None:
    renamed(tmp_path, finished, "[/]")
    assert lrsearch("run", "--detach", "--name", "other").code == 0
    out = lrsearch("list").out
    assert "[/]" in out
    assert "other" in out


def test_a_name_is_shown_so_that_it_can_be_typed_again(finished: Finished, lrsearch: InProcess, tmp_path: Path) -> None:
    renamed(tmp_path, finished, "a\x1b[31m\nb")
    assert "a\\x1b[31m\\nb" in lrsearch("list").out
    assert lrsearch("best", "a\\x1b[31m\\nb").code == 0
    gone = lrsearch("delete", "a\\x1b[31m\\nb", "-y")
    assert gone.code == 0
    assert "\x1b" not in gone.out


# --- the door --------------------------------------------------------------------------------------------------------


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(stored).failed == 0


@given(st.text())
def test_what_is_shown_is_one_line_of_visible_characters(text: str) -> None:
    said = shown(text)
    assert len(said.splitlines()) <= 1
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", said)


@given(st.text())
def test_what_stands_in_a_docstring_is_a_string_of_python(text: str) -> None:
    assert ast.literal_eval(f'"""x{in_docstring(text)}\n"""') == f"x{shown(text)}\n"


@given(st.text(), st.text())
def test_a_file_name_stays_in_its_folder_is_short_and_tells_two_apart(a: str, b: str) -> None:
    for text in (a, b):
        name = file_name(text)
        assert Path(name).name == name
        assert name not in ("", ".", "..")
        assert len(name.encode()) <= LONGEST_FILE_NAME + 9
    if a != b:
        assert file_name(a) != file_name(b)
