"""Where studies lie: a SQLite file on this machine, or a PostgreSQL server that many machines share."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import sqlalchemy as sa
from sqlalchemy import exc

from lrsearch.errors import StorageError, UsageError

POSTGRES_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")
NO_FILE = re.compile(r"(^|\s)(host|hostaddr|port|dbname|user|password|passfile|service)\s*=|^[^/\s]*:[^/]*@")
"""What is no file name but a connection in libpq's words (host=... dbname=...), or a URL without its scheme."""
SECRET_PARAMETERS = frozenset({"password", "sslpassword"})
NETWORK_FILE_SYSTEMS = frozenset(
    {
        *("nfs", "nfs3", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "9p", "afs", "afpfs", "webdav", "ceph"),
        *("lustre", "gpfs", "beegfs", "wekafs", "glusterfs", "fuse.glusterfs", "fuse.sshfs", "fuse.s3fs"),
        *("fuse.gcsfuse", "fuse.rclone", "fuse.ceph", "fuse.ceph-fuse", "fuse.juicefs", "fuse.blobfuse2"),
    }
)
"""Where SQLite's locks and its shared memory do not hold between machines. Source: sqlite.org/useovernet.html."""


@dataclass(frozen=True, slots=True)
class SqliteFile:
    """A SQLite database: one machine, nothing to set up."""

    path: Path

    @property
    def url(self) -> sa.URL:
        """SQLAlchemy's URL of it."""
        return sa.URL.create("sqlite", database=str(self.path))

    def __str__(self) -> str:
        """Return the path as it was given."""
        return str(self.path)


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A database on a PostgreSQL server: many machines."""

    url: sa.URL = field(repr=False)
    """With the password; never shown."""

    def __str__(self) -> str:
        """Return the URL as a person may see it: the password masked, the parameters left out."""
        return self.url.set(drivername="postgresql", query={}).render_as_string(hide_password=True)


Place = SqliteFile | PostgresServer


def parse_place(text: str, *, typed: bool = False) -> Place:
    """Return the place of ``--storage``: a path, a URL (sqlite, postgresql), or ``@FILE`` that holds one.

    Args:
        text: what was given. It is not repeated in an error where it may hold a password.
        typed: whether it stood on the command line, where every user of the machine can read it.

    Raises:
        UsageError: another database, no database at all, or a password that was typed.
        StorageError: the file after ``@`` cannot be read.
    """
    if text.startswith("@"):
        return parse_place(_read(Path(text[1:])))
    scheme, separator, rest = text.partition("://")
    if text == ":memory:":
        raise UsageError(_NOT_KEPT)
    if not separator:
        if text.startswith(tuple(f"{known}:" for known in POSTGRES_SCHEMES)):
            raise _unreadable()
        if NO_FILE.search(text):
            # Taken for a file it would be shown as its name, with the password.
            raise _unreadable()
        return SqliteFile(Path(text))
    if scheme == "sqlite":
        path = rest.removeprefix("/")
        if not rest.startswith("/") or not path or path == ":memory:":
            raise UsageError(_NOT_KEPT)
        return SqliteFile(Path(path))
    if scheme not in POSTGRES_SCHEMES:
        kind = scheme.partition("+")[0]
        driver = f" with the driver '{scheme.partition('+')[2]}'" if kind in ("postgresql", "postgres") else ""
        raise UsageError(
            f"--storage must be a file, a sqlite:/// URL or a postgresql:// URL (psycopg 3), "
            f"got a URL of '{kind}'{driver}"
        )
    return PostgresServer(_postgres_url(text, typed=typed))


_NOT_KEPT = "--storage must name a file, as in sqlite:///lrsearch.db: what is not kept cannot be resumed"


def _postgres_url(text: str, *, typed: bool) -> sa.URL:
    try:
        url = sa.make_url(text)
    except (exc.ArgumentError, ValueError):
        # SQLAlchemy repeats what it could not read.
        raise _unreadable() from None
    if "@" in (url.host or "") or "@" in (url.database or "") or "%00" in text:
        # The password went on after its first @, and what looks like the host or the database is a part of it; or
        # libpq, which reads no further than a zero, would look for another server.
        raise _unreadable()
    secret = any(key.lower() in SECRET_PARAMETERS for key in url.query)
    if typed and (url.password or secret):
        raise UsageError(
            "--storage must not hold a password, which every user of this machine could read: put the URL into the "
            "environment variable LRSEARCH_STORAGE or into a file and give --storage @FILE, or use ~/.pgpass"
        )
    if secret:
        raise UsageError("a password belongs before the @ of the storage URL, not into its parameters")
    if not url.database:
        raise UsageError("--storage must name a database, as in postgresql://user@host:5432/database")
    threshold = url.query.get("prepare_threshold", "none")
    if not (isinstance(threshold, str) and (threshold.isdecimal() or threshold.lower() == "none")):
        raise UsageError(
            f"the parameter prepare_threshold of --storage must be a whole number or none, got '{threshold}'"
        )
    return url.set(drivername="postgresql+psycopg")


def _unreadable() -> UsageError:
    return UsageError(
        "--storage must be a URL such as postgresql://user@host:5432/database, and what came cannot be read as one; "
        "a password with a special character must be percent-encoded"
    )


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise StorageError(f"--storage @{path}: the file with the storage URL cannot be read: {why}") from None
    if not text or "\n" in text or text.startswith("@"):
        raise UsageError(f"--storage @{path}: the file must hold one line, the storage URL")
    return text


def check_local(place: SqliteFile) -> None:
    """Make sure that a SQLite file lies on this machine.

    Raises:
        StorageError: it lies on a network file system, where SQLite's locks do not hold.
    """
    kind = network_file_system(place.path)
    if kind is not None:
        raise StorageError(
            f"{place} lies on a network file system ({kind}), where SQLite loses data when two machines write: "
            f"put it on a local disk, or use PostgreSQL (--storage postgresql://user@host/database)"
        )


def network_file_system(path: Path, mounts: list[tuple[str, str]] | None = None) -> str | None:
    """Return the kind of network file system that a path lies on, or None.

    Args:
        path: need not exist.
        mounts: (mount point, file system) pairs; None asks this machine.
    """
    if mounts is None:
        mounts = [(p.mountpoint, p.fstype) for p in psutil.disk_partitions(all=True)]
    folder = path.resolve().parent
    # Of several mounts over each other the last one shows.
    over = [(len(point), i, kind) for i, (point, kind) in enumerate(mounts) if folder.is_relative_to(point)]
    kind = max(over, default=(0, 0, ""))[2]
    return kind if kind.lower() in NETWORK_FILE_SYSTEMS else None
