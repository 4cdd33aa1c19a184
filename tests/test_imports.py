"""What a command loads: nobody waits for PyTorch to read a table. And the shape of the house."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import TORCH_METHODS, Finished, Running, clean_environment, run_python

pytest_plugins = ["command_line"]

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lrsearch"

HEAVY = ("torch", "torchvision", "optuna", "sqlalchemy", "sklearn", "pandas", "plotly", "optuna_dashboard")

DRIVER = """
    import contextlib, io, json, sys
    from lrsearch.cli.app import run
    seen = {{}}
    for argv in {commands!r}:
        with contextlib.redirect_stdout(io.StringIO()):
            code = run(argv)
        seen[" ".join(argv)] = [code, [name for name in {heavy!r} if name in sys.modules]]
    print(json.dumps(seen))
"""


def loaded(commands: list[list[str]], folder: Path, heavy: tuple[str, ...] = HEAVY) -> dict[str, tuple[int, list[str]]]:
    """Run commands one after the other in one fresh interpreter; return their exit codes and what is loaded by then."""
    result = run_python(DRIVER.format(commands=commands, heavy=heavy), folder)
    assert result.code == 0, result.err
    return {argv: (code, names) for argv, (code, names) in json.loads(result.out.splitlines()[-1]).items()}


def test_help_loads_neither_pytorch_nor_optuna_nor_sqlalchemy_nor_numpy(tmp_path: Path) -> None:
    names = ("run", "worker", "init", "trials", "best", "show", "status", "extend", "stop", "enqueue", "doctor")
    names += ("list", "delete", "report", "dashboard", "predict", "train", "export", "show-schedule")
    commands = [["--help"], ["--version"], *([name, "--help"] for name in names), ["init"]]
    for argv, (code, names_seen) in loaded(commands, tmp_path, (*HEAVY, "numpy")).items():
        assert (code, names_seen) == (0, []), argv


@pytest.mark.slow
def test_looking_at_a_study_loads_neither_pytorch_nor_torchvision(tmp_path: Path, finished: Finished) -> None:
    shutil.copy(finished.database, tmp_path / "lrsearch.db")
    commands = [["list"], ["status"], ["trials"], ["trials", "-f", "csv"], ["show", "0"], ["best"], ["best", "--json"]]
    commands += [["run", "--epochs", "3", "--dry-run"], ["run", "--epochs", "3", "--trials", "6", "--detach"]]
    commands += [["report"], ["report", "-f", "json"]]
    commands += [["export", "--to", "torch"], ["show-schedule", "--trial", "best"]]
    commands += [
        ["status", "--watch"],
        ["extend", "--trials", "+1"],
        ["enqueue", "sgd lr=0.1 cosine"],
        ["stop"],
        ["delete", "digits", "--yes"],
    ]
    for argv, (code, names) in loaded(commands, tmp_path).items():
        assert code == 0, argv
        assert set(names) <= {"optuna", "sqlalchemy"}, argv


def test_a_run_on_digits_loads_neither_torchvision_nor_scikit_learn(finished: Finished) -> None:
    assert {name for name in HEAVY if name in finished.modules} == {"torch", "optuna", "sqlalchemy"}


def test_help_is_quick(tmp_path: Path) -> None:
    begun = time.perf_counter()
    process = Running(["--help"], tmp_path, cold=True)
    assert process.result().code == 0
    # Said, not asserted: the machine may be busy.
    print(f"lrsearch --help: {time.perf_counter() - begun:.2f} s")


def test_the_contracts_between_the_rooms_are_kept(tmp_path: Path) -> None:
    pytest.importorskip("importlinter", reason="import-linter comes with the extra 'dev'")
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--cache-dir", str(tmp_path)],
        cwd=ROOT,
        env=clean_environment(tmp_path),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


def test_nothing_is_called_utils_helpers_manager_or_base() -> None:
    assert len(modules()) > 20
    for path in modules():
        words = {word for part in path.relative_to(PACKAGE).with_suffix("").parts for word in part.split("_")}
        forbidden = {"util", "utils", "helper", "helpers", "manager", "managers", "base", "common", "misc"}
        assert not words & forbidden, path


def test_only_the_outermost_init_says_anything() -> None:
    inits = [path for path in modules() if path.name == "__init__.py"]
    assert PACKAGE / "__init__.py" in inits
    for path in inits:
        assert path == PACKAGE / "__init__.py" or path.read_bytes() == b"", path


@pytest.mark.slow
@pytest.mark.parametrize("alone", [True, False])
def test_pytorch_is_imported_without_looking_for_garbage(tmp_path: Path, alone: bool) -> None:
    code = f"""
        import gc
        from lrsearch import loading
        if {alone}:
            loading.alone()
        looks = []
        gc.callbacks.append(lambda phase, info: looks.append(phase))
        with loading.uncollected():
            loading.load_pytorch()
            print(len(looks), gc.isenabled())
        print(gc.isenabled(), gc.get_freeze_count() > 100_000)
        gc.disable()
        loading.load_pytorch()
        print(gc.isenabled())
    """
    result = run_python(code, tmp_path)
    # What others made in their process may become garbage: there nothing is set apart for ever.
    assert result.out.split() == ["0", "False", "True", str(alone), "False"], result.err


@pytest.mark.slow
def test_importing_a_module_changes_nothing_in_the_process(tmp_path: Path) -> None:
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in modules() if path.stem[0] != "_"]
    code = f"""
        import importlib, json, logging, os, random, signal
        import numpy, torch, optuna, sqlalchemy, pydantic, typer, tomlkit, psutil, platformdirs
        import rich.live, rich.table  # which draw a random number of their own
        def state():
            return [dict(os.environ), os.getcwd(), random.getstate()[1][:3], numpy.random.get_state()[1][:3].tolist(),
                    torch.initial_seed(), torch.get_num_threads(), str(torch.get_default_dtype()),
                    str(signal.getsignal(signal.SIGINT)), logging.getLogger().level, logging.getLogger().handlers,
                    optuna.logging.get_verbosity()]
        before = state()
        for name in {names!r}:
            importlib.import_module(name)
            assert state() == before, name
    """
    result = run_python(code, tmp_path)
    assert (result.code, result.err) == (0, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_training_neither_imports_pytorchs_compiler_nor_changes_its_optimizers(tmp_path: Path) -> None:
    code = (
        TORCH_METHODS
        + """
    before = methods()
    from lrsearch.cli.app import run
    code = run(["run", "--trials", "3", "--epochs", "3", "--quiet", "--set", "space.schedule=[\\"plateau\\"]"])
    print(code, len(before) > 3, methods() == before, "torch._dynamo" in sys.modules)
    """
    )
    result = run_python(code, tmp_path)
    assert result.out.splitlines()[-1] == "0 True True False", result.err
