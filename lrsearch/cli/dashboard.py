"""`lrsearch dashboard`: optuna-dashboard over our storage, with our pages beside it."""

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lrsearch.cli import interrupts
from lrsearch.cli.options import (
    DEFAULT_STORAGE,
    ArtifactsOption,
    JsonOption,
    StorageOption,
    place,
    print_json,
    quiet_optuna,
)
from lrsearch.errors import EXIT_INTERRUPTED, EXIT_TERMINATED, UsageError
from lrsearch.trial import Reason

if TYPE_CHECKING:
    from lrsearch.dashboard.password import Password

SCHEMA = "lrsearch/dashboard/1"


def dashboard(
    storage: StorageOption = DEFAULT_STORAGE,
    artifacts: ArtifactsOption = None,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            envvar="LRSEARCH_DASHBOARD_HOST",
            help="Address to listen at; any but this machine's own asks for a password.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            "--port", envvar="LRSEARCH_DASHBOARD_PORT", min=0, max=65535, help="Port; 0 takes any that is free."
        ),
    ] = 8080,
    password_file: Annotated[
        Path | None,
        typer.Option(
            "--password-file",
            metavar="FILE",
            help="File that holds the password; the environment variable LRSEARCH_DASHBOARD_PASSWORD if not given.",
        ),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allowed-host",
            metavar="NAME",
            help="Another name by which it may be called, of a proxy before it; may be given several times.",
        ),
    ] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Let nobody change anything: only GET and HEAD are answered.")
    ] = False,
    open_browser: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Show the studies of a database in a browser, until Ctrl-C."""
    quiet_optuna()
    where = place(storage)
    from lrsearch.dashboard import password as passwords

    password = passwords.configured(password_file)
    from lrsearch.dashboard import serve

    addresses = serve.addresses_of(host)
    _check_exposure(host, addresses, password)
    from lrsearch.dashboard.app import build
    from lrsearch.dashboard.guard import LOOPBACK_NAMES, Access
    from lrsearch.dashboard.store import Files
    from lrsearch.store.artifacts import default_for
    from lrsearch.store.keeper import Leave
    from lrsearch.store.storage import open_early

    names = {name.lower() for name in (host, *addresses, *(allowed_host or ()))}
    access = Access(password, LOOPBACK_NAMES | names, read_only)
    leave = Leave()
    with closing(open_early(where, connections=serve.THREADS, to_read=read_only)) as database, interrupts.asked(leave):
        app = build(database, Files(artifacts or default_for(where)), access)
        server = serve.bound(app, addresses[0], port, read_only=read_only)
        url = serve.url_of(addresses[0], server.effective_port)
        if as_json:
            asks = {"password": password is not None, "read_only": read_only}
            print_json({"schema": SCHEMA, "url": url, "studies_url": f"{url}/lr", "storage": str(where), **asks})
        else:
            print(url)
        sys.stdout.flush()
        how = "; it is read-only" if read_only else ""
        print(f"{where} is shown there, the reports of its studies at {url}/lr{how}; Ctrl-C ends it", file=sys.stderr)
        if open_browser:
            import webbrowser

            webbrowser.open(url)
        serve.serve(server, leave)
    return EXIT_INTERRUPTED if leave.reason == Reason.INTERRUPTED else EXIT_TERMINATED


def _check_exposure(host: str, addresses: list[str], password: "Password | None") -> None:
    """Make sure that nobody on a network gets in without a password.

    Raises:
        UsageError: they would.
    """
    from lrsearch.dashboard.password import MAKE_ONE, SHORTEST, VARIABLE
    from lrsearch.dashboard.serve import is_local

    if is_local(addresses[0]):
        return
    if password is None:
        raise UsageError(
            f"--host {host} can be reached by other machines, so it asks for a password of at least {SHORTEST} "
            f"characters: put it into the environment variable {VARIABLE}, or into a file and give --password-file "
            f"FILE; {MAKE_ONE}"
        )
    print(
        "the password travels as it is: put a proxy with TLS before the dashboard, or use an SSH tunnel to 127.0.0.1",
        file=sys.stderr,
    )
