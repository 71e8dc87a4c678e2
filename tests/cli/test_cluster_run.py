"""The whole product on a real local Ray: a trial of two workers, submitted jobs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hssl_ray.trial.journal import read_records
from tests.ports import free_port

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
STUDY = """\
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
seeds: 1
checkpoints: {every_epochs: 2}
"""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "hssl_ray", *arguments]


def test_a_trial_of_two_workers_gives_what_one_worker_gives(client: dict[str, str], tmp_path: Path) -> None:
    """Resources change neither a trial's identity nor, beyond rounding, its loss."""
    study = tmp_path / "pair.yaml"
    study.write_text(STUDY.replace("[a_ssl, h_ssl, frozen]", "[h_ssl]"))
    first_loss = {}
    for workers, engine, variables in ((1, "inline", dict(os.environ)), (2, "ray", client)):
        home = tmp_path / f"home-{workers}"
        changes = [f"resources.workers={workers}", "base.precision=fp32", "base.epochs=2"]
        done = subprocess.run(
            command("run", str(study), "--engine", engine, *(part for item in changes for part in ("--set", item))),
            capture_output=True,
            text=True,
            timeout=280,
            env=variables | {"HSSL_HOME": str(home)},
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        (journal,) = home.glob("trials/*/journal.jsonl")
        records = read_records(journal)
        assert [record.epoch for record in records] == [1, 2]
        first_loss[workers] = journal.parent.name, records[0].metrics["train/loss"]
    assert first_loss[1][0] == first_loss[2][0]
    assert first_loss[2][1] == pytest.approx(first_loss[1][1], rel=1e-3)


def test_ray_job_submit_runs_the_quickstart(client: dict[str, str]) -> None:
    """The issue's command on a local head; the study is the shipped one, cut short."""
    home = Path(os.environ["HSSL_HOME"])
    short = ["base.epochs=1", "base.train_images=100", "base.batch_size=50", "base.width=0.125", "seeds=1"]
    changes = [part for item in short for part in ("--set", item)]
    submitted = subprocess.run(
        [
            client["RAY"], "job", "submit", "--address", client["DASHBOARD"], "--working-dir", ".",
            "--runtime-env-json", json.dumps({"env_vars": {"HSSL_HOME": str(home)}}),
            "--submission-id", "hssl-test", "--", "hssl-ray", "run", "studies/quickstart.yaml", *changes,
        ],
        capture_output=True, text=True, timeout=280, check=False, cwd=ROOT,
        env={name: value for name, value in client.items() if name != "RAY_ADDRESS"},
    )  # fmt: skip
    assert submitted.returncode == 0, submitted.stdout[-4000:] + submitted.stderr[-4000:]
    assert "succeeded" in submitted.stdout and "H-SSL" in submitted.stdout
    assert f"Ray dashboard while the study runs: {client['DASHBOARD']}\n" in submitted.stdout, "on this very cluster"
    assert len(list(home.glob("trials/*/outcome.json"))) == 3


def submit(client: dict[str, str], study: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`hssl-ray submit` from a folder that is no checkout."""
    environment = {name: value for name, value in client.items() if name != "RAY_ADDRESS"}
    return subprocess.run(
        command("submit", str(study), "--address", client["DASHBOARD"], *arguments),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        cwd=study.parent,
        env=environment | {"HSSL_HOME": os.environ["HSSL_HOME"], "PYTHONPATH": str(ROOT)},
    )


def test_submit_runs_a_study_once_and_gives_back_its_exit_code(client: dict[str, str], tmp_path: Path) -> None:
    """Submitted twice at once, the second follows the first; the job's page says what it asks."""
    study = tmp_path / "sent.yaml"
    study.write_text(STUDY.replace("study: many", "study: sent"))
    first = submit(client, study, "--no-wait")
    assert first.returncode == 0, first.stdout + first.stderr
    second = submit(client, study)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "Submitted as job sent-1" in first.stdout
    assert "Job sent-1 runs this study already" in second.stdout and "H-SSL" in second.stdout
    home = Path(os.environ["HSSL_HOME"])
    assert len(list(home.glob("trials/*/outcome.json"))) == 3

    listed = subprocess.run(
        [client["RAY"], "job", "list", "--address", client["DASHBOARD"]], capture_output=True, text=True, env=client,
        check=True,
    )  # fmt: skip
    assert "'hssl.study': 'sent'" in listed.stdout and "Trials of about a second." in listed.stdout

    study.write_text(study.read_text().replace("mnist-mini", "mnist").replace("study: sent", "study: lacking"))
    lacking = submit(client, study)
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
