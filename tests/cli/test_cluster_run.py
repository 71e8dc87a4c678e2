"""The whole product on a real local Ray: a driver killed in the middle, a trial of two workers, a submitted job."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from hssl_ray.trial.journal import read_records, written
from tests.cli.mlflow_store import mlflow_runs
from tests.ports import free_port
from tests.study.ray_cluster import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
STUDY = """\
# 24 trials of about a second.
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
seeds: 8
checkpoints: {every_epochs: 2}
"""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "hssl_ray", *arguments]


@pytest.mark.faults
def test_a_killed_study_of_24_trials_run_again_ends_with_24_of_each(tmp_path: Path) -> None:
    """SIGKILL in the middle: no trial lost, none trained twice, no run left RUNNING, no epoch behind the checkpoint."""
    study = tmp_path / "many.yaml"
    study.write_text(STUDY)
    home = Path(os.environ["HSSL_HOME"])
    with (tmp_path / "first.log").open("w") as log:
        driver = subprocess.Popen(
            command("run", str(study)), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    wait_until(
        lambda: len(list(home.glob("trials/*/outcome.json"))) >= 8 or driver.poll() is not None, 200, "8 trials end"
    )
    assert driver.poll() is None, (tmp_path / "first.log").read_text()
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()

    finished = {path.parent.name for path in home.glob("trials/*/outcome.json")}
    assert 8 <= len(finished) < 24
    journals = {name: (home / "trials" / name / "journal.jsonl").read_bytes() for name in finished}

    again = subprocess.run(command("run", str(study)), capture_output=True, text=True, timeout=280, check=False)
    assert again.returncode == 0, again.stdout + again.stderr
    status = json.loads(subprocess.run(command("status", str(study), "--json"), capture_output=True, check=True).stdout)
    assert status["trials"] == 24 and status["states"]["finished"] == 24
    assert {name: (home / "trials" / name / "journal.jsonl").read_bytes() for name in finished} == journals
    for path in home.glob("trials/*/journal.jsonl"):
        epochs = Counter(record["epoch"] for record in written(path))
        assert set(epochs) == {1, 2, 3, 4}
        assert all(count <= 2 for count in epochs.values())  # an epoch after the last checkpoint is trained once more

    runs = mlflow_runs(home)
    trials = [run for run in runs if run.kind == "trial"]
    assert len(trials) == len({run.trial_id for run in trials}) == 24
    assert {run.status for run in runs} == {"FINISHED"}
    assert all(run.steps == [1, 2, 3, 4] for run in trials)


def test_a_trial_of_two_workers_gives_what_one_worker_gives(tmp_path: Path) -> None:
    """Resources change neither a trial's identity nor, beyond rounding, its loss."""
    study = tmp_path / "pair.yaml"
    study.write_text(STUDY.replace("seeds: 8", "seeds: 1").replace("[a_ssl, h_ssl, frozen]", "[h_ssl]"))
    first_loss = {}
    for workers in (1, 2):
        home = tmp_path / f"home-{workers}"
        change = ["--set", f"resources.workers={workers}", "--set", "base.precision=fp32"]
        done = subprocess.run(
            command("run", str(study), *change),
            capture_output=True,
            text=True,
            timeout=280,
            env=os.environ | {"HSSL_HOME": str(home)},
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        (journal,) = home.glob("trials/*/journal.jsonl")
        records = read_records(journal)
        assert [record.epoch for record in records] == [1, 2, 3, 4]
        first_loss[workers] = journal.parent.name, records[0].metrics["train/loss"]
    assert first_loss[1][0] == first_loss[2][0]
    assert first_loss[2][1] == pytest.approx(first_loss[1][1], rel=1e-3)


def test_ray_job_submit_runs_the_quickstart(head: dict[str, str]) -> None:
    """The issue's command on a local head; the study is the shipped one, cut short."""
    home = Path(os.environ["HSSL_HOME"])
    short = ["base.epochs=1", "base.train_images=100", "base.batch_size=50", "base.width=0.125", "seeds=1"]
    changes = [part for item in short for part in ("--set", item)]
    submitted = subprocess.run(
        [
            head["RAY"], "job", "submit", "--address", head["DASHBOARD"], "--working-dir", ".",
            "--runtime-env-json", json.dumps({"env_vars": {"HSSL_HOME": str(home)}}),
            "--submission-id", "hssl-test", "--", "hssl-ray", "run", "studies/quickstart.yaml", *changes,
        ],
        capture_output=True, text=True, timeout=280, check=False, cwd=ROOT,
        env={name: value for name, value in head.items() if name != "RAY_ADDRESS"},
    )  # fmt: skip
    assert submitted.returncode == 0, submitted.stdout[-4000:] + submitted.stderr[-4000:]
    assert "succeeded" in submitted.stdout and "H-SSL" in submitted.stdout
    assert len(list(home.glob("trials/*/outcome.json"))) == 3


def submit(head: dict[str, str], study: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`hssl-ray submit` from a folder that is no checkout."""
    environment = {name: value for name, value in head.items() if name != "RAY_ADDRESS"}
    return subprocess.run(
        command("submit", str(study), "--address", head["DASHBOARD"], *arguments),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        cwd=study.parent,
        env=environment | {"HSSL_HOME": os.environ["HSSL_HOME"], "PYTHONPATH": str(ROOT)},
    )


def test_submit_runs_a_study_once_and_gives_back_its_exit_code(head: dict[str, str], tmp_path: Path) -> None:
    """Submitted twice at once, the second follows the first; the job's page says what it asks."""
    study = tmp_path / "sent.yaml"
    study.write_text(STUDY.replace("study: many", "study: sent").replace("seeds: 8", "seeds: 1"))
    first = submit(head, study, "--no-wait")
    assert first.returncode == 0, first.stdout + first.stderr
    second = submit(head, study)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "Submitted as job sent-1" in first.stdout
    assert "Job sent-1 runs this study already" in second.stdout and "H-SSL" in second.stdout
    home = Path(os.environ["HSSL_HOME"])
    assert len(list(home.glob("trials/*/outcome.json"))) == 3

    listed = subprocess.run(
        [head["RAY"], "job", "list", "--address", head["DASHBOARD"]], capture_output=True, text=True, env=head,
        check=True,
    )  # fmt: skip
    assert "'hssl.study': 'sent'" in listed.stdout and "24 trials of about a second." in listed.stdout

    study.write_text(study.read_text().replace("mnist-mini", "mnist").replace("study: sent", "study: lacking"))
    lacking = submit(head, study)
    assert lacking.returncode == 3, lacking.stdout + lacking.stderr
    assert "hssl-ray data prepare mnist" in lacking.stdout


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("MLFLOW_TRACKING_URI", "http://me:hunter2@127.0.0.1:5000"),
        ("MLFLOW_TRACKING_URI", "http://hunter2@127.0.0.1:5000"),
        ("HSSL_MIRROR", "s3://key:hunter2@bucket/studies"),
    ],
)
def test_a_secret_in_an_address_is_not_sent(tmp_path: Path, name: str, address: str) -> None:
    """Ray would show it to everyone who may list jobs; nothing is submitted, and the address is not printed."""
    study = tmp_path / "sent.yaml"
    study.write_text(STUDY)
    refused = subprocess.run(
        command("submit", str(study)),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {name: address},
    )
    assert refused.returncode == 2
    assert f"{name}: must hold no user" in refused.stderr and "hunter2" not in refused.stdout + refused.stderr


def test_where_no_cluster_answers_submit_says_so(tmp_path: Path) -> None:
    study = tmp_path / "sent.yaml"
    study.write_text(STUDY)
    address = f"http://127.0.0.1:{free_port()}"
    refused = subprocess.run(
        command("submit", str(study), "--address", address), capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert f"no Ray takes jobs at {address}" in refused.stderr and "Traceback" not in refused.stderr
