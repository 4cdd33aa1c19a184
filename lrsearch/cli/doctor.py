"""`lrsearch doctor`: what may be wrong with the database, the artifacts and this machine, and what to do."""

import platform
from collections.abc import Iterator
from dataclasses import asdict
from importlib import metadata
from typing import TYPE_CHECKING, Annotated

import typer

from lrsearch.cli.options import (
    DEFAULT_STORAGE,
    ArtifactsOption,
    DeviceOption,
    JsonOption,
    StorageOption,
    place,
    print_json,
    quiet_optuna,
    stdout,
)
from lrsearch.errors import EXIT_DEVICE, EXIT_OK, EXIT_STORAGE, DeviceError
from lrsearch.version import __version__

if TYPE_CHECKING:
    from lrsearch.store.check import Check

SCHEMA = "lrsearch/doctor/1"
PACKAGES = ("torch", "optuna", "sqlalchemy", "psycopg", "numpy")


def doctor(
    storage: StorageOption = DEFAULT_STORAGE,
    artifacts: ArtifactsOption = None,
    device: DeviceOption = "auto",
    fix: Annotated[
        bool, typer.Option("--fix", help="Mend what is safe to mend; what a living worker holds is never touched.")
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """Look for what is wrong: database, leases, orphans, artifacts, disks, clock, device, versions."""
    quiet_optuna()
    where = place(storage)
    from lrsearch.store import check as checking
    from lrsearch.store import health

    checks = []
    for check in (*_machine(device), *health.examine(where, artifacts, fix=fix)):
        checks.append(check)
        if not as_json:
            _print(check)
    worst = checking.worst(checks)
    if as_json:
        print_json({"schema": SCHEMA, "storage": str(where), "worst": worst, "checks": [asdict(c) for c in checks]})
    problems = [c.subject for c in checks if c.level == checking.Level.PROBLEM and not c.fixed]
    if not problems:
        return EXIT_OK
    return EXIT_DEVICE if problems == ["device"] else EXIT_STORAGE


def _machine(device: str) -> "Iterator[Check]":
    """Look at this machine; the one check that imports PyTorch is that of the device."""
    from lrsearch.store.check import Check, Level

    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    yield Check("versions", Level.OK, f"lrsearch {__version__}, python {platform.python_version()}, {versions}")
    try:
        from lrsearch.training import device as devices

        found = devices.resolve(device)
        yield Check("device", Level.OK, devices.describe(found))
    except DeviceError as error:
        yield Check("device", Level.PROBLEM, str(error), "name another with --device (or LRSEARCH_DEVICE)")


def _print(check: "Check") -> None:
    from rich.text import Text

    mark = "mended" if check.fixed else check.level.value
    style = {"ok": "green", "mended": "cyan", "warning": "yellow", "problem": "bold red"}[mark]
    advice = f" -> {check.advice}" if check.advice and not check.fixed else ""
    stdout().print(
        Text.assemble((f"{mark:<8}", style), (f"{check.subject}: ", "bold"), check.said, advice), soft_wrap=True
    )
