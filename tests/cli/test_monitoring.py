"""The dashboards and alerts against a real Prometheus that scrapes a real study on a real Ray."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hssl_ray.machine.services import answers
from tests.ports import free_port
from tests.prometheus import ask

ROOT = Path(__file__).parents[2]
BOARDS = sorted((ROOT / "dashboards" / "grafana").glob("*.json"))
RULES = ROOT / "dashboards" / "prometheus" / "rules.yml"
STUDY = """\
# A study that is long enough to be watched.
study: watched
base:
  dataset: mnist-mini
  train_images: 100
  batch_size: 50
  width: 0.125
  epochs: 40
  warmup_epochs: 1
  optimizer: adamw
  learning_rate: 0.003
grid:
  method: [a_ssl, h_ssl]
seeds: 4
early_stop: {grace_epochs: 2, reduction_factor: 2}
"""
SELDOM = {"New attempts, by why the last one ended", "Use of each GPU"}
"""Panels that are rightly empty where nothing failed and there is no GPU."""

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="Prometheus is not installed"),
]


@pytest.fixture
def prometheus(client: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """A Prometheus that scrapes the head every second; yields its address."""
    target = client["METRICS"]
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "ray", "static_configs": [{"targets": [target]}]}],
    }
    file = tmp_path / "prometheus.yml"
    file.write_text(json.dumps(config))
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={file}", f"--storage.tsdb.path={tmp_path / 'db'}"]
    server = subprocess.Popen(
        [*command, f"--web.listen-address={address}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while not answers(f"http://{address}/-/ready"):
            assert server.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
        yield f"http://{address}"
    finally:
        server.terminate()
        server.wait()


def queries() -> dict[tuple[str, str], str]:
    """Every panel's expression, as Grafana would send it with our study chosen, of those that the head has had; by
    dashboard and title.
    """
    found = {}
    for path in BOARDS:
        board = json.loads(path.read_text())
        for panel in board["panels"]:
            (target,) = panel["targets"]
            found[board["title"], panel["title"]] = target["expr"].replace("$study", "watched")
    return found


def running(prometheus: str) -> int | None:
    """Trials of our study that run, as the head has it."""
    found = ask(prometheus, "query", query='ray_hssl_trials{study="watched", state="running"}')["result"]
    return int(found[0]["value"][1]) if found else None


def test_every_panel_has_an_answer_while_a_study_runs(client: dict[str, str], prometheus: str, tmp_path: Path) -> None:
    study = tmp_path / "watched.yaml"
    study.write_text(STUDY)
    with (tmp_path / "log").open("w") as log:
        driver = subprocess.Popen(
            [sys.executable, "-m", "hssl_ray", "run", str(study)],
            env=client | {"HSSL_HOME": os.environ["HSSL_HOME"], "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    asked = queries()
    unanswered = set(asked)
    deadline = time.monotonic() + 200
    try:
        while driver.poll() is None and time.monotonic() < deadline:
            for panel in list(unanswered):
                if ask(prometheus, "query", query=asked[panel])["result"]:
                    unanswered.discard(panel)
            if {title for _, title in unanswered} <= SELDOM:
                break
            time.sleep(1)
        assert {title for _, title in unanswered} <= SELDOM, (unanswered, (tmp_path / "log").read_text()[-2000:])
        names = set(ask(prometheus, "label/__name__/values"))
        meanwhile = running(prometheus)
        (groups,) = ask(prometheus, "rules")["groups"]
    finally:
        driver.terminate()
        driver.wait()
    assert meanwhile
    deadline = time.monotonic() + 30
    while (left := running(prometheus)) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert left == 0, "a head that stays shows how the study ended, not what it did last"
    assert all(rule["health"] == "ok" for rule in groups["rules"])
    asked_for = set(re.findall(r"ray_[a-z_]+", " ".join(asked.values()) + RULES.read_text()))
    assert asked_for - names <= {"ray_hssl_restarts_total", "ray_node_gpus_utilization"}
