"""Where checkpoints and weights lie: what is put is got back, and what cannot be kept is said before it is trained."""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import mounts
import pytest
from conftest import FakeEngine, claims_of, finished, learning, make_spec, sentence, started, working

from lrsearch.errors import EXIT_STORAGE, EXIT_USAGE, StorageError, UsageError
from lrsearch.store import filing
from lrsearch.store import study as studies
from lrsearch.store.artifacts import PREFIX, Artifacts, default_for
from lrsearch.store.places import SqliteFile, parse_place
from lrsearch.store.storage import Database
from lrsearch.trial import State


def holds(store: Artifacts) -> None:
    """Check that a store keeps what it is given, under names of its own, until it is removed."""
    contents = [b"", b"one", bytes(range(256)) * 5000]
    names = [store.put(content, "study-id", "checkpoint") for content in contents]
    assert len(set(names)) == 3
    assert all(n.startswith(f"{PREFIX}study-id-") and n.endswith(".checkpoint") for n in names)
    assert [store.get(name) for name in names] == contents
    store.remove(names[1])
    store.remove(names[1])
    assert [store.get(name) for name in names] == [contents[0], None, contents[2]]


def refused(action: Callable[[], object], *words: str) -> str:
    with pytest.raises(StorageError) as error:
        action()
    said = sentence(error)
    assert error.value.exit_code == EXIT_STORAGE
    assert [word for word in words if word not in said] == [], said
    return said


# --- a folder --------------------------------------------------------------------------------------------------------


def test_a_folder_is_made_and_keeps_what_it_is_given(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    store = Artifacts(str(folder))
    assert list(folder.iterdir()) == [], "the probe is gone"
    holds(store)


def test_two_stores_of_one_folder_share_it(tmp_path: Path) -> None:
    name = Artifacts(str(tmp_path)).put(b"x", "s", "checkpoint")
    assert Artifacts(str(tmp_path)).get(name) == b"x"


def test_what_cannot_be_read_is_an_error_and_what_is_not_there_is_none(tmp_path: Path) -> None:
    store = Artifacts(str(tmp_path))
    assert store.get(f"{PREFIX}nothing") is None
    (tmp_path / f"{PREFIX}folder").mkdir()
    refused(lambda: store.get(f"{PREFIX}folder"), str(tmp_path), "cannot be read: Is a directory", "--artifacts")


def test_a_name_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    store = Artifacts(str(tmp_path / "store"))
    refused(lambda: store.get("../secret"), "cannot be read")


def test_a_path_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    where = str(tmp_path / "file" / "artifacts")
    refused(lambda: Artifacts(where), where, "a folder that can be written", "Not a directory", "--artifacts")
    refused(lambda: Artifacts(str(tmp_path / "file")), "File exists")


def test_the_default_lies_beside_the_database_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_for(SqliteFile(tmp_path / "x.db")) == str(tmp_path / "x.artifacts")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert Path(default_for(parse_place("postgresql://u@h/d"))).is_relative_to(tmp_path)


def answers(folder: str, read_only: bool, said: str) -> None:
    """In a child: use a folder on a file system that is read-only, or too small for a checkpoint."""
    mounts.alone()
    mounts.tmpfs(Path(folder), 1 << 16)
    if read_only:
        mounts.make_read_only(Path(folder))
    try:
        Artifacts(folder).put(bytes(1 << 20), "s", "checkpoint")
    except StorageError as error:
        Path(said).write_text(f"{len(list(Path(folder).iterdir()))} {error}")


def work_on_a_full_disk(path: str, folder: str, said: str) -> None:
    """In a child: file a study and work on it, its weights going where there is no room for them."""
    mounts.alone()
    mounts.tmpfs(Path(folder), 1 << 16)
    with closing(Database(SqliteFile(Path(path)))) as database:
        study = filing.create(database, make_spec(budget={"trials": 2}), folder)
        filled = Path(folder) / "filled"
        try:
            for _ in working(claims_of(study), FakeEngine(learning)):
                if not filled.exists():
                    with filled.open("wb", buffering=0) as file:
                        while file.tell() < 1 << 16:
                            file.write(bytes(4096))
        except StorageError as error:
            Path(said).write_text(str(error))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    if reason := mounts.available():
        pytest.skip(reason)
    made = tmp_path / "mounted"
    made.mkdir()
    return made


@pytest.mark.parametrize(
    ("read_only", "words"),
    [(True, "a folder that can be written, and it cannot: Read-only file system"), (False, "No space left on device")],
)
def test_a_read_only_folder_and_a_full_disk_are_said(tmp_path: Path, folder: Path, read_only: bool, words: str) -> None:
    assert finished(started(answers, str(folder), read_only, str(tmp_path / "said"))) == 0
    said = (tmp_path / "said").read_text()
    assert said.startswith("0 "), "half a file is no file"
    assert words in said
    assert str(folder) in said
    assert "--artifacts" in said


def test_a_worker_without_room_for_the_weights_says_so_and_loses_nothing(tmp_path: Path, folder: Path) -> None:
    place = SqliteFile(tmp_path / "x.db")
    assert finished(started(work_on_a_full_disk, str(place.path), str(folder), str(tmp_path / "said"))) == 0
    said = (tmp_path / "said").read_text()
    assert f"the artifact store {folder} cannot be written: " in said
    assert "No space left on device" in said
    with closing(Database(place)) as database:
        study = studies.get(database, None)
        (trial,) = study.trials()
        assert (trial.state, trial.interrupted, len(trial.metrics)) == (State.RUNNING, True, 4)
        for _ in working(claims_of(study), FakeEngine(learning)):
            pass
        assert [t.state.counts for t in study.trials()] == [True, True]


# --- a bucket --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "where",
    [
        "s3://",
        "s3:///path",
        "s3://bucket/path",
        "gs://",
        "ftp://host/x",
        "https://host/x",
        "postgresql://u:hunter2@h/d",
    ],
)
def test_a_url_that_is_no_bucket_is_refused(where: str) -> None:
    with pytest.raises(UsageError, match="--artifacts must be a folder, s3://BUCKET or gs://BUCKET") as error:
        Artifacts(where)
    assert error.value.exit_code == EXIT_USAGE
    assert "hunter2" not in sentence(error)


def test_a_key_in_the_url_of_a_bucket_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError, match="without a user or a key") as error:
        Artifacts("s3://AKIA:hunter2@bucket")
    assert "hunter2" not in sentence(error)


@pytest.mark.parametrize(
    ("url", "module", "extra"), [("s3://bucket", "boto3", "s3"), ("gs://bucket", "google.cloud.storage", "gcs")]
)
def test_a_bucket_without_its_package_names_what_to_install(url: str, module: str, extra: str) -> None:
    if _installed(module):
        pytest.skip(f"{module} is installed")
    refused(lambda: Artifacts(url), url, f"pip install 'lrsearch[{extra}]'")


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a server that speaks S3."""
    pytest.importorskip("boto3", reason="needs S3: pip install 'moto[s3,server]'")
    moto = pytest.importorskip("moto.server", reason="needs S3: pip install 'moto[s3,server]'")
    server = moto.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for key, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "hunter2",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(key, value)
    yield f"http://{host}:{port}"
    server.stop()


def test_a_bucket_keeps_what_it_is_given(s3: str) -> None:
    import boto3

    boto3.client("s3").create_bucket(Bucket="mine")
    holds(Artifacts("s3://mine"))
    assert len(boto3.client("s3").list_objects_v2(Bucket="mine")["Contents"]) == 2, "the probe is gone"


def test_a_bucket_that_is_not_there_is_said_at_once(s3: str) -> None:
    assert "hunter2" not in refused(lambda: Artifacts("s3://nobodys"), "s3://nobodys", "NoSuchBucket", "--artifacts")
