"""Real MLflow on SQLite: one run for each trial whatever happens, and all that a study's page promises."""

import json
import os
import pickletools
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs

import mlflow.pyfunc
import numpy as np
import pyarrow as pa
import pytest
import torch
from alembic import command
from mlflow import MlflowClient
from mlflow.entities import Experiment, Run
from mlflow.store.db.utils import _get_alembic_config, create_sqlalchemy_engine
from sqlalchemy import create_engine, inspect, text
from torch.amp import GradScaler

from hssl_ray.method.networks import build_network
from hssl_ray.study.engine import Summary
from hssl_ray.study.file.problems import StoreVersionError
from hssl_ray.study.file.sections import Checkpoints
from hssl_ray.study.layout import trial_folder
from hssl_ray.study.ledger import Outcome, State
from hssl_ray.study.results import results_table
from hssl_ray.study.spec import PlannedTrial
from hssl_ray.study.tracker.mlflow_store import initialise
from hssl_ray.study.tracker.shared_view import experiment_link
from hssl_ray.study.tracker.study_writer import CELLS_VIEW, SEEDS_VIEW
from hssl_ray.study.tracker.tracked import Provenance, params, tracking_uri
from hssl_ray.study.tracking import MlflowTracker
from hssl_ray.trial import checkpoint
from hssl_ray.trial.checkpoint_files import retain
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.journal import Record

DIGEST = "ab" * 32


@dataclass(frozen=True)
class FakeStudy:
    study: str = "quickstart"
    digest: str = "d" * 64
    checkpoints: Checkpoints = field(default_factory=Checkpoints)


@dataclass(frozen=True)
class FakeDataset:
    digest: str = DIGEST
    source: str = "a test"


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database made once: MLflow takes a second and a half for it."""
    home = tmp_path_factory.mktemp("store")
    initialise(tracking_uri(home), home)
    return home / "mlflow.db"


@pytest.fixture
def home(tmp_path: Path, empty_store: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(empty_store, home / "mlflow.db")
    return home


@pytest.fixture
def client(home: Path) -> MlflowClient:
    return MlflowClient(tracking_uri(home))


BEST = Checkpoints.model_validate({"keep_best": {"metric": "probe/top1"}})


def new_tracker(home: Path, study: str = "quickstart", checkpoints: Checkpoints | None = None) -> MlflowTracker:
    provenance = Provenance("Does H match A?", {"resume": "hssl-ray run q.yaml"}, "c0ffee", "job-7")
    tracker = MlflowTracker(tracking_uri(home), home, provenance=provenance, datasets=lambda name: FakeDataset())
    tracker.study_opened(FakeStudy(study, checkpoints=checkpoints or Checkpoints()), 6)
    return tracker


def planned(method: Any = "h_ssl", seed: int = 0) -> PlannedTrial:
    config = TrialConfig(method=method, seed=seed, epochs=4, warmup_epochs=1, width=0.0625, batch_size=100)
    return PlannedTrial(config.trial_id, config, f"{method}-rotation", f"{method}-rotation-s{seed}")


def record(epoch: int, attempt: int = 1, *, shift: float = 0.0, saved: str | None = None) -> Record:
    metrics = {"epoch": float(epoch), "train/loss": 1 / epoch + shift, "probe/top1": 0.2 * epoch + shift}
    return Record(epoch, metrics, saved, attempt, 1_700_000_000.0 + epoch + 100 * attempt)


def runs(client: MlflowClient, kind: str = "trial") -> list[Run]:
    everywhere = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(everywhere, f"tags.`hssl.kind` = '{kind}'"))


def the_experiment(client: MlflowClient) -> Experiment:
    experiment = client.get_experiment_by_name("quickstart")
    assert experiment is not None
    return experiment


def curve(client: MlflowClient, run: Run, key: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, key)]


def closed(tracker: MlflowTracker) -> None:
    assert tracker.close(60)
    assert tracker.synced


def test_a_trial_becomes_one_run_with_its_config_metrics_data_set_and_outcome(home: Path, client: MlflowClient) -> None:
    tracker, trial = new_tracker(home), planned()
    tracker.trial_started(trial, 1)
    for epoch in (1, 2, 3):
        tracker.trial_reported(trial, record(epoch))
    assert tracker.flush(60)
    (run,) = runs(client)
    assert run.info.status == "RUNNING"
    tracker.trial_ended(trial, Outcome("finished", metrics={"probe/top1": 0.6}, seconds=12.5))
    tracker.study_closed(Summary({"finished": 1}, 13.0))
    closed(tracker)

    (run,) = runs(client)
    assert (run.info.run_name, run.info.status) == ("h_ssl-rotation-s0", "FINISHED")
    assert run.data.params == params(trial.config)
    assert set(run.data.metrics) == {"train/loss", "probe/top1"}
    assert curve(client, run, "train/loss") == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    expected = {
        "hssl.study": "quickstart",
        "hssl.trial_id": trial.trial_id,
        "hssl.cell": "h_ssl-rotation",
        "hssl.method": "h_ssl",
        "hssl.seed": "0",
        "hssl.attempt": "1",
        "hssl.kind": "trial",
        "hssl.outcome": "finished",
        "hssl.git_commit": "c0ffee",
        "ray.submission_id": "job-7",
    }
    assert expected.items() <= run.data.tags.items()
    assert run.inputs is not None
    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("mnist-mini", DIGEST[:36])
    assert used.dataset.profile is not None
    assert DIGEST in used.dataset.profile
    (study,) = runs(client, "study")
    assert (study.info.status, study.data.tags["hssl.trials.finished"]) == ("FINISHED", "1")


def test_the_experiment_has_its_note_and_its_views(home: Path, client: MlflowClient) -> None:
    tracker = new_tracker(home)
    assert tracker.flush(60)
    experiment = the_experiment(client)
    assert experiment.tags["mlflow.note.content"].startswith("## quickstart\n\nDoes H match A?")
    assert "hssl-ray run q.yaml" in experiment.tags["mlflow.note.content"]
    for view in (SEEDS_VIEW, CELLS_VIEW):
        assert experiment.tags[view.tag_key] == view.tag_value
    assert experiment.artifact_location == (home / "artifacts" / "quickstart").as_uri()
    assert tracker.view_url == SEEDS_VIEW.link("http://127.0.0.1:5000", experiment.experiment_id)
    assert tracker.cells_url == CELLS_VIEW.link("http://127.0.0.1:5000", experiment.experiment_id)
    assert tracker.experiment_url == experiment_link("http://127.0.0.1:5000", experiment.experiment_id)
    assert tracker.database
    closed(tracker)


def test_a_second_driver_finds_the_run_again_and_skips_what_it_has(
    home: Path, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = planned()
    first = new_tracker(home)
    first.trial_started(trial, 1)
    for epoch in (1, 2, 3):
        first.trial_reported(trial, record(epoch))
    closed(first)  # the driver dies: no end was told, and epoch 3 comes after the last checkpoint
    (before,) = runs(client)
    assert before.info.status == "RUNNING"

    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    second = new_tracker(home)
    second.trial_started(trial, 2)
    for epoch in (1, 2, 3):
        second.trial_reported(trial, record(epoch, 2, shift=0.25 * (epoch == 3)))
    second.trial_reported(trial, record(4, 2))
    assert second.flush(60)
    (again,) = runs(client)
    assert (again.info.run_id, again.info.status) == (before.info.run_id, "RUNNING")
    second.trial_ended(trial, Outcome("finished", attempt=2))
    closed(second)
    (after,) = runs(client)
    assert (after.info.status, after.data.tags["hssl.attempt"]) == ("FINISHED", "2")
    assert [step for step, _ in curve(client, after, "train/loss")] == [1, 2, 3, 4]
    assert curve(client, after, "train/loss")[2][1] == pytest.approx(1 / 3), "a step that is there stays as it is"

    other = new_tracker(home)  # negative control: another trial does get another run
    other.trial_started(planned(seed=1), 1)
    other.trial_ended(planned(seed=1), Outcome("killed"))
    closed(other)
    assert sorted(run.info.status for run in runs(client)) == ["FINISHED", "KILLED"]


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("finished", "FINISHED"),
        ("pruned", "FINISHED"),
        ("diverged", "FAILED"),
        ("failed", "FAILED"),
        ("killed", "KILLED"),
    ],
)
def test_every_end_sets_a_terminal_status_and_a_new_attempt_takes_it_back(
    home: Path, client: MlflowClient, state: Any, status: str
) -> None:
    tracker, trial = new_tracker(home), planned()
    tracker.trial_started(trial, 1)
    tracker.trial_reported(trial, record(1))
    tracker.trial_ended(trial, Outcome(state, "" if state == "finished" else "error: why"))
    assert tracker.flush(60)
    (run,) = runs(client)
    assert (run.info.status, run.data.tags["hssl.outcome"]) == (status, state)
    tracker.trial_started(trial, 2)
    assert tracker.flush(60)
    assert runs(client)[0].info.status == "RUNNING"
    tracker.study_closed(Summary({"killed": 1}, 1.0, interrupted=2))
    closed(tracker)
    (run,) = runs(client)
    assert (run.info.status, run.data.tags["hssl.outcome"]) == ("KILLED", "killed"), "nothing stays RUNNING"
    assert runs(client, "study")[0].info.status == "KILLED"


def test_replay_writes_what_a_dead_driver_did_not_get_across(home: Path, client: MlflowClient) -> None:
    partly, never, interrupted = planned(seed=0), planned(seed=1), planned(seed=2)
    first = new_tracker(home)
    first.trial_started(partly, 1)
    first.trial_reported(partly, record(2))  # 1 was lost on the way
    first.trial_started(interrupted, 1)
    closed(first)
    journal = [record(epoch) for epoch in (1, 2, 3)]
    for _ in range(2):  # again and again is the same as once
        second = new_tracker(home)
        second.replay(partly, journal, Outcome("finished"))
        second.replay(never, journal, Outcome("diverged", "diverged: epoch 4"))
        second.replay(interrupted, journal[:1], None)
        second.study_closed(Summary({"finished": 1, "diverged": 1, "planned": 1}, 1.0))
        closed(second)
        found = {run.data.tags["hssl.seed"]: run for run in runs(client)}
        assert {seed: run.info.status for seed, run in found.items()} == {"0": "FINISHED", "1": "FAILED", "2": "KILLED"}
        assert sorted(curve(client, found["0"], "probe/top1")) == [(1, 0.2), (2, 0.4), (3, pytest.approx(0.6))]
        assert [step for step, _ in curve(client, found["1"], "probe/top1")] == [1, 2, 3]
        assert [step for step, _ in curve(client, found["2"], "probe/top1")] == [1]
        assert len(runs(client)) == 3


def test_two_studies_that_share_a_trial_share_its_run(home: Path, client: MlflowClient) -> None:
    trial = planned()
    for study in ("first", "second"):
        tracker = new_tracker(home, study)
        tracker.replay(trial, [record(1)], Outcome("finished"))
        closed(tracker)
    (run,) = runs(client)
    assert run.data.tags["hssl.study"] == "first"
    assert run.data.tags["hssl.in.second"] == "h_ssl-rotation"

    tracker = new_tracker(home, "third")
    tracker.trial_started(planned(seed=1), 1)
    assert tracker.flush(60)
    names = {study: tracker.results_table(study)["name"].to_pylist() for study in ("first", "second", "third", "none")}
    assert names == {"first": [trial.name], "second": [trial.name], "third": ["h_ssl-rotation-s1"], "none": []}
    table = tracker.results_table("second")
    assert table.schema.names[: len(results_table(home, "none").schema)] == results_table(home, "none").schema.names
    (row,) = table.to_pylist()
    expected = trial.config.model_dump() | {"study": "second", "cell": trial.cell, "state": "finished", "attempt": 1}
    assert expected.items() <= row.items()
    assert row["probe/top1"] == 0.2
    closed(tracker)


def test_two_drivers_at_once_make_one_run(home: Path, client: MlflowClient) -> None:
    trackers = [new_tracker(home, study) for study in ("first", "second", "third", "fourth")]
    for seed in range(3):
        for tracker in trackers:
            tracker.trial_started(planned(seed=seed), 1)
    for tracker in trackers:
        closed(tracker)
    assert len(runs(client)) == 3


def test_a_run_left_running_by_a_dead_driver_is_ended_even_if_nobody_takes_it_up(
    home: Path, client: MlflowClient
) -> None:
    dead = new_tracker(home)
    dead.trial_started(planned(), 1)
    closed(dead)
    next_one = new_tracker(home)
    next_one.study_closed(Summary({"planned": 1}, 0.1, interrupted=15))
    closed(next_one)
    assert [run.info.status for run in runs(client)] == ["KILLED"]


def commit(home: Path, trial: PlannedTrial, epoch: int, kept: Checkpoints | None = None, **metrics: float) -> str:
    network = build_network(trial.config)
    with torch.no_grad():
        for value in network.parameters():
            value.mul_(1 + 0.01 * epoch)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    folder = trial_folder(home, trial.trial_id)
    scaler = GradScaler("cpu", enabled=False)
    saved = checkpoint.commit(folder, trial.config, network, optimizer, scaler, epoch=epoch, metrics=metrics)
    retain(folder, (kept or Checkpoints()).retention)
    return str(saved.relative_to(folder))


def test_the_kept_checkpoint_is_a_model_that_loads_and_predicts_and_nothing_is_pickled(
    home: Path, client: MlflowClient
) -> None:
    tracker, trial = new_tracker(home), planned()
    tracker.trial_started(trial, 1)
    for epoch in (1, 2):
        tracker.trial_reported(trial, record(epoch, saved=commit(home, trial, epoch)))
    tracker.trial_ended(trial, Outcome("pruned", "pruned: epoch 2"))
    assert tracker.flush(60)
    tracker.trial_started(trial, 2)
    for epoch in (2, 3, 4):
        tracker.trial_reported(trial, record(epoch, 2, saved=commit(home, trial, epoch) if epoch == 4 else None))
    tracker.trial_ended(trial, Outcome("killed", "interrupted: SIGTERM", attempt=2))
    tracker.trial_started(trial, 3)
    tracker.trial_reported(trial, record(4, 3, shift=0.5, saved=commit(home, trial, 4)))
    for _ in range(2):
        tracker.trial_ended(trial, Outcome("finished", attempt=3))
    closed(tracker)

    (run,) = runs(client)
    (model,) = client.search_logged_models([run.info.experiment_id])
    assert (model.status, model.source_run_id) == ("READY", run.info.run_id)
    assert {metric.key: (metric.value, metric.step) for metric in model.metrics or ()} == {
        "train/loss": (0.25, 4),
        "probe/top1": (0.8, 4),
    }
    assert run.outputs is not None
    assert [output.step for output in run.outputs.model_outputs if output.model_id == model.model_id] == [4]
    assert [step for step, _ in curve(client, run, "probe/top1")] == [1, 2, 3, 4], "linking adds no point"

    images = np.random.default_rng(0).integers(0, 256, (5, 1, 28, 28), dtype=np.uint8)
    previous = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(tracking_uri(home))
    try:
        by_id = mlflow.pyfunc.load_model(f"models:/{model.model_id}").predict(images)
        by_run = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model").predict(images[:, 0] / 255)
    finally:
        mlflow.set_tracking_uri(previous)
    assert by_id.shape == (5, 10)
    np.testing.assert_allclose(by_id.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(by_run, by_id, rtol=1e-4, atol=1e-6)

    files = [path for path in (home / "artifacts").rglob("*") if path.is_file()]
    assert {"MLmodel", "weights.safetensors", "config.json"} <= {path.name for path in files}
    assert [path for path in files if is_pickle(path)] == []
    control = home / "control.pkl"
    torch.save({"a": 1}, control, _use_new_zipfile_serialization=False)
    assert is_pickle(control)


def is_pickle(path: Path) -> bool:
    if path.suffix in {".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib"} or path.read_bytes()[:2] == b"PK":
        return True
    try:
        return path.read_bytes()[:1] == b"\x80" and any(pickletools.genops(path.read_bytes()))
    except ValueError:
        return False


def cells(top: float) -> tuple[pa.Table, pa.Table]:
    rows = [(cell, epoch, top * epoch) for cell in ("a_ssl-rotation", "h_ssl-rotation") for epoch in (1, 2)]
    curves = {"cell": [row[0] for row in rows], "epoch": [row[1] for row in rows], "metric": ["probe/top1"] * 4}
    curves |= {"mean": [row[2] for row in rows], "std": [0.1] * 4, "n": [3] * 4, "low": [0.0] * 4, "high": [1.0] * 4}
    verdict = {"cell": "h_ssl-rotation", "baseline_cell": "a_ssl-rotation", "setting": "rotation"}
    return pa.table(curves), pa.Table.from_pylist([verdict | {"verdict": "equivalent", "difference": 0.01}])


def test_cells_are_written_once_and_anew_when_they_change(home: Path, client: MlflowClient) -> None:
    tracker = new_tracker(home)
    for seed in (0, 1):
        tracker.trial_started(planned(seed=seed), 1)
    tracker.write_cells(*cells(0.3))
    tracker.write_cells(*cells(0.3))
    assert tracker.flush(60)
    before = {run.info.run_name: run for run in runs(client, "cell")}
    assert set(before) == {"a_ssl-rotation", "h_ssl-rotation"}
    assert curve(client, before["h_ssl-rotation"], "probe/top1/mean") == [(1, 0.3), (2, 0.6)]
    assert before["h_ssl-rotation"].data.tags["hssl.verdict.verdict"] == "equivalent"
    assert before["h_ssl-rotation"].data.metrics["verdict/difference"] == 0.01
    assert {run.info.status for run in before.values()} == {"FINISHED"}
    assert before["h_ssl-rotation"].data.tags["hssl.method"] == "h_ssl"
    shared = params(planned().config)
    del shared["seed"]
    assert before["h_ssl-rotation"].data.params == shared, "what the seeds of a cell have in common"

    closed(tracker)
    again = new_tracker(home)
    again.write_cells(*cells(0.3))
    assert again.flush(60)
    assert {run.info.run_id for run in runs(client, "cell")} == {run.info.run_id for run in before.values()}
    again.write_cells(*cells(0.4))
    closed(again)
    after = {run.info.run_name: run for run in runs(client, "cell")}
    assert len(runs(client, "cell")) == 2
    assert curve(client, after["h_ssl-rotation"], "probe/top1/mean") == [(1, 0.4), (2, 0.8)]


def test_the_note_leads_to_the_two_cells_side_by_side(home: Path, client: MlflowClient) -> None:
    tracker = new_tracker(home)
    tracker.write_cells(*cells(0.3))
    tracker.write_summary("It does.\n\n| equivalent |", {})
    closed(tracker)
    note = the_experiment(client).tags["mlflow.note.content"]
    ids = {run.info.run_name: run.info.run_id for run in runs(client, "cell")}
    (link,) = re.findall(r"\[compare on rotation\]\((#/compare-runs\?runs=[^)]*)\)", note)
    asked = parse_qs(link.partition("?")[2])
    assert json.loads(asked["runs"][0]) == [ids["a_ssl-rotation"], ids["h_ssl-rotation"]]
    assert json.loads(asked["experiments"][0]) == [the_experiment(client).experiment_id]
    assert note.startswith("## It does.\n")


def test_the_verdict_lies_on_the_studys_run_and_above_the_runs(
    home: Path, client: MlflowClient, tmp_path: Path
) -> None:
    tracker = new_tracker(home)
    for verdict in ("undecided", "equivalent"):
        tracker.write_summary(f"| {verdict} |", {"comparison.json": b"{}", "report.html": b"<p>"})
    closed(tracker)
    (run,) = runs(client, "study")
    assert {item.path for item in client.list_artifacts(run.info.run_id)} == {
        "verdict.md",
        "comparison.json",
        "report.html",
    }
    assert Path(client.download_artifacts(run.info.run_id, "verdict.md", str(tmp_path))).read_text() == "| equivalent |"
    assert run.data.tags["mlflow.note.content"] == "| equivalent |"
    assert "| equivalent |" in the_experiment(client).tags["mlflow.note.content"]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    before = Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


def test_the_database_is_made_once_and_migrated_with_a_copy_kept(
    tmp_path: Path, empty_store: Path, elsewhere: Path
) -> None:
    fresh = tmp_path / "fresh"
    for _ in range(2):
        initialise(tracking_uri(fresh), fresh)
    assert [path.name for path in sorted(fresh.iterdir())] == ["mlflow.db", "mlflow.known", "mlflow.lock"]
    assert list(elsewhere.iterdir()) == [], "nothing is left in the working directory"

    old = tmp_path / "old"
    old.mkdir()
    shutil.copy(empty_store, old / "mlflow.db")
    engine = create_sqlalchemy_engine(tracking_uri(old))  # type: ignore[no-untyped-call]
    with engine.begin() as connection:
        settings = _get_alembic_config(tracking_uri(old))  # type: ignore[no-untyped-call]
        settings.attributes["connection"] = connection
        command.downgrade(settings, "-1")
    tables = set(inspect(engine).get_table_names())
    engine.dispose()
    initialise(tracking_uri(old), old)
    assert tables < set(inspect(engine).get_table_names())
    (copy,) = old.glob("mlflow.db.*")
    assert set(inspect(create_engine(f"sqlite:///{copy}")).get_table_names()) == tables

    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'fromthefuture'"))
    with pytest.raises(StoreVersionError, match="fromthefuture"):
        initialise(tracking_uri(old), old)


def trained(home: Path, trial: PlannedTrial, accuracies: list[float], first: int = 1, attempt: int = 1) -> list[Record]:
    """Epochs with these accuracies, each with a checkpoint; the best one and the last two of them stay."""
    done = []
    for epoch, accuracy in enumerate(accuracies, start=first):
        metrics = {"epoch": float(epoch), "probe/top1": accuracy}
        saved = commit(home, trial, epoch, BEST, **{"probe/top1": accuracy})
        done.append(Record(epoch, metrics, saved, attempt, 1_700_000_000.0 + epoch))
    return done


def assert_(condition: bool) -> None:
    assert condition


def test_the_last_attempts_checkpoint_is_kept_though_mlflow_is_attempts_behind(
    home: Path, client: MlflowClient
) -> None:
    """What the second attempt reports waits with the rest of the first, and is written with it."""
    tracker, trial, behind = new_tracker(home), planned(), threading.Event()
    tracker._outbox.post("a slow write", lambda: assert_(behind.wait(60)))
    for attempt, state, reason in ((1, "killed", "interrupted: SIGTERM"), (2, "finished", "")):
        tracker.trial_started(trial, attempt)
        tracker.trial_reported(trial, record(attempt, attempt, saved=commit(home, trial, attempt)))
        tracker.trial_ended(trial, Outcome(cast(State, state), reason, attempt=attempt))
    behind.set()
    closed(tracker)
    assert {name: epoch for name, (epoch, *_) in models(client).items()} == {"model": "2"}


def models(client: MlflowClient) -> dict[str, tuple[str, str, str | None]]:
    """By name: epoch, which checkpoint it is, and what it is best at."""
    (run,) = runs(client)
    found = client.search_logged_models([run.info.experiment_id])
    assert {model.status for model in found} <= {"READY"}
    assert len({model.name for model in found}) == len(found)
    return {
        model.name: (model.tags["hssl.epoch"], model.tags["hssl.checkpoint"], model.tags.get("hssl.best_metric"))
        for model in found
    }


def test_the_best_checkpoint_is_a_model_beside_the_last_and_none_is_there_twice(
    home: Path, client: MlflowClient
) -> None:
    """A trial that is stopped at its best epoch, goes on to a better and then worse ones, and ends at its best."""
    tracker, trial, top1 = new_tracker(home, checkpoints=BEST), planned(), "maximize probe/top1"

    def end_after(records: list[Record], attempt: int) -> dict[str, str]:
        tracker.trial_started(trial, attempt)
        for one in records:
            tracker.trial_reported(trial, one)
        for _ in range(2):
            tracker.trial_ended(trial, Outcome("finished", attempt=attempt))
        assert tracker.flush(60)
        (run,) = runs(client)
        return dict(run.data.tags)

    tags = end_after(trained(home, trial, [0.3, 0.5]), 1)
    assert models(client) == {"model": ("2", "last, best", top1)}
    assert tags["hssl.best_model_id"] == tags["hssl.model_id"]

    tags = end_after(trained(home, trial, [0.9, 0.4, 0.6], first=3, attempt=2), 2)
    assert models(client) == {"model": ("5", "last", None), "best": ("3", "best", top1)}
    assert (tags["hssl.model_epoch"], tags["hssl.best_epoch"], tags["hssl.best_metric"]) == ("5", "3", top1)
    best = client.get_logged_model(tags["hssl.best_model_id"])
    assert [(metric.key, metric.value, metric.step) for metric in best.metrics or ()] == [("probe/top1", 0.9, 3)]
    kept = trial_folder(home, trial.trial_id) / "checkpoints"
    for tag, epoch in (("hssl.model_id", 5), ("hssl.best_model_id", 3)):
        location = client.get_logged_model(tags[tag]).artifact_location.removeprefix("file://")
        (weights,) = Path(location).rglob("weights.safetensors")
        assert weights.read_bytes() == (kept / f"epoch-{epoch:05d}" / weights.name).read_bytes()

    end_after(trained(home, trial, [0.95], first=6, attempt=3), 3)
    assert models(client) == {"model": ("6", "last, best", top1)}
    closed(tracker)
    assert tracker.sent["checkpoints"] == 4


@pytest.mark.parametrize(
    ("accuracies", "there"),
    [([0.3, 0.9, 0.4, 0.6], {"model": "4", "best": "2"}), ([0.3, 0.4, 0.6, 0.6], {"model": "4"})],
)
def test_a_replay_sends_the_best_checkpoint_once(
    home: Path, client: MlflowClient, accuracies: list[float], there: dict[str, str]
) -> None:
    """Of equally good ones the newest. What a study without `keep_best` sees of them afterwards stays."""
    trial, outcome = planned(), Outcome("finished")
    records = trained(home, trial, accuracies)
    for checkpoints, sent in ((BEST, len(there)), (BEST, 0), (None, 0)):
        tracker = new_tracker(home, checkpoints=checkpoints)
        tracker.replay(trial, records, outcome)
        closed(tracker)
        assert tracker.sent["checkpoints"] == sent
        assert {name: epoch for name, (epoch, *_) in models(client).items()} == there


def test_where_no_checkpoint_has_the_metric_none_is_the_best(home: Path, client: MlflowClient) -> None:
    tracker, trial = new_tracker(home, checkpoints=BEST), planned()
    tracker.trial_started(trial, 1)
    tracker.trial_reported(trial, record(1, saved=commit(home, trial, 1)))
    tracker.trial_ended(trial, Outcome("finished"))
    closed(tracker)
    assert models(client) == {"model": ("1", "last", None)}
