"""F3 on the whole product: a study whose driver is killed in the middle, and run again."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from hssl_ray.trial.journal import written
from tests.cli.mlflow_store import mlflow_runs
from tests.faults.chaos import CHAOS
from tests.faults.table import Table
from tests.study.ray_cluster import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.faults]

SEEDS = 8 if CHAOS else 3
TRIALS, BEFORE = 3 * SEEDS, SEEDS
"""All of them, and how many have ended at least when the driver is killed."""
STUDY = f"""\
# Trials of about a second.
study: many
base:
  dataset: mnist-mini
  train_images: 100
  batch_size: 50
  width: 0.125
  epochs: 4
  warmup_epochs: 1
  optimizer: adamw
  learning_rate: 0.003
grid:
  method: [a_ssl, h_ssl, frozen]
seeds: {SEEDS}
checkpoints: {{every_epochs: 2}}
"""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "hssl_ray", *arguments]


def test_a_killed_study_run_again_ends_with_one_of_each(tmp_path: Path, figures: Table) -> None:
    """SIGKILL in the middle: no trial lost, none trained twice, no run left RUNNING, no epoch behind the checkpoint."""
    study = tmp_path / "many.yaml"
    study.write_text(STUDY)
    home = Path(os.environ["HSSL_HOME"])
    with (tmp_path / "first.log").open("w") as log:
        driver = subprocess.Popen(
            command("run", str(study)), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    wait_until(
        lambda: len(list(home.glob("trials/*/outcome.json"))) >= BEFORE or driver.poll() is not None, 200, "some end"
    )
    assert driver.poll() is None, (tmp_path / "first.log").read_text()
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()

    finished = {path.parent.name for path in home.glob("trials/*/outcome.json")}
    assert BEFORE <= len(finished) < TRIALS
    journals = {name: (home / "trials" / name / "journal.jsonl").read_bytes() for name in finished}

    again = subprocess.run(command("run", str(study)), capture_output=True, text=True, timeout=280, check=False)
    assert again.returncode == 0, again.stdout + again.stderr
    status = json.loads(subprocess.run(command("status", str(study), "--json"), capture_output=True, check=True).stdout)
    assert status["trials"] == TRIALS and status["states"]["finished"] == TRIALS
    assert {name: (home / "trials" / name / "journal.jsonl").read_bytes() for name in finished} == journals
    for path in home.glob("trials/*/journal.jsonl"):
        epochs = Counter(record["epoch"] for record in written(path))
        assert set(epochs) == {1, 2, 3, 4}
        assert all(count <= 2 for count in epochs.values())  # an epoch after the last checkpoint is trained once more

    runs = mlflow_runs(home)
    trials = [run for run in runs if run.kind == "trial"]
    assert len(trials) == len({run.trial_id for run in trials}) == TRIALS
    assert {run.status for run in runs} == {"FINISHED"}
    assert all(run.steps == [1, 2, 3, 4] for run in trials)
    figures.bad("F3", "trials lost, runs doubled or left RUNNING", 0, TRIALS)
