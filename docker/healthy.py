"""Whether a container of lrsearch is well; exit code 0 or 1, and a sentence for ``docker inspect``.

A dashboard is asked at its /healthz. A worker and every other command is well when its database lets it in: a worker
that hangs ends by itself, and one without a database tries again for ten minutes.
"""

import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

SECONDS = 10
EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 - addresses that are listened at, not asked


def dashboard() -> str:
    """Ask the dashboard; return what it said.

    Raises:
        OSError: it does not answer, or says no.
    """
    host = os.environ.get("LRSEARCH_DASHBOARD_HOST", "")
    near = "127.0.0.1" if host in EVERYWHERE else host
    url = f"http://{near}:{os.environ.get('LRSEARCH_DASHBOARD_PORT', '8080')}/healthz"
    # Not through a proxy that the container may be told to use.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=SECONDS) as answer:
        return f"{url} answers {answer.status}"


def database() -> str:
    """Log in to the database; return which one it is.

    Raises:
        LrsearchError: it is not named rightly.
        OSError: it is not there.
    """
    import psycopg

    from lrsearch.search.places import PostgresServer, parse_place

    place = parse_place(os.environ.get("LRSEARCH_STORAGE", "./lrsearch.db"))
    if isinstance(place, PostgresServer):
        url = place.url.set(drivername="postgresql").render_as_string(hide_password=False)
        try:
            psycopg.connect(url, connect_timeout=SECONDS).close()
        except psycopg.Error as error:
            raise OSError(f"{place} does not let a worker in: {type(error).__name__}") from None
    elif not place.path.exists():
        raise OSError(f"{place} is not there")
    return f"{place} answers"


def main() -> int:
    """Look, say what was seen, return the exit code."""
    # With an init before it the first process has the whole command line too.
    words = Path("/proc/1/cmdline").read_bytes().split(b"\0")
    try:
        print(dashboard() if b"dashboard" in words else database())
    except Exception as error:  # whatever is wrong: not well, in one sentence
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
