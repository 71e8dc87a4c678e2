"""Runs that MLflow takes for running and nobody runs are closed; all others are left alone."""

import shutil
from pathlib import Path

import pytest

from hssl_ray.study.ledger import Ledger, Outcome
from hssl_ray.study.spec import PlannedTrial, Study
from hssl_ray.study.tracker.mlflow_store import MlflowStore, initialise
from hssl_ray.study.tracker.reconcile import RECONCILED, Reconciled, reconcile
from hssl_ray.study.tracker.study_writer import TRIALS
from hssl_ray.study.tracking import MlflowTracker
from tests.study import engine_programs as programs


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database made once: MLflow takes seconds for it."""
    home = tmp_path_factory.mktemp("store")
    initialise(f"sqlite:///{home}/mlflow.db", home)
    return home / "mlflow.db"


@pytest.fixture
def home(tmp_path: Path, empty_store: Path) -> Path:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return tmp_path


@pytest.fixture
def store(home: Path) -> MlflowStore:
    return MlflowStore(f"sqlite:///{home}/mlflow.db", home)


def left_running(home: Path, study: Study, *, in_ledger: bool = True) -> list[PlannedTrial]:
    """A study whose driver was killed: its trials are RUNNING in MLflow, and the ledger saw them start."""
    trials = list(study.planned())
    tracker = MlflowTracker(f"sqlite:///{home}/mlflow.db", home)
    tracker.study_opened(study, len(trials))
    for trial in trials:
        tracker.trial_started(trial, 1)
    assert tracker.close(60)
    if in_ledger:
        with Ledger.open(home, study.study) as ledger:
            ledger.planned(study.digest, study.model_dump(mode="json"), trials)
            for trial in trials:
                ledger.started(trial, 1)
    return trials


def statuses(store: MlflowStore) -> dict[str, str]:
    return {run.name: run.status for run in store.all_runs(TRIALS)}


def test_a_run_whose_driver_is_gone_is_killed_and_says_when(home: Path, store: MlflowStore) -> None:
    (trial,) = left_running(home, programs.study())
    assert reconcile(store, home) == [Reconciled(trial.name, "fake", "KILLED", "no driver runs it")]
    (run,) = store.all_runs(TRIALS)
    assert (run.status, run.tags["hssl.outcome"]) == ("KILLED", "killed") and run.tags[RECONCILED].endswith("+00:00")
    assert reconcile(store, home) == [], "once is enough"


def test_a_trial_that_the_ledger_saw_end_gets_that_status(home: Path, store: MlflowStore) -> None:
    first, second = left_running(home, programs.study(seeds=2))
    with Ledger.open(home, "fake") as ledger:
        ledger.ended(first.trial_id, Outcome("finished"))
        ledger.ended(second.trial_id, Outcome("failed", "error: RuntimeError: no"))
    assert {one.status for one in reconcile(store, home)} == {"FINISHED", "FAILED"}
    assert statuses(store) == {first.name: "FINISHED", second.name: "FAILED"}


def test_what_a_living_driver_runs_is_left_alone(home: Path, store: MlflowStore) -> None:
    (trial,) = left_running(home, programs.study())
    with Ledger.open(home, "fake"):
        (found,) = reconcile(store, home)
    assert found.status == "RUNNING" and "runs fake" in found.why
    assert statuses(store) == {trial.name: "RUNNING"}


def test_a_run_of_another_home_is_left_alone(home: Path, store: MlflowStore) -> None:
    (trial,) = left_running(home, programs.study(), in_ledger=False)
    (found,) = reconcile(store, home)
    assert found.status == "RUNNING" and "no study of" in found.why
    assert statuses(store) == {trial.name: "RUNNING"}


def test_one_study_may_be_named(home: Path, store: MlflowStore) -> None:
    left_running(home, programs.study(seeds=[1], name="mine"))
    left_running(home, programs.study(seeds=[2], name="other"))
    (found,) = reconcile(store, home, "mine")
    assert found.study == "mine"
    assert sorted(statuses(store).values()) == ["KILLED", "RUNNING"]
