"""Where studies lie: what `--storage` may say, what is refused, and that no password is ever repeated."""

import re
from pathlib import Path

import mounts
import pytest
import sqlalchemy as sa
from conftest import finished, sentence, started
from hypothesis import given
from hypothesis import strategies as st

from lrsearch.errors import EXIT_STORAGE, EXIT_USAGE, StorageError, UsageError
from lrsearch.store import places
from lrsearch.store.opening import check_new
from lrsearch.store.places import PostgresServer, SqliteFile, network_file_system, parse_place

SECRET = "hunter2"


def server(text: str, *, typed: bool = False) -> PostgresServer:
    place = parse_place(text, typed=typed)
    assert isinstance(place, PostgresServer)
    return place


def refused(text: str, *, typed: bool = False) -> str:
    """Check that it is refused in one sentence that names the option and holds no password; return it."""
    with pytest.raises(UsageError) as error:
        parse_place(text, typed=typed)
    said = sentence(error)
    assert error.value.exit_code == EXIT_USAGE
    assert "--storage" in said or "password" in said
    assert SECRET not in said
    return said


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("lrsearch.db", "lrsearch.db"),
        ("./x/y.db", "x/y.db"),
        ("/tmp/x.db", "/tmp/x.db"),
        ("postgres.db", "postgres.db"),
        ("sqlite:///x.db", "x.db"),
        ("sqlite:////tmp/x.db", "/tmp/x.db"),
    ],
)
def test_a_place_is_a_path_or_a_sqlite_url(text: str, path: str) -> None:
    assert parse_place(text) == SqliteFile(Path(path))


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
def test_a_place_that_is_not_kept_is_refused(url: str) -> None:
    assert "name a file" in refused(url)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_every_name_of_postgresql_means_psycopg_3(scheme: str) -> None:
    place = server(f"{scheme}://me:a%40%3A%2Fb@host:5433/db?sslmode=require")
    assert place.url.drivername == "postgresql+psycopg"
    assert (place.url.password, place.url.port, place.url.query["sslmode"]) == ("a@:/b", 5433, "require")
    assert str(place) == "postgresql://me:***@host:5433/db"
    assert "a@" not in repr(place)
    assert "a%40" not in repr(place)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"mysql+pymysql://me:{SECRET}@host:3306/db", "got a URL of 'mysql'"),
        (f"redis://:{SECRET}@host", "got a URL of 'redis'"),
        (f"sqlite://me:{SECRET}@host/x.db", "name a file"),
        (f"postgresql+psycopg2://me:{SECRET}@host/db", "with the driver 'psycopg2'"),
        (f"postgresql://me:{SECRET}@host", "name a database"),
        (f"postgresql://me:{SECRET}@host/db?prepare_threshold=often", "a whole number or none, got 'often'"),
        (f"postgresql://me:{SECRET}@host:54x2/db", "percent-encoded"),
        (f"postgresql://me:a@{SECRET}@host/db", "percent-encoded"),
        (f"postgresql://me:{SECRET}/db", "percent-encoded"),
        (f"postgresql://me:s@e/{SECRET}@host/db", "percent-encoded"),
        (f"host=127.0.0.1 user=me password={SECRET} dbname=db", "cannot be read as one"),
        (f"dbname=db password={SECRET}", "cannot be read as one"),
        (f"me:{SECRET}@host:5432", "cannot be read as one"),
        (f"me:{SECRET}@host:5432/db", "cannot be read as one"),
        (f"postgresql://me:{SECRET}%00x@host/db", "percent-encoded"),
        (f"postgresql:/me:{SECRET}@host/db", "cannot be read as one"),
        (f"postgres:me:{SECRET}@host/db", "cannot be read as one"),
        (f"postgresql://me@host/db?password={SECRET}", "before the @"),
        (f"postgresql://me@host/db?PASSWORD={SECRET}", "before the @"),
    ],
)
def test_what_is_no_database_for_studies_is_refused_without_its_password(url: str, words: str) -> None:
    assert words in refused(url)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{SECRET}@host/db",
        f"postgres://me:{SECRET}@host/db",
        f"postgresql://me@host/db?password={SECRET}",
        f"postgresql://me@host/db?sslpassword={SECRET}",
    ],
)
def test_a_password_that_was_typed_is_refused_with_what_to_do(url: str) -> None:
    said = refused(url, typed=True)
    for words in ("LRSEARCH_STORAGE", "@FILE", "~/.pgpass"):
        assert words in said


def test_a_url_without_a_password_may_be_typed() -> None:
    assert str(server("postgresql://me@host/db", typed=True)) == "postgresql://me@host/db"


@given(password=st.text(st.characters(exclude_categories=["Cs"]), min_size=4, max_size=12))
def test_no_password_is_ever_shown(password: str) -> None:
    place = PostgresServer(sa.URL.create("postgresql", "u", password, "h", 1, "d"))
    for shown in (str(place), repr(place), f"{place!s} {place!r}"):
        assert password not in shown.replace("postgresql://u:***@h:1/d", "").replace("PostgresServer()", "")


def test_a_file_may_hold_the_url(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text(f"postgresql://me:{SECRET}@host/db\n")
    assert server(f"@{file}", typed=True).url.password == SECRET


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "must hold one line"), (b"a\nb\n", "must hold one line"), (b"@x", "must hold one line"), (b"\xff", "text")],
)
def test_a_file_that_holds_no_url_is_refused_by_its_name(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "url"
    file.write_bytes(content)
    with pytest.raises((UsageError, StorageError), match=re.escape(str(file))) as error:
        parse_place(f"@{file}")
    assert words in sentence(error)


def test_a_file_with_the_url_that_is_not_there_is_refused_as_storage(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file") as error:
        parse_place(f"@{tmp_path / 'url'}")
    assert error.value.exit_code == EXIT_STORAGE
    sentence(error)


# --- on a network ----------------------------------------------------------------------------------------------------

TABLE = [("/", "ext4"), ("/home", "nfs4"), ("/home/local", "xfs"), ("/mnt/c", "9p"), ("/x", "nfs"), ("/x", "ext4")]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/tmp/x.db", None),
        ("/home/me/x.db", "nfs4"),
        ("/home/x.db", "nfs4"),
        ("/homely/x.db", None),
        ("/home/local/me/x.db", None),
        ("/mnt/c/x.db", "9p"),
        ("/x/x.db", None),
    ],
)
def test_a_network_file_system_is_known_by_the_mount_that_shows(path: str, kind: str | None) -> None:
    assert network_file_system(Path(path), TABLE) == kind


def look_at_a_mount(folder: str, said: str) -> None:
    """In a child: mount something that counts as a network file system, and want studies there."""
    mounts.alone()
    mounts.tmpfs(Path(folder), 1 << 20)
    places.NETWORK_FILE_SYSTEMS = frozenset({"tmpfs"})
    try:
        check_new(SqliteFile(Path(folder) / "x.db"))
    except StorageError as error:
        Path(said).write_text(str(error))


@pytest.mark.slow
def test_studies_on_a_network_file_system_are_refused_in_favour_of_postgresql(tmp_path: Path) -> None:
    if reason := mounts.available():
        pytest.skip(reason)
    folder, said = tmp_path / "mounted", tmp_path / "said"
    folder.mkdir()
    assert finished(started(look_at_a_mount, str(folder), str(said))) == 0
    text = said.read_text()
    assert text.startswith(f"{folder / 'x.db'} lies on a network file system (tmpfs)")
    assert "postgresql://" in text
    assert list(folder.iterdir()) == []
