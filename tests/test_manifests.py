"""The manifests for Kubernetes: against its own schemas, and against what lrsearch is and does."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import typer
import yaml  # type: ignore[import-untyped]
from command_line import clean_environment

from lrsearch import errors
from lrsearch.cli import app as cli
from lrsearch.dashboard import guard, password
from lrsearch.store.opening import SETTINGS
from lrsearch.store.places import PostgresServer, parse_place
from lrsearch.store.storage import PATIENCE_SECONDS

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docker" / "kubernetes"
PAGE = ROOT / "docs" / "clusters.md"
VERSIONS = ("1.31", kubernetes_validate.latest_version())
"""The first in which all that they use is stable or on by default, and the newest that has a schema here."""

UPDATE_AND_CHECKPOINT_SECONDS = 10
"""More than an update, the evaluation of an epoch and the writing of a checkpoint take."""

Document = dict[str, Any]


def documents() -> list[tuple[str, Document]]:
    files = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")
    return [(path.name, one) for path in files for one in yaml.safe_load_all(path.read_text("utf-8"))]


DOCUMENTS = documents()
NAMES = [f"{name}-{one['kind']}" for name, one in DOCUMENTS]
PODS = {f"{name}-{one['kind']}": one["spec"]["template"] for name, one in DOCUMENTS if "template" in one["spec"]}
OURS = {name: pod for name, pod in PODS.items() if pod["spec"]["containers"][0]["image"].startswith("lrsearch")}
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text("utf-8"))


def container(pod: Document) -> Document:
    only: Document
    (only,) = pod["spec"]["containers"]
    assert "initContainers" not in pod["spec"]
    return only


def spec_of(name: str) -> Document:
    found: Document
    (found,) = (one["spec"] for file, one in DOCUMENTS if file == name)
    return found


def command_group() -> Any:
    return typer.main.get_command(cli.app)


def understand(words: list[str]) -> None:
    """Parse a command of lrsearch without running it."""
    group = command_group()
    context = group.make_context("lrsearch", list(words))
    name, command, rest = group.resolve_command(context, list(words))
    command.make_context(name, rest, parent=context)


def strings(value: object) -> Iterator[str]:
    match value:
        case dict():
            for inner in value.values():
                yield from strings(inner)
        case list():
            for inner in value:
                yield from strings(inner)
        case str():
            yield value


# --- the schema ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("document", [one for _, one in DOCUMENTS], ids=NAMES)
def test_a_manifest_is_what_the_schema_of_kubernetes_says(document: Document, version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)
    with pytest.raises(jsonschema.ValidationError):
        kubernetes_validate.validate({**document, "spec": {**document["spec"], "replica": 1}}, version, strict=True)


def test_there_is_a_manifest_for_every_part() -> None:
    kinds = {(name, one["kind"]) for name, one in DOCUMENTS}
    assert {
        ("artifacts.yaml", "PersistentVolumeClaim"),
        ("dashboard.yaml", "Deployment"),
        ("dashboard.yaml", "Service"),
        ("fleet-deployment.yaml", "Deployment"),
        ("postgres.yaml", "Service"),
        ("postgres.yaml", "StatefulSet"),
        ("study-job.yaml", "Job"),
        ("workers-job.yaml", "Job"),
    } == kinds
    assert len(OURS) == 4


def test_the_kustomization_names_what_stands_and_the_image_once() -> None:
    standing = {name for name, one in DOCUMENTS if one["kind"] != "Job"}
    assert set(KUSTOMIZATION["resources"]) == standing
    assert [image["name"] for image in KUSTOMIZATION["images"]] == ["lrsearch"]
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl to build it")
    built = subprocess.run(["kubectl", "kustomize", str(FOLDER)], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    made = list(yaml.safe_load_all(built.stdout))
    assert len(made) == len([one for _, one in DOCUMENTS if one["kind"] != "Job"])
    for one in made:
        kubernetes_validate.validate(one, VERSIONS[-1], strict=True)


# --- what the containers run -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pod", OURS.values(), ids=OURS)
def test_what_a_container_is_told_lrsearch_understands(pod: Document, monkeypatch: pytest.MonkeyPatch) -> None:
    made = container(pod)
    assert "command" not in made, "the image's own entry point is lrsearch"
    known = {parameter.envvar for command in command_group().commands.values() for parameter in command.params}
    for variable in made["env"]:
        assert variable["name"] in known
        # What Kubernetes fills in is a number here.
        monkeypatch.setenv(variable["name"], variable.get("value", "1"))
    understand(made["args"])


def test_the_workers_of_a_job_name_the_study_that_its_job_files() -> None:
    assert container(PODS["workers-job.yaml-Job"])["args"] == ["worker", "--study", "digits"]
    assert container(PODS["study-job.yaml-Job"])["args"][:2] == ["run", "digits"]
    assert "--detach" in container(PODS["study-job.yaml-Job"])["args"]


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
def test_a_volume_is_there_and_used(pod: Document) -> None:
    declared = {volume["name"] for volume in pod["spec"]["volumes"]}
    claimed = {"database"} if container(pod)["name"] == "postgres" else set()
    mounted = {mount["name"]: mount["mountPath"] for mount in container(pod)["volumeMounts"]}
    assert set(mounted) == declared | claimed
    claims = {
        volume["persistentVolumeClaim"]["claimName"] for volume in pod["spec"]["volumes"] if "Claim" in str(volume)
    }
    assert claims <= {one["metadata"]["name"] for _, one in DOCUMENTS if one["kind"] == "PersistentVolumeClaim"}
    for variable in container(pod)["env"]:
        value = variable.get("value", "").removeprefix("@")
        if value.startswith("/"):
            assert value.startswith(tuple(mounted.values())), f"{variable['name']} names a folder that is not there"


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "Service"])
def test_a_selector_selects_the_pods_of_its_file(kind: str) -> None:
    for name, one in DOCUMENTS:
        if one["kind"] == kind:
            wanted = one["spec"]["selector"] if kind == "Service" else one["spec"]["selector"]["matchLabels"]
            (pod,) = (pod for key, pod in PODS.items() if key.startswith(name))
            assert wanted.items() <= pod["metadata"]["labels"].items()
            others = [p for p in PODS.values() if p is not pod and wanted.items() <= p["metadata"]["labels"].items()]
            assert not others


def test_the_probes_ask_what_the_dashboard_answers() -> None:
    made = container(PODS["dashboard.yaml-Deployment"])
    ports = {port["name"]: port["containerPort"] for port in made["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert made[probe]["httpGet"]["path"] == guard.HEALTH
        assert made[probe]["httpGet"]["port"] in ports
    (port,) = (p.default for p in command_group().commands["dashboard"].params if p.name == "port")
    assert set(ports.values()) == {port}
    living = made["livenessProbe"]
    assert living["periodSeconds"] * living["failureThreshold"] >= PATIENCE_SECONDS, "a restart mends no database"


# --- what it may do --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
def test_a_pod_may_do_what_the_restricted_standard_allows_and_writes_to_volumes_only(pod: Document) -> None:
    whole, own = pod["spec"]["securityContext"], container(pod)["securityContext"]
    assert whole["runAsNonRoot"] is True
    assert whole["runAsUser"] > 0
    assert whole["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["spec"]["automountServiceAccountToken"] is False
    allowed = ("configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret")
    assert all(volume.keys() - {"name"} <= set(allowed) for volume in pod["spec"]["volumes"])
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod["spec"].keys()
    assert {"requests", "limits"} <= container(pod)["resources"].keys()


@pytest.mark.parametrize("pod", OURS.values(), ids=OURS)
def test_the_user_is_the_one_of_the_image(pod: Document) -> None:
    (user,) = re.findall(r"^USER (\d+)", (ROOT / "docker" / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    assert pod["spec"]["securityContext"]["runAsUser"] == int(user)


@pytest.mark.parametrize("pod", PODS.values(), ids=PODS)
def test_kubernetes_sets_no_variable_of_a_service_that_lrsearch_would_read(pod: Document) -> None:
    """For the service ``lrsearch-dashboard`` it would set LRSEARCH_DASHBOARD_PORT=tcp://10.0.0.1:80."""
    assert pod["spec"]["enableServiceLinks"] is False


def test_no_manifest_holds_a_secret() -> None:
    assert "Secret" not in {one["kind"] for _, one in DOCUMENTS}
    for name, one in DOCUMENTS:
        for text in strings(one):
            assert "://" not in text, f"{name}: a URL may hold a password: {text}"
    for name, pod in PODS.items():
        for variable in container(pod)["env"]:
            assert "secretKeyRef" not in str(variable), f"{name}: a file is not shown by kubectl describe or /proc"
            if re.search("PASSWORD|STORAGE", variable["name"]):
                assert variable["value"].lstrip("@").startswith("/run/secrets/")
        for volume in pod["spec"]["volumes"]:
            if "secret" in volume:
                assert volume["secret"]["defaultMode"] == 0o400


def keys_of_the_secret() -> set[str]:
    volumes = [volume["secret"] for pod in PODS.values() for volume in pod["spec"]["volumes"] if "secret" in volume]
    assert {secret["secretName"] for secret in volumes} == {"lrsearch"}
    return {item["key"] for secret in volumes for item in secret["items"]}


def test_a_pod_is_given_only_the_secrets_that_it_needs() -> None:
    given = {
        name: {item["key"] for v in pod["spec"]["volumes"] if "secret" in v for item in v["secret"]["items"]}
        for name, pod in PODS.items()
    }
    assert given["postgres.yaml-StatefulSet"] == {"postgres-password"}
    assert given["dashboard.yaml-Deployment"] == {"storage", "dashboard-password"}
    assert given["workers-job.yaml-Job"] == given["fleet-deployment.yaml-Deployment"] == {"storage"}


# --- leaving ---------------------------------------------------------------------------------------------------------


def test_the_grace_time_is_enough_for_what_a_worker_does_when_it_is_asked_to_leave() -> None:
    # A server that is gone without a word, then three tries to reach it: 52 s when its port was closed for a test.
    silent = SETTINGS["tcp_user_timeout"] / 1000 + 3 * SETTINGS["connect_timeout"]
    for name in ("workers-job.yaml-Job", "fleet-deployment.yaml-Deployment"):
        pod = PODS[name]["spec"]
        assert pod["terminationGracePeriodSeconds"] >= silent + UPDATE_AND_CHECKPOINT_SECONDS
        assert pod["shareProcessNamespace"] is True, "process 1 would not hear of SIGTERM while it starts"


def test_preemption_is_no_failure_of_a_worker_and_a_slip_of_the_keys_ends_the_job() -> None:
    spec = spec_of("workers-job.yaml")
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"]
    rules = [
        (rule["action"], tuple(rule.get("onExitCodes", {}).get("values", ())), "onPodConditions" in rule)
        for rule in spec["podFailurePolicy"]["rules"]
    ]
    assert rules == [
        ("Ignore", (), True),
        ("Ignore", (errors.EXIT_TERMINATED,), False),
        ("FailJob", (errors.EXIT_USAGE,), False),
    ]


@pytest.mark.parametrize("name", ["workers-job.yaml", "study-job.yaml"])
def test_a_job_is_one_that_the_api_server_takes_although_no_schema_says_so(name: str) -> None:
    """Source: kubernetes/pkg/apis/batch/validation/validation.go, validatePodFailurePolicy and validateJobSpec."""
    spec = spec_of(name)
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never", "podFailurePolicy and backoffLimitPerIndex ask for it"
    assert "backoffLimitPerIndex" not in spec or spec["completionMode"] == "Indexed"
    assert len(spec["podFailurePolicy"]["rules"]) <= 20
    for rule in spec["podFailurePolicy"]["rules"]:
        assert ("onExitCodes" in rule) != ("onPodConditions" in rule)
        if "onExitCodes" in rule:
            values = rule["onExitCodes"]["values"]
            assert rule["onExitCodes"]["containerName"] == container(spec["template"])["name"]
            assert values == sorted(set(values))
            assert 0 not in values


def test_all_workers_of_the_fleet_are_of_one_version() -> None:
    assert spec_of("fleet-deployment.yaml")["strategy"] == {"type": "Recreate"}


# --- the page --------------------------------------------------------------------------------------------------------


def console_lines() -> list[str]:
    found = re.findall(r"^```console\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [line for line in "".join(found).replace("\\\n", " ").splitlines() if line and not line.startswith("#")]


def test_the_files_that_the_page_names_are_there() -> None:
    text = PAGE.read_text("utf-8")
    named = set(re.findall(r"docker/(?:slurm|kubernetes)/[\w.-]*", text))
    assert {f"docker/kubernetes/{name}" for name in ("workers-job.yaml", "study-job.yaml")} <= named
    for name in named:
        assert (ROOT / name).exists(), name


def test_the_commands_of_lrsearch_on_the_page_are_understood() -> None:
    words = [line.split() for line in console_lines()]
    lines = [line[1:] for line in words if line[0] == "lrsearch"]
    # What comes after the script's name is the worker's.
    lines += [["worker", *line[2:]] for line in words if line[0] == "sbatch"]
    assert {line[0] for line in lines} == {"run", "worker", "status"}
    for line in lines:
        understand(line)


def test_the_secret_that_the_page_makes_is_the_one_that_the_pods_read(tmp_path: Path) -> None:
    lines = console_lines()
    first = lines.index("umask 077")
    last = next(i for i, line in enumerate(lines) if "create secret generic lrsearch" in line)
    made = subprocess.run(
        ["bash", "-eu"], input="\n".join(lines[first:last]), cwd=tmp_path, env=clean_environment(tmp_path), text=True
    )
    assert made.returncode == 0
    files = {path.name for path in tmp_path.iterdir()}
    assert files == set(re.findall(r"--from-file=(\S+)", lines[last])) == keys_of_the_secret()
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    place = parse_place(f"@{tmp_path / 'storage'}")
    assert isinstance(place, PostgresServer)
    assert place.url.password == (tmp_path / "postgres-password").read_text("utf-8").strip()
    assert place.url.host in {one["metadata"]["name"] for _, one in DOCUMENTS if one["kind"] == "Service"}
    env = {v["name"]: v.get("value") for v in container(PODS["postgres.yaml-StatefulSet"])["env"]}
    assert (place.url.username, place.url.database) == (env["POSTGRES_USER"], env["POSTGRES_DB"])
    assert password.configured(tmp_path / "dashboard-password") is not None


def test_the_numbers_of_the_page_are_those_of_the_code() -> None:
    from lrsearch.spec.study import WorkersSpec

    rules, text = WorkersSpec(), PAGE.read_text("utf-8")
    told = dict(re.findall(r"^\| `([\w.]+)` \| (\d+) s \|", text, re.MULTILINE))
    grace = PODS["workers-job.yaml-Job"]["spec"]["terminationGracePeriodSeconds"]
    assert {key: int(value) for key, value in told.items()} == {
        "workers.checkpoint_seconds": rules.checkpoint_seconds,
        "workers.lease_seconds": rules.lease_seconds,
        "heartbeat_seconds": rules.heartbeat_seconds,
        "workers.no_progress_seconds": rules.no_progress_seconds,
        "PATIENCE_SECONDS": PATIENCE_SECONDS,
        "tcp_user_timeout": SETTINGS["tcp_user_timeout"] / 1000,
        "connect_timeout": SETTINGS["connect_timeout"],
        "terminationGracePeriodSeconds": grace,
    }
