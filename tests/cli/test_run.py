"""`hssl-ray run` from file to verdict, on real images, in a process of its own as a user has it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.cli.mlflow_store import mlflow_runs

TINY = """\
# Does the whole path hold?
study: tiny
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
  method: [a_ssl, h_ssl, frozen]
seeds: 2
checkpoints: {every_epochs: 1}
"""


def hssl_ray(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hssl_ray", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=240,
        check=False,
    )


@pytest.mark.slow
def test_a_study_file_becomes_a_comparison_and_running_it_again_repeats_nothing(tmp_path: Path) -> None:
    study = tmp_path / "tiny.yaml"
    study.write_text(TINY)
    first = hssl_ray("run", str(study), "--engine", "inline")
    assert first.returncode == 0, first.stderr
    assert "H-SSL − A-SSL" in first.stdout and "Page: " in first.stdout and "mlflow server" in first.stdout

    home = Path(os.environ["HSSL_HOME"])
    page = (home / "studies" / "tiny" / "report.html").read_text()
    assert "Does the whole path hold?" in page
    kinds = Counter(run.kind for run in mlflow_runs(home))
    assert kinds == {"trial": 6, "cell": 3, "study": 1}
    assert {run.status for run in mlflow_runs(home)} == {"FINISHED"}

    journals = {path: path.read_bytes() for path in home.glob("trials/*/journal.jsonl")}
    again = hssl_ray("run", str(study), "--engine", "inline")
    assert again.returncode == 0 and "started" not in again.stdout
    assert {path: path.read_bytes() for path in home.glob("trials/*/journal.jsonl")} == journals
    assert Counter(run.kind for run in mlflow_runs(home)) == kinds

    compared = json.loads(hssl_ray("compare", str(study), "--json").stdout)
    (pair,) = compared["pairs"]
    assert pair["baseline"]["n"] == pair["against"]["n"] == 2
    status = json.loads(hssl_ray("status", str(study), "--json").stdout)
    assert status["trials"] == 6


def test_an_invalid_study_is_exit_code_2_without_a_traceback(tmp_path: Path) -> None:
    study = tmp_path / "bad.yaml"
    study.write_text("study: bad\nbase:\n  epocs: 3\n")
    for command in ("run", "plan", "status", "compare"):
        told = hssl_ray(command, str(study))
        assert told.returncode == 2 and "Traceback" not in told.stderr
        assert told.stderr.startswith(f"{study}:3:3: base.epocs: ") and 'did you mean "epochs"' in told.stderr


def test_data_that_is_not_there_is_exit_code_3(tmp_path: Path) -> None:
    study = tmp_path / "cifar.yaml"
    study.write_text("study: cifar\nbase: {dataset: cifar10, epochs: 1, warmup_epochs: 0}\n")
    told = hssl_ray("run", str(study), "--engine", "inline")
    assert told.returncode == 3 and "Traceback" not in told.stderr
    assert "hssl-ray data prepare cifar10" in told.stderr


@pytest.mark.slow
@pytest.mark.faults
def test_ctrl_c_ends_in_order_and_the_same_command_goes_on(tmp_path: Path) -> None:
    study = tmp_path / "tiny.yaml"
    study.write_text(TINY.replace("epochs: 2\n  warmup", "epochs: 6\n  warmup"))
    driver = subprocess.Popen(
        [sys.executable, "-m", "hssl_ray", "run", str(study), "--engine", "inline"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    home = Path(os.environ["HSSL_HOME"])
    deadline = time.monotonic() + 120
    while not any(home.glob("trials/*/checkpoints/epoch-00002")) and time.monotonic() < deadline:
        time.sleep(0.1)
    driver.send_signal(signal.SIGINT)
    out, _ = driver.communicate(timeout=60)
    assert driver.returncode == 130, out
    assert "KILLED" in {run.status for run in mlflow_runs(home)}
    assert "RUNNING" not in {run.status for run in mlflow_runs(home)}

    again = hssl_ray("run", str(study), "--engine", "inline")
    assert again.returncode == 0, again.stderr
    assert Counter(run.kind for run in mlflow_runs(home))["trial"] == 6
    assert {run.status for run in mlflow_runs(home)} == {"FINISHED"}
