"""`up`, a study submitted to it, `status`, `down`: real processes, all of them gone at the end, and nobody else's."""

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hssl_ray.machine.processes import MARK, marked
from hssl_ray.machine.record import Started, read
from hssl_ray.machine.services import answers
from tests.cli.mlflow_store import mlflow_runs
from tests.study.ray_cluster import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1500)]

STUDY = """\
# Does it arrive?
study: sent
base:
  dataset: mnist-mini
  train_images: 100
  batch_size: 50
  width: 0.125
  epochs: 2
  warmup_epochs: 1
  optimizer: adamw
  learning_rate: 0.003
grid:
  method: [a_ssl, h_ssl]
checkpoints: {every_epochs: 1}
"""


def hssl_ray(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """As a user's shell would, that knows nothing of a cluster."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_TRACKING"))}
    return subprocess.run(
        [sys.executable, "-m", "hssl_ray", *arguments],
        capture_output=True,
        text=True,
        env=kept | changes,
        timeout=600,
        check=False,
    )


@pytest.fixture
def neighbour() -> Iterator[subprocess.Popen[bytes]]:
    """What another home's `up` might have started."""
    code = "import time; time.sleep(3000)"
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {MARK: "another home's"})
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def services() -> Iterator[dict[str, Started]]:
    home = Path(os.environ["HSSL_HOME"])
    started = hssl_ray("up", "--cpus", "1")
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        yield {one.name: one for one in read(home)}
    finally:
        hssl_ray("down")


def listening(mark: str) -> set[str]:
    """The addresses on which the processes of a mark listen."""
    sockets = set()
    for process in marked(mark):
        for handle in Path(f"/proc/{process}/fd").iterdir():
            try:
                sockets.update(re.findall(r"socket:\[(\d+)\]", str(handle.readlink())))
            except OSError:
                continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                found.add(fields[1].partition(":")[0])
    return found


def jobs(head: Started) -> list[dict[str, Any]]:
    token = Path(head.variables["RAY_AUTH_TOKEN_PATH"]).read_text()
    asked = urllib.request.Request(f"{head.url}/api/jobs/", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(asked, timeout=60) as answer:
        found: list[dict[str, Any]] = json.load(answer)
    return found


def scraped(prometheus: Started) -> bool:
    with urllib.request.urlopen(f"{prometheus.url}/api/v1/targets", timeout=30) as answer:
        targets = json.load(answer)["data"]["activeTargets"]
    return bool(targets) and all(target["health"] == "up" for target in targets)


def test_up_submit_status_down(
    services: dict[str, Started], neighbour: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    home, study = Path(os.environ["HSSL_HOME"]), tmp_path / "sent.yaml"
    study.write_text(STUDY)
    head, store = services["Ray"], services["MLflow"]

    # Who may come in: from this machine, with the token, which only its owner reads.
    token = Path(head.variables["RAY_AUTH_TOKEN_PATH"])
    assert token.stat().st_mode & 0o777 == 0o600
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{head.url}/api/jobs/", timeout=60)
    loopback = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    for one in services.values():
        assert listening(one.mark) and listening(one.mark) <= loopback, one.name

    # Another home's `up` cannot have a port of ours, says so, and leaves nothing.
    port = store.url.rpartition(":")[2]
    refused = hssl_ray("up", "--mlflow-port", port, HSSL_HOME=str(home.with_name("other")))
    assert refused.returncode == 3 and refused.stderr.startswith(f"--mlflow-port: must be free, got {port}")
    assert read(home.with_name("other")) == []

    sent = hssl_ray("submit", str(study))
    assert sent.returncode == 0, sent.stdout + sent.stderr
    assert token.read_text() not in sent.stdout + sent.stderr
    status = json.loads(hssl_ray("status", str(study), "--json").stdout)
    assert status["states"] == {"finished": 2}
    watched = hssl_ray("status", str(study), "--watch")
    assert watched.returncode == 0 and "2 of 2 trials finished." in watched.stdout

    (job,) = jobs(head)
    assert job["status"] == "SUCCEEDED"
    facts = {"hssl.study": "sent", "hssl.question": "Does it arrive?", "hssl.mlflow": store.url}
    assert facts.items() <= job["metadata"].items()  # what the job's page shows

    if "Prometheus" in services:
        wait_until(lambda: scraped(services["Prometheus"]), 120, "every target of the head is scraped")

    again = hssl_ray("up")
    assert again.returncode == 0 and again.stdout.count("runs already") == len(services)
    asked = hssl_ray("doctor", "--json")
    found = {one["subject"]: one for one in json.loads(asked.stdout)["findings"]}
    assert found["Ray"]["level"] == found["Ray's address"]["level"] == found["MLflow's store"]["level"] == "ok"

    ended = hssl_ray("down")
    assert ended.returncode == 0 and ended.stdout.count(": ended") == len(services)
    assert not any(marked(one.mark) for one in services.values())
    assert not any(answers(one.url) for one in services.values())
    assert not Path(head.folder).exists() and not token.exists() and read(home) == []
    assert neighbour.poll() is None
    assert "nothing runs" in hssl_ray("down").stdout

    # The store is whole without the server, and a study goes on in it.
    runs = mlflow_runs(home)
    assert sorted(run.kind for run in runs) == ["cell", "cell", "study", "trial", "trial"]
    done = hssl_ray("run", str(study), "--engine", "inline")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(mlflow_runs(home)) == len(runs)
