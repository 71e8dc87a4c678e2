"""A real `mlflow server` on loopback: the same promises over HTTP, and an outage that loses nothing."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from mlflow import MlflowClient

from hssl_ray.study.engine import Summary
from hssl_ray.study.ledger import Outcome
from hssl_ray.study.mlflow_store import initialise
from hssl_ray.study.spec import PlannedTrial
from hssl_ray.study.tracking import MlflowTracker
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.journal import Record
from tests.ports import free_port

pytestmark = pytest.mark.slow
START_SECONDS = 90


@contextmanager
def server(folder: Path, port: int) -> Iterator[str]:
    """A server on this port, and its address with a password that must show up nowhere."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", str(folder / "art")]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("a") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, cwd=folder, env=environment, start_new_session=True
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not answers(port):
            assert process.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < deadline, (folder / "server.log").read_text()
            time.sleep(0.2)
        yield f"http://ann:s3cret@127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def answers(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return int(answer.status) == 200
    except OSError:
        return False


class Study:
    study = "quickstart"
    digest = "d" * 64


def planned(seed: int) -> PlannedTrial:
    config = TrialConfig(seed=seed)
    return PlannedTrial(config.trial_id, config, "h_ssl-rotation", f"h_ssl-rotation-s{seed}")


def record(epoch: int) -> Record:
    return Record(epoch, {"train/loss": 1 / epoch, "probe/top1": float("nan")}, time=1_700_000_000.0 + epoch)


def test_an_outage_in_the_middle_of_a_study_costs_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    port, home = free_port(), tmp_path / "home"
    trials = [planned(seed) for seed in range(3)]
    with server(tmp_path, port) as uri:
        initialise(uri, home)
        tracker = MlflowTracker(uri, home)
        tracker.study_opened(Study(), 3)
        tracker.trial_started(trials[0], 1)
        tracker.trial_reported(trials[0], record(1))
        assert tracker.flush(60), caplog.text
        assert "s3cret" not in f"{tracker.address} {tracker.experiment_url} {tracker.view_url}"

    started = time.perf_counter()
    for epoch in range(2, 40):
        tracker.trial_reported(trials[0], record(epoch))
    tracker.trial_ended(trials[0], Outcome("finished"))
    for trial in trials[1:]:
        tracker.trial_started(trial, 1)
        tracker.trial_reported(trial, record(1))
        tracker.trial_ended(trial, Outcome("diverged", "diverged: epoch 2"))
    tracker.study_closed(Summary({"finished": 1, "diverged": 2}, 1.0))
    assert time.perf_counter() - started < 0.5, "the sweep does not wait for a server that is away"
    assert not tracker.flush(3)
    assert tracker.unsynced > 40

    with server(tmp_path, port) as uri:
        assert tracker.close(60), caplog.text
        client = MlflowClient(uri)
        experiment: Any = client.get_experiment_by_name("quickstart")
        runs = client.search_runs([experiment.experiment_id], "tags.`hssl.kind` = 'trial'")
        assert sorted((run.info.run_name, run.info.status) for run in runs) == [
            ("h_ssl-rotation-s0", "FINISHED"),
            ("h_ssl-rotation-s1", "FAILED"),
            ("h_ssl-rotation-s2", "FAILED"),
        ]
        (first,) = (run for run in runs if run.info.status == "FINISHED")
        history = client.get_metric_history(first.info.run_id, "train/loss")
        assert [metric.step for metric in history] == list(range(1, 40))
    waits = [entry for entry in caplog.records if entry.name.startswith("hssl_ray")]
    assert len([entry for entry in waits if entry.levelno >= logging.WARNING]) == 1, "one line for one outage"
    assert "s3cret" not in caplog.text
