"""docker/: what can be known of images and manifests without an engine to run them.

Linted, checked against their schemas and against rules of our own; MLflow's server is also run as compose.yaml runs it.
"""

import base64
import importlib
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.ports import free_port

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
KUBERAY = DOCKER / "kuberay"
BIN = Path(sys.executable).parent
SECRET = re.compile(r"password|token|secret|credential|api_?key", re.IGNORECASE)
POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def load(path: Path) -> list[Any]:
    return list(YAML(typ="safe").load_all(path.read_text()))


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    (compose,) = load(DOCKER / "compose.yaml")
    found: dict[str, Any] = compose["services"]
    return found


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod's spec in docker/kuberay, with where it stands."""
    for path in sorted(KUBERAY.glob("*.yaml")):
        for document in load(path):
            match document["kind"]:
                case "Deployment":
                    yield document["metadata"]["name"], document["spec"]["template"]["spec"]
                case "RayCluster" | "RayJob":
                    spec = document["spec"].get("rayClusterSpec", document["spec"])
                    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
                        yield f"{path.name} {group.get('groupName', 'head')}", group["template"]["spec"]


def run(*command: str, **arguments: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, **arguments)


# ---- linters and schemas


@pytest.mark.parametrize(
    "command",
    [
        ("hadolint", "Dockerfile"),
        ("shellcheck", "with-secrets.sh", "make-secrets.sh"),
        ("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml", "compose.gpu.yaml"),
        (
            "kubernetes-validate",
            "--strict",
            "kuberay/storage.yaml",
            "kuberay/mlflow.yaml",
            "kuberay/networkpolicy.yaml",
        ),
    ],
    ids=lambda command: command[0],
)
def test_the_linter_has_nothing_to_say(command: tuple[str, ...]) -> None:
    ran = run(str(BIN / command[0]), *command[1:], cwd=DOCKER)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_schema_knows_a_wrong_key(tmp_path: Path) -> None:
    """The negative control."""
    file = tmp_path / "compose.yaml"
    file.write_text((DOCKER / "compose.yaml").read_text().replace("healthcheck:", "heathcheck:", 1))
    ran = run(str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(file))
    assert ran.returncode != 0 and "heathcheck" in ran.stdout


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_accepts_its_configuration(tmp_path: Path) -> None:
    shutil.copy(DOCKER / "prometheus" / "prometheus.yml", tmp_path)
    shutil.copy(ROOT / "dashboards" / "prometheus" / "rules.yml", tmp_path)
    ran = run("promtool", "check", "config", str(tmp_path / "prometheus.yml"))
    assert ran.returncode == 0 and "6 rules found" in ran.stdout


# ---- compose


def test_every_port_is_published_on_loopback_alone(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", ())]
    assert len(published) == 4
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_every_service_is_watched_and_bounded(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}, name
        once = service["restart"] == "no"
        assert once or "healthcheck" in service, name
        if name != "postgres":  # its entry point starts as root to own its folder
            assert service["cap_drop"] == ["ALL"] and "no-new-privileges:true" in service["security_opt"], name


def test_the_database_is_reached_by_mlflow_alone(services: dict[str, Any]) -> None:
    (compose,) = load(DOCKER / "compose.yaml")
    assert compose["networks"]["store"]["internal"] is True
    assert {name for name, service in services.items() if "store" in service["networks"]} == {
        "postgres",
        "mlflow-migrate",
        "mlflow",
    }
    assert "ports" not in services["postgres"]


def test_ray_asks_for_a_token_everywhere(services: dict[str, Any]) -> None:
    for name in ("ray-head", "ray-worker"):
        environment = services[name]["environment"]
        assert environment["RAY_AUTH_MODE"] == "token"
        assert environment["RAY_AUTH_TOKEN_PATH"].removeprefix("/run/secrets/") in services[name]["secrets"]
    for path in (KUBERAY / "raycluster.yaml", KUBERAY / "rayjob.yaml"):
        (document,) = load(path)
        assert document["spec"].get("rayClusterSpec", document["spec"])["authOptions"] == {"mode": "token"}


def test_no_secret_is_written_down(services: dict[str, Any]) -> None:
    """Secrets are named by file or by reference, never given."""
    for name, service in services.items():
        for key, value in service.get("environment", {}).items():
            if SECRET.search(key):
                assert str(value).startswith("/run/secrets/"), f"{name}: {key}"
    for name, pod in pods():
        for container in (*pod["containers"], *pod.get("initContainers", ())):
            for variable in container.get("env", ()):
                assert not SECRET.search(variable["name"]) or "secretKeyRef" in variable["valueFrom"], name
    assert (ROOT / ".gitignore").read_text().splitlines().count("/docker/secrets/") == 1


def test_what_is_mounted_exists(services: dict[str, Any]) -> None:
    mounted = [volume.split(":")[0] for service in services.values() for volume in service.get("volumes", ())]
    files = [path for path in mounted if path.startswith(".")]
    assert len(files) == 5
    assert all((DOCKER / path).exists() for path in files)


def test_compose_makes_every_secret_it_uses(tmp_path: Path) -> None:
    (compose,) = load(DOCKER / "compose.yaml")
    shutil.copy(DOCKER / "make-secrets.sh", tmp_path)
    first = run("sh", str(tmp_path / "make-secrets.sh"))
    assert first.returncode == 0, first.stderr
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert set(made) == set(compose["secrets"]) and len(set(made.values())) == len(made)
    assert (tmp_path / "secrets").stat().st_mode & 0o077 == 0
    run("sh", str(tmp_path / "make-secrets.sh"))
    assert {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()} == made


# ---- the image


def test_the_image_is_not_run_as_root() -> None:
    text = (DOCKER / "Dockerfile").read_text()
    runtime = text[text.index("AS runtime") :]
    assert re.search(r"^USER 1000$", runtime, re.MULTILINE) and "USER root" not in runtime
    assert not re.search(r"^(ARG|ENV).*(PASSWORD|TOKEN=|SECRET)", text, re.MULTILINE)


def test_what_the_image_copies_is_not_ignored() -> None:
    text = (DOCKER / "Dockerfile").read_text()
    copied = {
        part.removeprefix("./")
        for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE)
        for part in [word for word in line.split() if not word.startswith("--")][:-1]
    }
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == allowed and all((ROOT / path).exists() for path in copied)


def test_with_secrets_reads_files_into_variables(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a $b 'c'\n")
    script = ["sh", str(DOCKER / "with-secrets.sh"), "sh", "-c", 'printf %s "$MLFLOW_TRACKING_PASSWORD"']
    given = {"PATH": os.environ["PATH"], "MLFLOW_TRACKING_PASSWORD_FILE": str(secret)}
    assert run(*script, env=given).stdout == "a $b 'c'"
    missing = run(*script, env=given | {"MLFLOW_TRACKING_PASSWORD_FILE": "/nowhere"})
    assert missing.returncode == 2 and "MLFLOW_TRACKING_PASSWORD_FILE" in missing.stderr and not missing.stdout


# ---- Kubernetes


def test_the_job_and_the_standing_cluster_have_one_spec() -> None:
    (cluster,), (job,) = load(KUBERAY / "raycluster.yaml"), load(KUBERAY / "rayjob.yaml")
    assert cluster["spec"] == job["spec"]["rayClusterSpec"]


def test_one_version_of_ray_everywhere() -> None:
    pinned = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    (cluster,) = load(KUBERAY / "raycluster.yaml")
    assert pinned is not None and cluster["spec"]["rayVersion"] == pinned[1]
    images = {container["image"] for _, pod in pods() for container in pod["containers"] if container["name"] == "ray"}
    assert images == {"hssl-ray:cpu"}  # built from this very tree, whose versions are pinned


def test_a_lost_job_is_started_again_and_resumes() -> None:
    (job,) = load(KUBERAY / "rayjob.yaml")
    assert job["spec"]["backoffLimit"] >= 1 and job["spec"]["shutdownAfterJobFinishes"] is True
    claims = {
        volume["persistentVolumeClaim"]["claimName"]
        for name, pod in pods()
        if name.startswith("rayjob")
        for volume in pod["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert claims == {"hssl-home"}  # where the ledger is that a new cluster goes on from


def test_pods_are_bounded_and_unprivileged() -> None:
    found = dict(pods())
    assert len(found) == 6
    for name, pod in found.items():
        assert pod["securityContext"]["runAsNonRoot"] is True and pod["automountServiceAccountToken"] is False, name
        for container in (*pod["containers"], *pod.get("initContainers", ())):
            assert container["securityContext"]["allowPrivilegeEscalation"] is False, name
            resources = container["resources"]
            assert resources["requests"]["memory"] == resources["limits"]["memory"], name


# ---- MLflow's server, for real


def local(command: list[str], port: int, database: int, folder: Path) -> list[str]:
    """A command of compose.yaml with loopback's addresses instead of containers', and a folder of the test's."""
    changes = {
        "postgres:5432": f"127.0.0.1:{database}",
        "--host=0.0.0.0": "--host=127.0.0.1",
        "--port=5000": f"--port={port}",
        "/srv/mlflow": str(folder),
        ":5000": f":{port}",
    }
    for old, new in changes.items():
        command = [part.replace(old, new) for part in command]
    return [str(BIN / command[0]), *command[1:]]


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A PostgreSQL of its own on loopback, with compose.yaml's user and database; yields its port."""
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "screenshots"))
    with importlib.import_module("postgresql").postgresql() as port:
        yield port


def ask(url: str, **headers: str) -> int:
    request = urllib.request.Request(url, headers={name.replace("_", "-"): value for name, value in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return int(error.code)
    except urllib.error.URLError:
        return 0


@pytest.mark.slow
@pytest.mark.skipif(not POSTGRES, reason="PostgreSQL is not installed")
def test_mlflow_runs_as_compose_runs_it(services: dict[str, Any], database: int, tmp_path: Path) -> None:
    """On PostgreSQL, with its migration first: closed to strangers and foreign hosts, open to a study."""
    folder, port = tmp_path / "store", free_port()
    folder.mkdir()
    auth = tmp_path / "auth.ini"
    auth.write_text((DOCKER / "mlflow_auth.ini").read_text().replace("/srv/mlflow", str(folder)))
    secrets = {
        "PGPASSWORD": "of-this-server-alone",
        "MLFLOW_AUTH_CONFIG_PATH": str(auth),
        "MLFLOW_AUTH_ADMIN_PASSWORD": "admin-of-the-test",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "key-of-the-test",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    assert set(services["mlflow"]["environment"]) == {
        name if name in {"MLFLOW_AUTH_CONFIG_PATH", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION"} else f"{name}_FILE"
        for name in secrets
    }
    migrated = run(
        *local(services["mlflow-migrate"]["command"], port, database, folder), env=os.environ | secrets, timeout=200
    )
    assert migrated.returncode == 0, migrated.stderr
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            local(services["mlflow"]["command"], port, database, folder),
            env=os.environ | secrets,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 120
        while ask(f"{url}/health") != 200:
            assert server.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.5)
        search = f"{url}/api/2.0/mlflow/experiments/search?max_results=1"
        known = "Basic " + base64.b64encode(b"admin:admin-of-the-test").decode()
        wrong = "Basic " + base64.b64encode(b"admin:guessed").decode()
        assert ask(search) == 401 and ask(search, Authorization=wrong) == 401
        assert ask(search, Authorization=known, Host="evil.example") == 403
        assert ask(search, Authorization=known) == 200

        study = ["base.epochs=1", "base.train_images=100", "base.batch_size=50", "base.width=0.125", "seeds=1"]
        changes = [part for item in study for part in ("--set", item)]
        tracked = run(
            sys.executable, "-m", "hssl_ray", "run", str(ROOT / "studies" / "quickstart.yaml"), *changes,
            "--engine", "inline", timeout=250,
            env=os.environ | {
                "MLFLOW_TRACKING_URI": url,
                "MLFLOW_TRACKING_USERNAME": "admin",
                "MLFLOW_TRACKING_PASSWORD": "admin-of-the-test",
                "PYTHONPATH": str(ROOT),
            },
        )  # fmt: skip
        assert tracked.returncode == 0, tracked.stdout + tracked.stderr
        assert list((folder / "artifacts").rglob("weights.safetensors"))  # through the server's proxy
    finally:
        os.killpg(server.pid, 15)
        server.wait()
