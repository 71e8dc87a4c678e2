"""Closes the runs that MLflow takes for running and nobody runs: their driver was killed and never came back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from hssl_ray.study.layout import study_folder
from hssl_ray.study.ledger import LEDGER, History, read_history, running_driver
from hssl_ray.study.tracker.tracked import STATUS, RunFacts, outcome_tags, studies_of

if TYPE_CHECKING:
    from hssl_ray.study.tracker.mlflow_store import MlflowStore

RUNNING = "attributes.status = 'RUNNING' AND tags.`hssl.kind` != ''"
RECONCILED = "hssl.reconciled_at"


@dataclass(frozen=True)
class Reconciled:
    """What became of one run that was RUNNING in MLflow."""

    name: str
    study: str
    status: str
    """FINISHED, FAILED or KILLED; RUNNING if it was left alone."""
    why: str


def reconcile(store: MlflowStore, home: Path, study: str | None = None) -> list[Reconciled]:
    """Close every run that MLflow takes for running and no driver runs, of one study or of all.

    A run is left alone while a driver runs a study that has it, and if no study of this home has it: on a shared
    server it may be running on another machine. A trial that the ledger saw end gets that status, all else KILLED.

    Raises:
        StoreUnavailable: MLflow does not answer.
        StoreVersionError: the database has another version's schema.
    """
    histories: dict[str, History] = {}
    found = []
    for run in store.all_runs(RUNNING):
        studies = studies_of(run)
        if study is None or study in studies:
            found.append(_reconcile(store, home, run, studies, histories))
    return found


def _reconcile(
    store: MlflowStore, home: Path, run: RunFacts, studies: list[str], histories: dict[str, History]
) -> Reconciled:
    ours = [name for name in studies if (study_folder(home, name) / LEDGER).is_file()]
    if not ours:
        return Reconciled(run.name, studies[0], "RUNNING", f"no study of {home} has it")
    for name in ours:
        if (driver := running_driver(home, name)) is not None:
            return Reconciled(run.name, name, "RUNNING", f"{driver} runs {name}")
        histories.setdefault(name, read_history(home, name, ()))
    trial_id = run.tags.get("hssl.trial_id", "")
    ends = [histories[name].outcomes[trial_id] for name in ours if trial_id in histories[name].outcomes]
    if ends:
        status, why, tags = STATUS[ends[-1].state], f"the ledger saw it end as {ends[-1].state}", outcome_tags(ends[-1])
    else:
        status, why, tags = "KILLED", "no driver runs it", {"hssl.outcome": "killed"}
    store.log(run.run_id, tags={**tags, RECONCILED: datetime.now(UTC).isoformat(timespec="seconds")})
    store.set_status(run.run_id, status)
    return Reconciled(run.name, ours[0], status, why)
