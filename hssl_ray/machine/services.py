"""The services of a machine, as `up` starts them: command, environment, and what they answer once they are there.

All listen on loopback alone. docker/compose.yaml runs the same ones in containers; tests/machine/test_services.py holds
the settings equal that both need.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import hssl_ray
from hssl_ray.machine.ports import LOOPBACK, is_free
from hssl_ray.study.ray.settings import EVERYWHERE, LOCAL, OBJECT_STORE_BYTES

RAY, MLFLOW, PROMETHEUS = "Ray", "MLflow", "Prometheus"
RULES = Path(hssl_ray.__file__).parents[1] / "dashboards" / "prometheus" / "rules.yml"
"""The alerts; only a checkout has them."""
SCRAPE_SECONDS = 10
RETENTION = "30d"
_ANSWER_SECONDS = 5.0


@dataclass(frozen=True)
class Service:
    """What is to be started."""

    name: str
    url: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    is_ready: Callable[[], bool]
    variables: dict[str, str] = field(default_factory=dict)
    """By which others find it; see `record.Started`."""
    folder: str = ""
    """A temporary one of its own."""


def ray_head(
    *,
    port: int,
    dashboard: int,
    others: tuple[int, int, int],
    temporary: Path,
    token_file: Path,
    home: Path,
    mlflow: str,
    prometheus: str | None,
    cpus: int | None,
) -> Service:
    """A Ray head with its dashboard, which takes jobs and asks everybody for the token.

    Args:
        port: of the cluster itself.
        dashboard: of its dashboard.
        others: for Ray's clients, for its dashboard's agent, and for what Prometheus reads.
        temporary: its folder; short, because sockets below it may have 107 characters.
        token_file: the token.
        home: the home of the jobs that do not say theirs.
        mlflow: the server that they track to, likewise.
        prometheus: what the dashboard asks for its charts.
        cpus: processors that it may give out; None for all.
    """
    clients, agent, metrics = others
    url = f"http://{LOOPBACK}:{dashboard}"
    command = [
        *(sys.executable, "-m", "hssl_ray.study.ray.start", "--head", "--block"),
        f"--node-ip-address={LOOPBACK}",
        f"--port={port}",
        f"--dashboard-host={LOOPBACK}",
        f"--dashboard-port={dashboard}",
        f"--ray-client-server-port={clients}",
        f"--dashboard-agent-listen-port={agent}",
        f"--metrics-export-port={metrics}",
        f"--object-store-memory={OBJECT_STORE_BYTES}",
        f"--temp-dir={temporary}",
        *([] if cpus is None else [f"--num-cpus={cpus}"]),
    ]
    address = {"RAY_ADDRESS": f"{LOOPBACK}:{port}", "RAY_AUTH_TOKEN_PATH": str(token_file)}
    environment = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_TOKEN"}
    environment |= EVERYWHERE | LOCAL | address | {"HSSL_HOME": str(home), "MLFLOW_TRACKING_URI": mlflow}
    if prometheus is not None:
        environment["RAY_PROMETHEUS_HOST"] = prometheus
    return Service(
        name=RAY,
        url=url,
        command=tuple(command),
        environment=environment,
        # A head that answers still ends as a whole if its server of clients, the last to listen, fails to start; it
        # has 30 s for that, which an overloaded machine may not have.
        is_ready=lambda: not is_free(clients) and takes_jobs(url, token_file.read_text()),
        variables=address | {"RAY_API_SERVER_ADDRESS": url},
        folder=str(temporary),
    )


def takes_jobs(dashboard: str, token: str) -> bool:
    """Whether a dashboard lists its jobs to who has the token."""
    return answers(f"{dashboard}/api/jobs/", {"Authorization": f"Bearer {token.strip()}"})


def mlflow_server(*, port: int, store: str, artifacts: Path) -> Service:
    """An MLflow server on a store that others may use without it.

    Files lie where a client without a server puts them, by `file:` addresses, so that a study may be run with the
    server and without it. Every client is on this machine.

    Args:
        store: URI of the database, made or migrated already.
        artifacts: folder.
    """
    url = f"http://{LOOPBACK}:{port}"
    command = [
        *(sys.executable, "-m", "mlflow", "server", f"--host={LOOPBACK}", f"--port={port}", "--workers=1"),
        f"--default-artifact-root={artifacts.as_uri()}",
        "--no-serve-artifacts",
    ]
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    environment |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment["MLFLOW_BACKEND_STORE_URI"] = store  # it may hold a password, and all may read a command line
    return Service(
        name=MLFLOW,
        url=url,
        command=tuple(command),
        environment=environment,
        is_ready=lambda: answers(f"{url}/health"),
        variables={"MLFLOW_TRACKING_URI": url},
    )


def prometheus_server(*, port: int, folder: Path, targets: Path) -> Service | None:
    """A Prometheus that scrapes a Ray head and knows our alerts; None where none is installed.

    Args:
        folder: for its configuration and its data.
        targets: the file in which the head says where its metrics are; it may come later.
    """
    program = shutil.which("prometheus")
    if program is None:
        return None
    url = f"http://{LOOPBACK}:{port}"
    configuration = folder / "prometheus.yml"
    configuration.write_text(json.dumps(prometheus_configuration(targets), indent=1), encoding="utf-8")
    command = (
        program,
        f"--config.file={configuration}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--storage.tsdb.retention.time={RETENTION}",
        f"--web.listen-address={LOOPBACK}:{port}",
    )
    return Service(PROMETHEUS, url, command, dict(os.environ), lambda: answers(f"{url}/-/ready"))


def prometheus_configuration(targets: Path) -> dict[str, object]:
    """What Prometheus is told; JSON is YAML."""
    interval = f"{SCRAPE_SECONDS}s"
    return {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": [str(RULES)] if RULES.exists() else [],
        # Ray makes `targets` a link, and Prometheus is not told when a file behind a link changes.
        "scrape_configs": [
            {"job_name": "ray", "file_sd_configs": [{"files": [str(targets)], "refresh_interval": interval}]}
        ],
    }


def answers(url: str, headers: Mapping[str, str] | None = None) -> bool:
    """Whether a server says 200."""
    request = urllib.request.Request(url, headers=dict(headers or {}))  # noqa: S310  http, by us
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as answer:  # noqa: S310
            return int(answer.status) == 200
    except (OSError, ValueError):
        return False
