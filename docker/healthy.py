"""Whether a container of lrsearch is well; exit code 0 or 1, and a sentence for ``docker inspect``.

A dashboard is asked at its /healthz. A worker and every other command is well when its database lets it in: a worker
that hangs ends by itself, and one without a database tries again for ten minutes. Where they are is taken from the
command that the container runs, and from its environment, as lrsearch itself takes it.
"""

import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

SECONDS = 10
COMMANDS = ("dashboard", "worker", "run")
"""Those that go on for so long that somebody asks."""
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - addresses that are listened at, not asked


def setting(words: list[str], option: str, variable: str, default: str) -> str:
    """Return what the container's command was given: by an option, by a variable, or neither."""
    for word, after in zip(words, [*words[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if name == option:
            return value if equals else after
    return os.environ.get(variable) or default


def dashboard(words: list[str]) -> str:
    """Ask the dashboard; return what it said.

    Raises:
        OSError: it does not answer, or says no.
    """
    host = setting(words, "--host", "LRSEARCH_DASHBOARD_HOST", "127.0.0.1")
    near = "127.0.0.1" if host in EVERYWHERE else f"[{host}]" if ":" in host else host
    url = f"http://{near}:{setting(words, '--port', 'LRSEARCH_DASHBOARD_PORT', '8080')}/healthz"
    # Not through a proxy that the container may be told to use.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=SECONDS) as answer:
        return f"{url} answers {answer.status}"


def database(words: list[str]) -> str:
    """Log in to the database; return which one it is.

    Raises:
        LrsearchError: it is not named rightly.
        OSError: it is not there.
    """
    import psycopg

    from lrsearch.store.places import PostgresServer, parse_place

    place = parse_place(setting(words, "--storage", "LRSEARCH_STORAGE", "./lrsearch.db"))
    if isinstance(place, PostgresServer):
        # libpq does not know the parameter that is psycopg's own.
        url = place.url.set(drivername="postgresql").difference_update_query(["prepare_threshold"])
        try:
            psycopg.connect(url.render_as_string(hide_password=False), connect_timeout=SECONDS).close()
        except psycopg.Error as error:
            raise OSError(f"{place} does not let a worker in: {type(error).__name__}") from None
    elif not place.path.exists():
        raise OSError(f"{place} is not there")
    return f"{place} answers"


def main() -> int:
    """Look, say what was seen, return the exit code."""
    # With an init before it the first process has the whole command line too.
    words = Path("/proc/1/cmdline").read_bytes().decode(errors="replace").split("\0")
    # A study may be named as a command is.
    command = next((word for word in words if word in COMMANDS), None)
    try:
        print(dashboard(words) if command == "dashboard" else database(words))
    except Exception as error:  # whatever is wrong: not well, in one sentence
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
