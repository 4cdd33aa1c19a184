"""The shape of the house, read from its source."""

import ast
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "lrsearch"
FILES = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text("utf-8")) for path in PACKAGE.rglob("*.py")}


def test_no_class_name_means_two_things() -> None:
    places = defaultdict(list)
    for name, tree in FILES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(name)
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_sql_stands_in_one_room() -> None:
    rooms = set()
    for name, tree in FILES.items():
        for node in ast.walk(tree):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if any(module.partition(".")[0] in ("sqlalchemy", "sqlite3", "psycopg", "alembic") for module in modules):
                rooms.add(name.rpartition("/")[0])
    assert rooms == {"store"}


def private_names_of_optuna(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("optuna"):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            yield from (name for name in names if name.startswith("_"))
        if isinstance(node, ast.Attribute) and node.attr in ("_trial_id", "_study_id", "_storage", "_version_manager"):
            # An attribute of that name may be one of ours.
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            if owner != "self":
                yield node.attr
        if isinstance(node, ast.FunctionDef) and node.name == "_find_sample_id":
            yield node.name


def test_one_file_knows_what_optuna_has_no_public_name_for() -> None:
    found = {name: set(private_names_of_optuna(tree)) for name, tree in FILES.items()}
    assert {name for name, names in found.items() if names} == {"store/optuna_private.py"}
    assert found["store/optuna_private.py"] == {"_rdb", "_frozen", "_trial_id", "_version_manager", "_find_sample_id"}


def test_the_tree_of_the_readme_is_the_folder() -> None:
    readme = (PACKAGE.parent / "README.md").read_text("utf-8")
    (tree,) = re.findall(r"```text\nlrsearch/\n(.*?)```", readme, re.DOTALL)
    named = re.findall(r"^  (\w+(?:\.py|/))", tree, re.MULTILINE)
    here = {path.name if path.is_file() else f"{path.name}/" for path in PACKAGE.iterdir()}
    assert sorted(named) == sorted(name for name in here if name[0] != "_" and name != "py.typed")


def imported(name: str, tree: ast.AST) -> Iterator[str]:
    """Yield the modules of the package that a file imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "lrsearch":
            path = "/".join((node.module or "").split(".")[1:])
            for alias in node.names:
                inner = f"{path}/{alias.name}.py".lstrip("/")
                yield inner if inner in FILES else f"{path}.py"
        if isinstance(node, ast.Import):
            yield from ("/".join(a.name.split(".")[1:]) + ".py" for a in node.names if a.name.startswith("lrsearch."))


def test_no_file_imports_itself_by_way_of_others_not_even_late() -> None:
    edges = {name: {one for one in imported(name, tree) if one in FILES} - {name} for name, tree in FILES.items()}
    # Whoever asks for the API of the package asks its outermost file, which then loads it.
    edges["__init__.py"] = set()
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"a circle: {' -> '.join((*way, name))}"
        if name not in done:
            for other in sorted(edges[name]):
                visit(other, (*way, name))
            done.add(name)

    for name in FILES:
        visit(name, ())


def test_every_package_is_installed() -> None:
    root = Path(__file__).parents[1]
    with (root / "pyproject.toml").open("rb") as file:
        named = set(tomllib.load(file)["tool"]["setuptools"]["packages"])
    there = {".".join(one.parent.relative_to(root).parts) for one in (root / "lrsearch").rglob("__init__.py")}
    assert there - named == set()
