"""The commands of the services: on loopback, with the token, and as docker/compose.yaml runs them."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from hssl_ray.machine.services import (
    RETENTION,
    RULES,
    SCRAPE_SECONDS,
    Service,
    mlflow_server,
    prometheus_configuration,
    prometheus_server,
    ray_head,
)
from tests.ports import free_port
from tests.prometheus import ask
from tests.study.ray_cluster import wait_until

DOCKER = Path(__file__).parents[2] / "docker"


@pytest.fixture
def head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "another-cluster-s-token")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    token = tmp_path / "token"
    token.write_text("the-token-of-this-head")
    return ray_head(
        port=6379,
        dashboard=8265,
        others=(1, 2, 3),
        temporary=tmp_path,
        token_file=token,
        home=tmp_path,
        mlflow="http://127.0.0.1:5000",
        prometheus="http://127.0.0.1:9090",
        cpus=None,
    )


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load((DOCKER / "compose.yaml").read_text())["services"]
    return found


def test_a_head_asks_everybody_for_its_own_token(head: Service) -> None:
    """Whatever the user's shell has; and no command line, which all may read, holds it."""
    assert head.environment["RAY_AUTH_MODE"] == "token" and "RAY_AUTH_TOKEN" not in head.environment
    assert Path(head.environment["RAY_AUTH_TOKEN_PATH"]).read_text() == "the-token-of-this-head"
    assert not any(
        "the-token" in word for word in (*head.command, *head.environment.values(), *head.variables.values())
    )


def test_a_store_s_password_is_on_no_command_line(tmp_path: Path) -> None:
    store = mlflow_server(port=5000, store="postgresql://me:hidden-word@db/mlflow", artifacts=tmp_path)
    assert not any("hidden-word" in word for word in store.command)
    assert "hidden-word" in store.environment["MLFLOW_BACKEND_STORE_URI"]


def test_every_address_is_loopback(head: Service, tmp_path: Path) -> None:
    store = mlflow_server(port=5000, store="sqlite:///x.db", artifacts=tmp_path)
    addresses = [word for word in (*head.command, *store.command) if "host=" in word or "ip-address=" in word]
    assert addresses == ["--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", "--host=127.0.0.1"]
    assert head.environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"  # or GCS and raylet listen everywhere


def test_the_containers_have_the_same_settings(head: Service, compose: dict[str, Any], tmp_path: Path) -> None:
    store = mlflow_server(port=5000, store="sqlite:///x.db", artifacts=tmp_path)
    assert head.environment["RAY_AUTH_MODE"] == compose["ray-head"]["environment"]["RAY_AUTH_MODE"]
    name = "MLFLOW_SERVER_ENABLE_JOB_EXECUTION"
    assert store.environment[name] == compose["mlflow"]["environment"][name]
    assert f"--storage.tsdb.retention.time={RETENTION}" in compose["prometheus"]["command"]
    theirs = YAML(typ="safe").load((DOCKER / "prometheus" / "prometheus.yml").read_text())
    ours = prometheus_configuration(tmp_path / "targets.json")
    assert ours["global"] == theirs["global"]
    assert [Path(path).name for path in ours["rule_files"]] == theirs["rule_files"]  # type: ignore[attr-defined]


def test_no_prometheus_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert prometheus_server(port=9090, folder=tmp_path, targets=tmp_path / "targets.json") is None


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_accepts_what_it_is_told(tmp_path: Path) -> None:
    targets = tmp_path / "targets.json"
    targets.write_text(json.dumps([{"labels": {"job": "ray"}, "targets": ["127.0.0.1:1"]}]))
    file = tmp_path / "prometheus.yml"
    file.write_text(json.dumps(prometheus_configuration(targets)))
    checked = subprocess.run(["promtool", "check", "config", str(file)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0 and RULES.exists() and "6 rules found" in checked.stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="Prometheus is not installed")
def test_prometheus_finds_a_node_that_joins_later(tmp_path: Path) -> None:
    """The head's file is a link, as Ray's is, and names nobody at first; Prometheus by itself looks every 5 minutes."""
    (tmp_path / "session").mkdir()
    behind, targets = tmp_path / "session" / "targets.json", tmp_path / "targets.json"
    behind.write_text("[]")
    targets.symlink_to(behind)
    service = prometheus_server(port=free_port(), folder=tmp_path, targets=targets)
    assert service is not None
    process = subprocess.Popen(
        service.command, env=service.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(service.is_ready, 60, "Prometheus answers")
        assert scraped(service.url) == []
        behind.write_text(json.dumps([{"labels": {"job": "ray"}, "targets": ["127.0.0.1:1"]}]))
        wait_until(lambda: scraped(service.url) == ["http://127.0.0.1:1/metrics"], 4 * SCRAPE_SECONDS, "it is scraped")
    finally:
        process.terminate()
        process.wait()


def scraped(server: str) -> list[str]:
    return [one["scrapeUrl"] for one in ask(server, "targets")["activeTargets"]]
