"""What is documented is tested: links, commands, code, tables, and the pages that follow from the code."""

import importlib.metadata
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any, get_args
from xml.etree import ElementTree as ET

import pytest
import typer
from conftest import FakeEngine, learning, make_spec
from ones_own import NET, make_pictures
from own_loops import LOOP
from pydantic import BaseModel

from lrsearch import errors, run
from lrsearch.cli import app as cli
from lrsearch.families import FAMILIES
from lrsearch.spec import deciding
from lrsearch.spec import file as study_file
from lrsearch.spec import study as spec
from lrsearch.spec.datasets import DATASETS
from lrsearch.spec.models import MODELS
from lrsearch.store import filing, places
from lrsearch.training.data import DataConfig, load

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
GUIDE = (DOCS / "guide.md").read_text("utf-8")
STUDY_FILE = (DOCS / "study-file.md").read_text("utf-8")
IMPORT = (DOCS / "import.md").read_text("utf-8")
PICTURE = DOCS / "images" / "run.svg"


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(text: str, *languages: str) -> list[str]:
    """Return the fenced blocks of a page in these languages."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [body for language, body in found if language in languages]


def prose(text: str) -> str:
    return re.sub(r"^```\w*\n.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def section(text: str, heading: str) -> str:
    """Return a section of a page, up to the next heading of any level from two."""
    _, rest = text.split(f"\n## {heading}\n", 1)
    return re.split(r"^#{2,} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of the tables in a text, their headings left out."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rules = [i for i, row in enumerate(cells) if all(set(cell) <= {"-"} for cell in row)]
    return [row for i, row in enumerate(cells) if i not in rules and i + 1 not in rules]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def anchors(page: Path) -> set[str]:
    """Return the names that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# Links

LINKS = [
    (page, target)
    for page in PAGES
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text("utf-8")))
    if "://" not in target
]


@pytest.mark.parametrize(("page", "target"), LINKS, ids=lambda value: value if isinstance(value, str) else value.stem)
def test_a_link_leads_somewhere(page: Path, target: str) -> None:
    name, _, anchor = target.partition("#")
    there = (page.parent / name).resolve() if name else page
    if there == DOCS / "benchmarks.md" and not there.exists():
        pytest.skip("docs/benchmarks.md is not written yet")
    assert there.exists()
    if anchor:
        assert anchor in anchors(there)


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_a_page_names_no_folder_of_this_machine_and_no_host_of_a_registry(page: Path) -> None:
    text = page.read_text("utf-8")
    assert not re.findall(r"/(?:work|root|home|tmp|usr)/\S*", text)
    assert not re.findall(r"pypi\.org|pythonhosted|download\.pytorch|anaconda\.org", text)


# Commands


def shell_lines(page: Path) -> list[str]:
    """Return the lines of a page's shell blocks, comments and line ends taken away."""
    joined = "\n".join(blocks(page.read_text("utf-8"), "sh")).replace("\\\n", " ")
    # As a shell, and not as shlex, which takes the # of digits#7 for a comment too.
    lines = (shlex.join(shlex.split(re.sub(r"(^|\s)#.*", "", line))) for line in joined.splitlines())
    return [line for line in lines if line]


SHELL_LINES = [(page, line) for page in PAGES for line in shell_lines(page)]
INLINE = sorted(
    {
        span
        for page in PAGES
        for span in code(prose(page.read_text("utf-8")))
        if span.startswith("lrsearch ") and "..." not in span
    }
)


def commands(line: str) -> list[list[str]]:
    """Return the commands of a line, each as words; pipes and && end one."""
    out: list[list[str]] = [[]]
    for word in shlex.split(line):
        if word in ("&&", "|"):
            out.append([])
        else:
            out[-1].append(word)
    return [[Path(words[0]).name, *words[1:]] for words in out]


def understand(words: list[str]) -> None:
    """Parse a command of lrsearch without running it."""
    group: Any = typer.main.get_command(cli.app)
    context = group.make_context("lrsearch", list(words))
    name, command, rest = group.resolve_command(context, list(words))
    assert command is not None
    command.make_context(name, rest, parent=context)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("LRSEARCH_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the study 'digits', as the pages speak of it; trained by an engine that only pretends."""
    path = tmp_path_factory.mktemp("docs") / "lrsearch.db"
    study_spec = study_file.load("digits", [("budget.trials", 12)])
    study = filing.file_study(study_spec, places.parse_place(str(path)), explicit_budget=True)
    make_pictures(path.parent / "pets")
    (path.parent / "net.py").write_text(NET)
    (path.parent / "loop.py").write_text(LOOP.replace("def loop(", "def train("))
    engine = FakeEngine(learning)
    engine.facts = load(DataConfig("digits")).facts()  # whoever trains a trial again sees these images
    with closing(study.database):
        artifacts = filing.artifacts_of(study)
        for _ in run.Session(study, engine, artifacts).attend():
            pass
    return path


@pytest.fixture
def folder(searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own with that database in it; the one that commands run in."""
    shutil.copy(searched, tmp_path / "lrsearch.db")
    shutil.copytree(searched.parent / "pets", tmp_path / "pets")
    for name in ("net.py", "loop.py"):
        shutil.copy(searched.parent / name, tmp_path)
    for name, text in zip(("past.csv", "wandb.csv", "optuna.csv"), blocks(IMPORT, "csv"), strict=True):
        (tmp_path / name).write_text(text, "utf-8")
    monkeypatch.setenv("LRSEARCH_CACHE", str(searched.parent / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("page", "line"), SHELL_LINES, ids=lambda value: value if isinstance(value, str) else value.stem
)
def test_a_command_shown_can_be_typed(page: Path, line: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What reads a study runs; what would train runs with --dry-run; of other programs, there must be one."""
    for program, *words in commands(line):
        match program:
            case "lrsearch":
                understand(words)
                if words[0] in ("worker", "dashboard", "confirm", "find") or "--measure" in words:
                    # They would train and serve; a test file of each has them at work.
                    continue
                if page.stem == "lessons":
                    continue  # tests/test_lessons.py trains what they read
                dry = ["--dry-run"] if words[0] == "run" and "--dry-run" not in words else []
                assert cli.run([*words, *dry]) == 0, capsys.readouterr().err
                said = capsys.readouterr()
                assert said.out or said.err.startswith("wrote "), "a file is named where the data went"
            case "export":
                assert words[0].startswith("LRSEARCH_")
            case "make":
                assert f"\n{words[0]}:" in (ROOT / "Makefile").read_text("utf-8")
            case "optuna-dashboard":
                assert [s for s in importlib.metadata.entry_points(group="console_scripts") if s.name == program]
            case "python" | "python3":
                assert words[0] in ("-m", "-c") or (ROOT / words[0]).is_file()
            case _:
                pytest.fail(f"{page_name(page)} shows a program that is not tested: {program}")


@pytest.mark.parametrize("span", INLINE)
def test_a_command_named_in_a_sentence_is_understood(span: str) -> None:
    words = ["0" if word == "N" else word for word in shlex.split(span)[1:]]
    if "--help" in words:
        assert cli.run(words) == 0
    else:
        understand(words)


def test_the_readme_shows_every_verb_but_the_housekeeping_ones() -> None:
    group: Any = typer.main.get_command(cli.app)
    shown = {words[1] for _, line in SHELL_LINES for words in commands(line) if words[0] == "lrsearch"}
    named = {span.split()[1] for span in INLINE}
    assert set(group.commands) <= shown | named


# Pages that follow from the code


@pytest.fixture(scope="module")
def render_cli() -> ModuleType:
    found = importlib.util.spec_from_file_location("render_cli", DOCS / "render_cli.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_rendered_pages_are_up_to_date(render_cli: ModuleType) -> None:
    stale = [path.name for path, text in render_cli.pages() if path.read_text("utf-8") != text]
    assert not stale, "run python docs/render_cli.py"


def keys(model: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of a study file, those of every optimizer and family included."""
    for name, field in model.model_fields.items():
        inner = [t for t in (field.annotation, *getattr(field.annotation, "__args__", ())) if _is_table(t)]
        if not any(kind.model_fields for kind in inner):
            yield f"{prefix}{name}"
        for kind in inner:
            yield from keys(kind, f"{prefix}{name}.")


def _is_table(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def documented_keys() -> set[str]:
    out = set()
    for heading, table in (("The file itself", ""), *((f"[{name}]", f"{name}.") for name in _tables())):
        for cells in rows(section(STUDY_FILE, heading)):
            spans = [span for cell in cells[:2] for span in code(cell)]
            if heading in ("[space.optimizer]", "[space.schedule]"):
                out.add(table + ".".join(spans[:2]))
            else:
                out.add(table + spans[0])
    return out


def _tables() -> list[str]:
    fields = spec.StudySpec.model_fields.items()
    tables = [name for name, field in fields if any(map(_is_table, (field.annotation, *get_args(field.annotation))))]
    return [*tables, *deciding.KINDS, "space.optimizer", "space.schedule"]


def test_every_key_of_the_study_file_is_documented() -> None:
    assert set(keys(spec.StudySpec)) <= documented_keys()


def test_the_keys_that_are_documented_are_known() -> None:
    known = set(keys(spec.StudySpec)) | set(_tables())
    # The table of what a parameter may be shows examples.
    examples = {
        f"space.{text}" for cells in rows(section(STUDY_FILE, "[space]")) for text in code(cells[0]) if "=" in text
    }
    assert documented_keys() - examples <= known


def test_a_key_left_unset_means_what_is_documented(render_cli: ModuleType) -> None:
    told = render_cli.UNSET
    unset = make_spec(budget={"trials": None}).model_copy(update={"pruner": deciding.AshaSpec()})
    assert (unset.baseline, unset.dataset.limit, unset.dataset.pool) == (None, None, DATASETS["digits"].n_pool)
    budgets = [deciding.BudgetSpec(), deciding.BudgetSpec(hours=1.0)]
    assert [(b.trials, b.hours) for b in budgets] == [(50, None), (None, 1.0)]
    assert told["budget.trials"] == "50, or no limit if `hours` is given"
    hidden = {name: spec.ModelSpec(name=name).hidden_resolved for name in MODELS}
    assert told["model.hidden"] == ", ".join(f"`{list(sizes)}` for {name}" for name, sizes in hidden.items())
    assert told["pruner.min_resource"] == "a fifth of `epochs` (gradual: a tenth, hyperband: 1)"
    for epochs in range(1, 101):
        assert deciding.AshaSpec().rungs(epochs) == deciding.AshaSpec(min_resource=max(1, epochs // 5)).rungs(epochs)
        assert deciding.GradualSpec().first_rung(epochs) == max(1, epochs // 10)
        assert deciding.HyperbandSpec().first_rung(epochs) == 1


# Code


PYTHON = [(page, text) for page in PAGES for text in blocks(page.read_text("utf-8"), "python")]


@pytest.mark.parametrize(
    ("page", "text"), PYTHON, ids=lambda value: value.splitlines()[0] if isinstance(value, str) else ""
)
@pytest.mark.slow
def test_a_python_block_runs_beside_the_database_of_the_tour(page: Path, text: str, folder: Path) -> None:
    compile(text, page_name(page), "exec")
    done = subprocess.run([sys.executable, "-c", text], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_what_a_python_block_is_said_to_print_it_prints(capsys: pytest.CaptureFixture[str]) -> None:
    (text,) = (text for _, text in PYTHON if "describe(schedule)" in text)
    exec(text, {})
    (said,) = re.findall(r"print\(describe\(schedule\)\)  # (.+)", text)
    assert capsys.readouterr().out.strip() == said


# Tables


def test_the_exit_codes_are_those_of_the_errors() -> None:
    told = {int(cells[0]) for cells in rows(section(GUIDE, "Exit codes"))}
    assert told == {value for name, value in vars(errors).items() if name.startswith("EXIT_")}


def test_every_environment_variable_is_listed_with_its_option() -> None:
    told = {code(cells[0])[0]: (code(cells[1]) or [""])[0] for cells in rows(section(GUIDE, "Environment variables"))}
    group: Any = typer.main.get_command(cli.app)
    known = {p.envvar: p.opts[0] for command in group.commands.values() for p in command.params if p.envvar}
    assert told == known | {
        "LRSEARCH_DEBUG": "--debug",
        "LRSEARCH_DASHBOARD_PASSWORD": "--password-file",
        "LRSEARCH_LOG_FORMAT": "--log-format",
        "LRSEARCH_CACHE": "",
        "NO_COLOR": "",
    }


def test_the_table_of_schedules_has_every_family_with_its_parameters() -> None:
    told = {code(cells[0])[0]: tuple(code(cells[1])) for cells in rows(section(GUIDE, "Schedules"))}
    assert told == {name: record.takes for name, record in FAMILIES.items()}


def test_every_family_is_drawn() -> None:
    (drawn,) = (text for text in blocks(GUIDE, "text") if "⠉" in text)
    assert set(re.findall(r"[a-z_]+", drawn)) == set(FAMILIES)


def test_the_schemas_of_json_are_those_of_the_code() -> None:
    told = [code(cells[1])[0] for cells in rows(section(GUIDE, "JSON"))]
    source = "".join(path.read_text("utf-8") for path in (ROOT / "lrsearch").rglob("*.py"))
    assert sorted(told) == sorted(set(re.findall(r"\"(lrsearch/[a-z]+/\d+)\"", source)))


def test_the_samplers_pruners_data_sets_and_models_are_all_named() -> None:
    for names, heading in (
        (deciding.KINDS["sampler"], "Samplers"),
        (deciding.KINDS["pruner"], "Pruners"),
        (DATASETS, "Data sets"),
        (MODELS, "Models and devices"),
    ):
        assert set(names) <= set(code(section(GUIDE, heading))), heading


def test_the_sentences_of_troubleshooting_are_ones_that_the_code_says() -> None:
    source = "".join(path.read_text("utf-8") for path in sorted((ROOT / "lrsearch").rglob("*.py")))
    # A sentence may go on in the next literal of the source.
    source = re.sub(r"\"\s*f?\"", "", source)
    for cells in rows(section(GUIDE, "Troubleshooting")):
        for part in code(cells[0])[0].split("..."):
            assert part.strip(" '?)(") in source, part


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=page_name)
def test_the_files_that_are_named_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    named = [span for span in code(prose(text)) if re.fullmatch(r"[\w./-]+\.(py|toml|md)", span)]
    places = [ROOT, ROOT / "lrsearch", ROOT / "lrsearch" / "training", ROOT / "tests"]
    for name in named:
        assert "NNNN" in name or any((place / name).exists() for place in places), name
    for tree in (text for text in blocks(text, "text") if "lrsearch/" in text):
        for indent, name in re.findall(r"^( *)([\w.]+(?:\.py|/))", tree, re.MULTILINE):
            assert ((ROOT / "lrsearch" if indent else ROOT) / name).exists(), name


# The picture


def picture_text() -> str:
    """Return the words of the picture, line by line."""
    lines: dict[str, list[str]] = {}
    for element in ET.parse(PICTURE).iter("{http://www.w3.org/2000/svg}text"):
        lines.setdefault(element.get("clip-path", ""), []).append((element.text or "").replace("\xa0", " "))
    return "\n".join(" ".join(words) for words in lines.values())


def test_the_picture_is_small_and_loads_nothing_from_elsewhere() -> None:
    text = PICTURE.read_text("utf-8")
    assert len(text) < 200_000
    assert set(re.findall(r"https?://[\w.]+", text)) <= {"http://www.w3.org", "https://www.textualize.io"}
    assert not re.findall(r"/(?:work|root|home|tmp|usr)/", text)


def test_the_picture_shows_the_command_the_live_view_and_the_answer() -> None:
    shown = picture_text()
    for words in (
        "lrsearch run --trials 50",
        "left",
        "running",
        "best",
        "How sure",
        "Too high, too low",
        "In PyTorch",
        "Next",
    ):
        assert words in shown


def test_the_answer_that_the_guide_explains_is_that_of_the_picture() -> None:
    shown = re.sub(r"\s+", " ", picture_text())
    for line in blocks(section(GUIDE, "Reading the answer"), "text")[0].splitlines():
        assert re.sub(r"\s+", " ", line.strip()) in shown
