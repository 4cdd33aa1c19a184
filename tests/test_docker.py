"""docker/: the compose file, the image's recipe and the secrets, read as text; with an engine, the containers at work.

The last part needs a Docker engine and the image ``lrsearch``: it runs with LRSEARCH_TEST_DOCKER=1, on the host's
network, against a PostgreSQL of the tests.
"""

import base64
import json
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest
import typer
import yaml
from command_line import Running
from ones_own import NET, make_pictures
from postgres import Account

from lrsearch.cli import app as cli
from lrsearch.dashboard import password as passwords
from lrsearch.errors import EXIT_TERMINATED
from lrsearch.pictures import cache
from lrsearch.store import study as studies
from lrsearch.store.places import PostgresServer, parse_place
from lrsearch.store.storage import Database, open_existing

pytest_plugins = ["command_line"]

ROOT = Path(__file__).resolve().parent.parent
DOCKER = ROOT / "docker"
PAGE = (ROOT / "docs" / "docker.md").read_text("utf-8")
COMPOSE_TEXT = (DOCKER / "compose.yaml").read_text("utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = sorted(set(SERVICES) - {"postgres"})
EXAMPLE = DOCKER / ".env.example"
DOCKERFILE = (DOCKER / "Dockerfile").read_text("utf-8")

ENGINE = pytest.mark.skipif(
    not os.environ.get("LRSEARCH_TEST_DOCKER"),
    reason="needs a Docker engine and the image lrsearch: LRSEARCH_TEST_DOCKER=1",
)
DEADLINE_SECONDS = 120.0


def understand(words: list[str]) -> None:
    """Parse a command of lrsearch without running it."""
    group: Any = typer.main.get_command(cli.app)
    context = group.make_context("lrsearch", list(words))
    name, command, rest = group.resolve_command(context, list(words))
    assert command is not None
    command.make_context(name, rest, parent=context)


def known_variables() -> set[str]:
    """Return the environment variables that lrsearch reads."""
    group: Any = typer.main.get_command(cli.app)
    named = {p.envvar for command in group.commands.values() for p in command.params if p.envvar}
    return named | {"LRSEARCH_DEBUG", passwords.VARIABLE, cache.VARIABLE}


def default(value: str) -> str:
    """Return a value of the compose file as it is where nothing is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile, each with the rest of its line."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


# The compose file


@pytest.mark.parametrize("settings", [[], ["--env-file", str(EXAMPLE)]], ids=["as it is", "with .env.example"])
def test_compose_takes_the_file_with_every_profile(settings: list[str], tmp_path: Path) -> None:
    if shutil.which("docker-compose"):
        tool = ["docker-compose"]
    elif (
        shutil.which("docker") and subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0
    ):
        tool = ["docker", "compose"]
    else:
        pytest.skip("no docker-compose and no docker compose here")
    profiles = [f"--profile={name}" for service in SERVICES.values() for name in service.get("profiles", [])]
    done = subprocess.run(
        [*tool, f"--file={DOCKER / 'compose.yaml'}", *settings, *profiles, "config"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name in ("PATH", "HOME")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert set(yaml.safe_load(done.stdout)["services"]) == set(SERVICES)
    assert not done.stderr


def test_no_secret_stands_in_the_compose_file() -> None:
    assert {Path(secret["file"]).parent for secret in COMPOSE["secrets"].values()} == {Path("secrets")}
    used = {name for service in SERVICES.values() for name in service.get("secrets", [])}
    assert used == set(COMPOSE["secrets"])
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|STORAGE|SECRET|TOKEN", name):
                assert value.removeprefix("@").startswith("/run/secrets/"), name
    # Nor a URL with a password anywhere else.
    assert not re.search(r"://[^\s/]*:[^\s/]*@", COMPOSE_TEXT)


def test_a_service_sees_no_secret_that_it_does_not_need() -> None:
    assert SERVICES["postgres"]["secrets"] == ["postgres_password"]
    assert set(SERVICES["dashboard"]["secrets"]) == {"storage", "dashboard_password"}
    assert all(SERVICES[name]["secrets"] == ["storage"] for name in OURS if name != "dashboard")


def test_only_the_dashboard_is_published_and_on_this_machine_only() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert list(published) == ["dashboard"]
    assert all(re.match(r"127\.0\.0\.1:", port) for port in published["dashboard"])
    assert "--password-file" in SERVICES["dashboard"]["command"]


@pytest.mark.parametrize("name", OURS)
def test_a_container_may_do_nothing_but_its_work(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"]
    assert service["init"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "network_mode", "pid", "user", "cap_add"} & set(service)


@pytest.mark.parametrize("name", OURS)
def test_a_service_sets_only_what_lrsearch_knows(name: str) -> None:
    assert set(SERVICES[name]["environment"]) <= known_variables()


@pytest.mark.parametrize("name", [name for name in OURS if "command" in SERVICES[name]])
def test_a_service_runs_a_command_that_lrsearch_understands(name: str) -> None:
    understand(SERVICES[name]["command"])


def test_whoever_needs_the_database_waits_until_it_answers() -> None:
    for name in OURS:
        assert SERVICES[name]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert SERVICES["postgres"]["healthcheck"]["test"][:2] == ["CMD", "pg_isready"]


def test_the_database_lies_in_its_volume_whichever_version_the_image_has() -> None:
    """Before 18 the image has its data in a volume of its own below, which a new container does not get again."""
    (volume,) = SERVICES["postgres"]["volumes"]
    name, _, mounted = volume.partition(":")
    assert name in COMPOSE["volumes"]
    assert Path(SERVICES["postgres"]["environment"]["PGDATA"]).parent == Path(mounted)


def test_standing_services_come_back_and_a_command_does_not() -> None:
    standing = {name: service["restart"] for name, service in SERVICES.items()}
    assert standing.pop("cli") == "no"
    assert set(standing.values()) == {"unless-stopped"}


def test_each_gpu_has_a_service_of_its_own_that_only_its_profile_starts() -> None:
    gpus = [name for name in OURS if name.startswith("gpu")]
    assert gpus
    for name in gpus:
        service = SERVICES[name]
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device == {"driver": "nvidia", "device_ids": [name.removeprefix("gpu")], "capabilities": ["gpu"]}
        assert service["profiles"] == [name]
        assert service["environment"]["LRSEARCH_DEVICE"] == "cuda"
        assert service["command"] == SERVICES["worker"]["command"]
    assert not any("devices" in str(SERVICES[name].get("deploy")) for name in set(OURS) - set(gpus))


def test_every_setting_of_the_compose_file_stands_in_the_example_and_the_other_way_round() -> None:
    used = set(re.findall(r"\$\{(\w+)", COMPOSE_TEXT))
    offered = set(re.findall(r"^(?:# )?([A-Z_]+)=", EXAMPLE.read_text("utf-8"), re.MULTILINE))
    # Compose reads these two itself.
    assert offered - {"COMPOSE_PROJECT_NAME", "COMPOSE_PROFILES"} == used


def test_what_the_example_sets_is_what_holds_without_it() -> None:
    defaults = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", COMPOSE_TEXT))
    told = dict(re.findall(r"^([A-Z_]+)=(.*)$", EXAMPLE.read_text("utf-8"), re.MULTILINE))
    told.pop("COMPOSE_PROJECT_NAME")
    assert {name: defaults[name] for name in told} == told


# The image


def test_the_image_runs_as_a_user_without_rights() -> None:
    stages = [i for i, (word, _) in enumerate(instructions()) if word == "FROM"]
    last = instructions()[stages[-1] :]
    (user,) = (rest for word, rest in last if word == "USER")
    uid, gid = map(int, user.split(":"))
    assert min(uid, gid) >= 1000
    after = last[[word for word, _ in last].index("USER") :]
    assert not {"RUN", "COPY", "ADD"} & {word for word, _ in after}


def test_the_image_starts_lrsearch_itself_and_not_a_shell() -> None:
    last = dict(instructions())
    assert json.loads(last["ENTRYPOINT"]) == ["lrsearch"]
    assert json.loads(last["CMD"]) == ["--help"]
    _, _, check = last["HEALTHCHECK"].partition("CMD ")
    assert json.loads(check)[0] == "python"


def test_the_image_takes_nothing_from_an_address_and_names_no_host() -> None:
    assert "ADD" not in {word for word, _ in instructions()}
    assert "://" not in DOCKERFILE
    assert not re.search(r"\b(curl|wget)\b", DOCKERFILE)


def test_what_a_build_is_given_in_confidence_stays_out_of_the_image() -> None:
    for word, rest in instructions():
        if word == "RUN" and "pip install" in rest:
            assert "--mount=type=secret,id=pip" in rest
        assert word != "ARG" or not re.search("PASSWORD|TOKEN|SECRET|INDEX_URL", rest)
    assert any("PIP_NO_CACHE_DIR=1" in rest for word, rest in instructions() if word == "ENV")
    given = {rest.partition("=")[0]: rest.partition("=")[2] for word, rest in instructions() if word == "ARG"}
    assert given["TORCH_INDEX"] == '""'


def test_the_image_sets_only_what_lrsearch_knows() -> None:
    named = set(re.findall(r"\b(LRSEARCH_\w+)=", DOCKERFILE))
    assert named
    assert named <= known_variables()


def test_what_is_decoded_or_downloaded_lies_where_a_container_may_write_and_others_find_it() -> None:
    last = max(i for i, (word, _) in enumerate(instructions()) if word == "FROM")
    (set_there,) = (rest for word, rest in instructions()[last:] if word == "ENV")
    variables = dict(word.split("=", 1) for word in set_there.split())
    assert {COMPOSE["x-environment"]["LRSEARCH_CACHE"]} == {variables["LRSEARCH_CACHE"]}
    for name in ("LRSEARCH_ARTIFACTS", "LRSEARCH_CACHE", "TORCH_HOME", "HF_HOME"):
        assert Path(variables[name]).is_relative_to("/artifacts")


def test_the_context_holds_what_the_image_is_made_of_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    copied = {
        path.replace("[t]", "t")
        for word, rest in instructions()
        if word == "COPY" and not rest.startswith("--from")
        for path in rest.split()[:-1]
    }
    assert copied == let_in
    assert all((ROOT / path).exists() for path in let_in - {"docker/constraints.txt"})


def test_the_layer_of_dependencies_is_made_of_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    script = [sys.executable, DOCKER / "requirements.py", ROOT / "pyproject.toml"]
    plain = subprocess.run([*script, ""], capture_output=True, text=True, check=True)
    assert plain.stdout.split("\n")[:-1] == project["dependencies"]
    more = subprocess.run([*script, "s3, gcs"], capture_output=True, text=True, check=True)
    extras = project["optional-dependencies"]
    assert more.stdout.split("\n")[:-1] == [*project["dependencies"], *extras["s3"], *extras["gcs"]]
    wrong = subprocess.run([*script, "s4"], capture_output=True, text=True)
    assert wrong.returncode == 1
    assert "got s4" in wrong.stderr


def test_the_first_process_of_a_container_can_be_stopped_before_it_has_begun(tmp_path: Path) -> None:
    """The kernel sends it no signal that it has no handler for."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("a namespace of process ids needs root and unshare")
    code = "import time; from lrsearch.cli import interrupts as i; i.install(); print('up', flush=True); time.sleep(60)"
    outer = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        cwd=tmp_path,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with outer:
        assert outer.stdout is not None
        assert outer.stdout.readline() == "up\n"
        (first,) = psutil.Process(outer.pid).children()
        first.send_signal(signal.SIGTERM)
        try:
            assert outer.wait(10) == EXIT_TERMINATED
        finally:
            outer.kill()


def test_a_worker_that_is_loading_pytorch_does_not_wait_for_that_to_leave(tmp_path: Path, postgres_url: str) -> None:
    worker = Running(("worker",), tmp_path, LRSEARCH_STORAGE=postgres_url)
    assert worker.wait_for(lambda p: "serving every open study" in p.read("stderr"))
    worker.send(signal.SIGTERM)
    # By the signal and not by its own way out; an init makes 143 of it, as a shell does.
    assert worker.result().code == -signal.SIGTERM


# Secrets


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """The folder of secrets that the script makes."""
    shutil.copy(DOCKER / "secrets.sh", tmp_path)
    subprocess.run(["sh", "secrets.sh"], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path / "secrets"


def test_the_secrets_are_those_that_compose_asks_for(made: Path) -> None:
    assert {path.name for path in made.iterdir()} == {*COMPOSE["secrets"], ".gitignore"}


def test_only_their_owner_reaches_the_secrets_and_a_container_can_read_them(made: Path) -> None:
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    for name in COMPOSE["secrets"]:
        assert stat.S_IMODE((made / name).stat().st_mode) == 0o644


def test_the_secrets_are_random_and_lrsearch_takes_them(made: Path) -> None:
    where = parse_place(f"@{made / 'storage'}")
    assert isinstance(where, PostgresServer)
    password = (made / "postgres_password").read_text("ascii")
    assert (where.url.host, where.url.username, where.url.database) == ("postgres", "lrsearch", "lrsearch")
    assert where.url.password == password
    assert re.fullmatch(r"[\w-]{32}", password)
    asked = passwords.configured(made / "dashboard_password")
    word = (made / "dashboard_password").read_text("ascii").strip()
    assert asked is not None
    assert asked.admits(f"Bearer {word}")
    assert word != password


def test_making_the_secrets_again_changes_none(made: Path) -> None:
    before = {path.name: path.read_bytes() for path in made.iterdir()}
    (made / "dashboard_password").unlink()
    subprocess.run(["sh", "secrets.sh"], cwd=made.parent, check=True, capture_output=True)
    after = {path.name: path.read_bytes() for path in made.iterdir()}
    new = {name for name in before if before[name] != after[name]}
    assert new == {"dashboard_password"}


def test_git_does_not_see_the_secrets(made: Path) -> None:
    assert (made / ".gitignore").read_text("ascii") == "*\n"


# Whether a container is well


def healthy(*command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the health check as a container does whose first process has this command, or beside this machine's."""
    check = [sys.executable, str(DOCKER / "healthy.py")]
    if command:
        if os.geteuid() != 0 or not shutil.which("unshare"):
            pytest.skip("a namespace of process ids needs root and unshare")
        first = f"import subprocess, sys; sys.exit(subprocess.call({check}))"
        check = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-c", first, *command]
    return subprocess.run(
        check,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_a_worker_is_well_whose_database_lets_it_in(postgres_server: Account) -> None:
    done = healthy(LRSEARCH_STORAGE=postgres_server.url())
    assert (done.returncode, done.stderr) == (0, "")
    assert "***" in done.stdout
    assert done.stdout.endswith(" answers\n")


def test_a_worker_is_not_well_that_is_refused_and_no_password_is_said(postgres_server: Account) -> None:
    done = healthy(LRSEARCH_STORAGE=postgres_server.url(password="wrong-password"))
    assert (done.returncode, done.stderr) == (1, "")
    assert "does not let a worker in" in done.stdout
    assert "wrong-password" not in done.stdout


def test_a_worker_is_not_well_whose_secret_is_missing(tmp_path: Path) -> None:
    done = healthy(LRSEARCH_STORAGE=f"@{tmp_path / 'storage'}")
    assert (done.returncode, done.stderr) == (1, "")
    assert "cannot be read" in done.stdout


def test_a_worker_is_asked_for_the_database_that_its_command_names(postgres_server: Account, tmp_path: Path) -> None:
    (tmp_path / "storage").write_text(postgres_server.url())
    for given in (["--storage", f"@{tmp_path / 'storage'}"], [f"--storage=@{tmp_path / 'storage'}"]):
        done = healthy("lrsearch", "worker", *given, "--study", "dashboard")
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
    done = healthy("lrsearch", "worker", "--study", "dashboard")
    assert (done.returncode, done.stdout) == (1, "lrsearch.db is not there\n")


def test_a_worker_is_well_behind_a_pooler(postgres_server: Account) -> None:
    done = healthy(LRSEARCH_STORAGE=f"{postgres_server.url()}?prepare_threshold=none")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


@pytest.mark.slow
def test_a_dashboard_is_asked_where_its_command_has_it_listen(database: Database, tmp_path: Path) -> None:
    process = Running(("dashboard", "--port", "0"), tmp_path)
    try:
        assert process.wait_for(lambda p: "\n" in p.read("stdout")), process.read("stderr")
        url = process.read("stdout").strip()
        port = url.rpartition(":")[2]
        for given in (["--port", port], [f"--port={port}", "--host", "0.0.0.0"]):
            done = healthy("lrsearch", "--log-format", "json", "dashboard", *given)
            assert (done.returncode, done.stdout) == (0, f"{url}/healthz answers 200\n")
        done = healthy("lrsearch", "dashboard", LRSEARCH_DASHBOARD_HOST="", LRSEARCH_DASHBOARD_PORT=port)
        assert (done.returncode, done.stdout) == (0, f"{url}/healthz answers 200\n")
    finally:
        process.process.kill()
        process.process.wait()
    assert healthy("lrsearch", "dashboard", "--port", port).returncode == 1


# The page


def lines() -> list[list[str]]:
    """Return the commands of the page, each as words."""
    joined = "\n".join(re.findall(r"^```bash\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)).replace("\\\n", " ")
    # Where the output goes is the shell's business.
    split = (shlex.split(line.partition(" > ")[0], comments=True) for line in joined.splitlines())
    return [words for words in split if words]


def test_the_page_shows_commands() -> None:
    assert len(lines()) > 10


@pytest.mark.parametrize("words", lines(), ids=" ".join)
def test_a_command_of_the_page_can_be_typed(words: list[str]) -> None:
    """What goes to lrsearch is understood by it; services, files and arguments of the build are there."""
    for word in words:
        if word.startswith("docker/") and "constraints" not in word and "/secrets/" not in word:
            assert (ROOT / word).exists(), word
    if "--build-arg" in words:
        name = words[words.index("--build-arg") + 1].partition("=")[0]
        assert ("ARG", f'{name}=""') in instructions()
    if "-" in words and words[words.index("-") - 1] == "--output":
        assert "-T" in words, "docker-compose 1.29 would give it a terminal, and the file colours"
    if words[:2] == ["docker", "compose"]:
        verb = next(w for w in words[2:] if w in ("up", "run", "stop", "down", "logs", "ps", "exec", "build", "kill"))
        rest = words[words.index(verb) + 1 :]
        scaled = [word.partition("=")[0] for flag, word in pairwise(words) if flag == "--scale"]
        assert set(scaled) <= set(SERVICES)
        if verb == "run":
            understand(rest[rest.index("cli") + 1 :])
    elif words[:2] == ["docker", "run"] and "--entrypoint" not in words:
        understand(words[words.index("lrsearch") + 1 :])


def test_the_page_names_every_setting() -> None:
    offered = set(re.findall(r"^(?:# )?([A-Z_]+)=", EXAMPLE.read_text("utf-8"), re.MULTILINE))
    assert offered <= set(re.findall(r"`([A-Z_]+)`", PAGE))


# Containers at work


class Engine:
    """The containers of one test, on the host's network; all are removed with it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.mark = uuid.uuid4().hex[:8]
        self.artifacts = f"lrsearch-test-{self.mark}"
        secrets = {"storage": url, "dashboard_password": "a password of the tests"}
        for name, text in secrets.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o644)
        self.mounts = [f"--volume={folder / name}:/run/secrets/{name}:ro" for name in secrets]
        self.names: list[str] = []

    def docker(self, *words: str) -> str:
        done = subprocess.run(["docker", *words], capture_output=True, text=True)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout.strip()

    def start(self, service: str, *words: str, flags: tuple[str, ...] = (), init: bool = True) -> str:
        """Start a container as the compose file does, but for its network; return its name."""
        name = f"lrsearch-test-{self.mark}-{len(self.names)}"
        self.names.append(name)
        of = SERVICES[service]
        settings = [f"--env={key}={default(value)}" for key, value in of["environment"].items()]
        hardened = [
            "--read-only",
            "--tmpfs=/tmp",
            "--cap-drop=ALL",
            *(f"--security-opt={o}" for o in of["security_opt"]),
        ]
        command = words or tuple(of["command"])
        self.docker(
            *("run", "--detach", f"--name={name}", "--network=host", f"--volume={self.artifacts}:/artifacts"),
            *(["--init"] if init else []),
            *(*hardened, *self.mounts, *settings, *flags, "lrsearch", *command),
        )
        return name

    def ran(self, *words: str, flags: tuple[str, ...] = ()) -> str:
        """Run a command of lrsearch to its end; return what it wrote to stdout."""
        name = self.start("cli", *words, flags=flags)
        assert self.docker("wait", name) == "0", self.log(name)
        return subprocess.run(["docker", "logs", name], capture_output=True, text=True, check=True).stdout

    def log(self, name: str) -> str:
        done = subprocess.run(["docker", "logs", name], capture_output=True, text=True, check=True)
        return done.stdout + done.stderr

    def exit_code(self, name: str) -> int:
        return int(self.docker("inspect", "--format={{.State.ExitCode}}", name))

    def close(self) -> None:
        if self.names:
            subprocess.run(["docker", "rm", "--force", *self.names], capture_output=True)
        subprocess.run(["docker", "volume", "rm", "--force", self.artifacts], capture_output=True)


@pytest.fixture
def engine(tmp_path: Path, postgres_server: Account) -> Iterator[Engine]:
    url = postgres_server.create_database()
    with closing(Engine(tmp_path, url)) as running:
        yield running
    postgres_server.drop_database(url)


def until(there: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not there():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def answers(port: int, path: str, password: str | None = None) -> int:
    """Return the status with which a dashboard answers; 0 when nothing listens."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
    if password is not None:
        request.add_header("Authorization", f"Basic {base64.b64encode(f'me:{password}'.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return int(error.code)
    except urllib.error.URLError:
        return 0


@ENGINE
@pytest.mark.slow
def test_a_study_in_containers_keeps_its_budget_though_a_worker_is_killed_and_another_one_stopped(
    engine: Engine, tmp_path: Path
) -> None:
    # Trials of seconds, also on a quick machine: work is left when the lease of the worker that is killed has ended.
    long = ("--model", "cnn", "--epochs", "40", "--set", "pruner=none", "--set", "workers.checkpoint_seconds=0")
    first, second = engine.start("worker"), engine.start("worker")
    until(lambda: "serving every open study" in engine.log(first), "the first worker is ready")
    filed = engine.ran("run", "digits", "--trials", "8", *long, "--set", "workers.lease_seconds=5", "--detach")
    assert filed == "digits\n"

    until(lambda: " epoch 3/40 " in engine.log(first), "the first worker trains")
    engine.docker("kill", first)
    assert engine.exit_code(first) == 128 + signal.SIGKILL
    third = engine.start("worker")
    until(lambda: "resumed)" in engine.log(second) + engine.log(third), "the trial that was killed goes on")

    busy = second if "resumed)" in engine.log(second) else third
    begun = time.monotonic()
    engine.docker("stop", "--time=60", busy)
    took = time.monotonic() - begun
    assert engine.exit_code(busy) == EXIT_TERMINATED
    assert took < 20, "far within the grace period"
    assert "this worker was asked to leave; what it had in hand is kept" in engine.log(busy)

    last = json.loads(engine.ran("status", "digits", "--watch", "--json").splitlines()[-1])
    assert last["finished"] == 8
    assert (last["interruptions"]["lost"], last["interruptions"]["preempted"]) == (1, 1)
    with closing(open_existing(parse_place(f"@{tmp_path / 'storage'}"))) as database:
        trials = studies.get(database, "digits").trials()
    assert sorted(t.number for t in trials) == list(range(8))


@ENGINE
@pytest.mark.slow
def test_pictures_and_a_network_of_ones_own_are_trained_by_the_workers_that_are_shown_them(
    engine: Engine, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    make_pictures(own / "pets")
    (own / "nets").mkdir()
    (own / "nets" / "net.py").write_text(NET)
    shown = (f"--volume={own / 'pets'}:/pets:ro", f"--volume={own / 'nets'}:/nets:ro")
    asked = ("--dataset", "folder:/pets", "--model", "/nets/net.py:build", "--trials", "6", "--epochs", "2")
    without = engine.start("worker")
    assert engine.ran("run", "--name", "pets", "--detach", *asked, flags=shown) == "pets\n"
    until(lambda: "leaves the study 'pets' to others" in engine.log(without), "a worker that sees none of it says so")
    assert "/pets, which the study names, is not on this machine" in engine.log(without)

    workers = [engine.start("worker", flags=shown) for _ in range(2)]
    last = json.loads(engine.ran("status", "pets", "--watch", "--json").splitlines()[-1])
    assert last["finished"] == 6
    assert any("pets < 0 " in engine.log(name) for name in workers)
    decoded = "from pathlib import Path; print(*Path('/artifacts/cache/pictures').glob('*/images.npy'))"
    (made,) = engine.docker("exec", workers[0], "python", "-c", decoded).split()
    trained = engine.ran("train", "pets", "-o", "/artifacts/pets", "--json", flags=shown)
    assert json.loads(trained)["model"]["test"]["n_images"] == 15
    table = engine.ran("predict", "pets", "--folder", "/pets/red", flags=shown)
    assert len(table.splitlines()) == 25
    (still,) = engine.docker("exec", workers[0], "python", "-c", decoded).split()
    assert still == made, "decoded once for all containers"


@ENGINE
@pytest.mark.slow
def test_a_dashboard_in_a_container_asks_for_its_password_and_docker_knows_that_it_is_well(engine: Engine) -> None:
    port = 18473
    command = (*SERVICES["dashboard"]["command"], "--port", str(port))
    name = engine.start("dashboard", *command, flags=("--health-interval=1s", "--health-start-period=0s"))
    until(lambda: answers(port, "/healthz") == 200, "the dashboard answers")
    assert answers(port, "/lr") == 401
    assert answers(port, "/lr", "not the password") == 401
    assert answers(port, "/lr", "a password of the tests") == 200
    assert answers(port, "/lr/digits", "a password of the tests") == 404, "it is there before the first study"
    engine.ran("run", "digits", "--trials", "5", "--detach")
    assert answers(port, "/lr/digits", "a password of the tests") == 200
    until(lambda: engine.docker("inspect", "--format={{.State.Health.Status}}", name) == "healthy", "healthy")
    assert "chmod" not in engine.log(name), "nobody could, in there"
    engine.docker("stop", "--time=20", name)
    assert engine.exit_code(name) == EXIT_TERMINATED


@ENGINE
@pytest.mark.slow
@pytest.mark.parametrize("init", [True, False], ids=["with an init", "as the first process"])
def test_a_worker_that_has_hardly_begun_can_be_stopped(engine: Engine, init: bool) -> None:
    name = engine.start("worker", init=init)
    if not init:
        pid = int(engine.docker("inspect", "--format={{.State.Pid}}", name))
        # Python itself takes a moment, in which the kernel drops the signal.
        until(lambda: catches(pid, signal.SIGTERM), "it listens to SIGTERM")
        assert "serving" not in engine.log(name), "already before PyTorch is imported"
    engine.docker("stop", "--time=20", name)
    assert engine.exit_code(name) == EXIT_TERMINATED, engine.log(name)


def catches(pid: int, signum: int) -> bool:
    (mask,) = re.findall(r"^SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text("ascii"), re.MULTILINE)
    return bool(int(mask, 16) >> (signum - 1) & 1)
