"""An outage of a server in the middle of a study: one line in the log, no wait, and no password anywhere."""

import logging
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from hssl_ray.study.engine import Summary
from hssl_ray.study.file.sections import Checkpoints
from hssl_ray.study.ledger import Outcome
from hssl_ray.study.spec import PlannedTrial
from hssl_ray.study.tracker.mlflow_store import initialise
from hssl_ray.study.tracking import MlflowTracker
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.journal import Record
from tests.faults.mlflow_server import MlflowServer

pytestmark = pytest.mark.faults


class Study:
    study = "outage"
    digest = "d" * 64
    checkpoints = Checkpoints()


def planned(seed: int) -> PlannedTrial:
    config = TrialConfig(seed=seed, temperature=0.123)  # the server has other studies
    return PlannedTrial(config.trial_id, config, "h_ssl-rotation", f"h_ssl-rotation-s{seed}")


def record(epoch: int) -> Record:
    return Record(epoch, {"train/loss": 1 / epoch, "probe/top1": float("nan")}, time=1_700_000_000.0 + epoch)


def test_an_outage_in_the_middle_of_a_study_costs_nothing(
    mlflow_server: MlflowServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home, trials = tmp_path / "home", [planned(seed) for seed in range(3)]
    uri = mlflow_server.uri.replace("://", "://ann:s3cret@")
    initialise(uri, home)
    tracker = MlflowTracker(uri, home)
    tracker.study_opened(Study(), 3)
    tracker.trial_started(trials[0], 1)
    tracker.trial_reported(trials[0], record(1))
    assert tracker.flush(60), caplog.text
    assert "s3cret" not in f"{tracker.address} {tracker.experiment_url} {tracker.view_url}"

    mlflow_server.stop()
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
    assert not tracker.flush(1)
    assert tracker.unsynced > 40

    mlflow_server.start()
    assert tracker.close(60), caplog.text
    client = MlflowClient(uri)
    experiment: Any = client.get_experiment_by_name("outage")
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
