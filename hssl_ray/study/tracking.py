"""Keeps MLflow in step with a study: one experiment, exactly one run for each trial, runs for cells and the verdict.

The sweep tells what happens; an outbox writes it down later, in order, on its own thread. MLflow being slow, away or
broken costs the sweep nothing, and `replay` writes from the journals whatever an earlier driver did not get across.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hssl_ray.study.engine import Summary
from hssl_ray.study.ledger import Outcome
from hssl_ray.study.redaction import redact
from hssl_ray.study.spec import PlannedTrial
from hssl_ray.study.tracker.outbox import Outbox
from hssl_ray.study.tracker.shared_view import experiment_link
from hssl_ray.study.tracker.study_writer import (
    CELLS_VIEW,
    KEPT,
    SEEDS_VIEW,
    TRIALS,
    DatasetFacts,
    StudyWriter,
    Tracked,
    trial_runs,
)
from hssl_ray.study.tracker.tracked import Provenance, cell_facts, is_server, is_trial, runs_table, studies_of
from hssl_ray.trial.journal import Record

if TYPE_CHECKING:
    from hssl_ray.study.tracker.mlflow_store import MlflowStore

CLOSE_SECONDS = 30.0
PATIENCE_SECONDS = 30.0
"""How long the end of a run waits for an MLflow that does not answer; `hssl-ray sync` makes up for it."""
INTERRUPTED_SECONDS = 8.0
"""How long it waits for MLflow in all after a signal, whether it answers or not."""
LINGER_SECONDS = 0.25
"""After a trial's end: writing it at once would take a core from what brings up the next one, 0.1 s of each."""
DEFAULT_UI = "http://127.0.0.1:5000"


class MlflowTracker:
    """An observer of one study that writes to MLflow. Its methods return at once and raise nothing of MLflow's.

    Args:
        uri: tracking URI, a server or a database; `tracked.tracking_uri(home)` is the default one.
        home: see `hssl_ray.data.home`; artifacts lie under it unless a server keeps them.
        provenance: where the study was started from.
        datasets: facts of a data set by name; `DataError` means that no input is noted.
    """

    def __init__(
        self,
        uri: str,
        home: Path,
        *,
        provenance: Provenance | None = None,
        datasets: Callable[[str], DatasetFacts] | None = None,
    ) -> None:
        self._uri, self._home = uri, home
        self._provenance = provenance or Provenance()
        self._datasets = datasets
        self._outbox = Outbox(
            judge=lambda error: self._store.judge(error),
            describe=lambda error: redact(str(error).partition("\n")[0]),
            linger=LINGER_SECONDS,
        )
        self._trials: dict[str, Tracked] = {}
        self._opened: StudyWriter | None = None

    # What the sweep tells

    def study_opened(self, study: Any, planned_count: int) -> None:
        """Make the study's experiment, with its note and its views."""
        best = study.checkpoints.retention.best
        facts = {"hssl.study": study.study, "hssl.study_digest": study.digest, "hssl.planned": str(planned_count)}

        def open_experiment() -> None:
            if self._opened is None:
                self._opened = StudyWriter(self._store, self._home, study.study, self._provenance, self._datasets, best)
            self._opened.open(facts)

        self._outbox.post("the experiment", open_experiment)

    def trial_started(self, planned: PlannedTrial, attempt: int) -> None:
        """Make the trial's run, or find it again, and set it RUNNING."""
        trial = self._trial(planned)
        self._outbox.post(f"the start of {planned.name}", lambda: self._writer.start(trial, attempt))
        self._outbox.begin()  # not before: importing MLflow would take cores from what brings up the first trial

    def trial_reported(self, planned: PlannedTrial, record: Record) -> None:
        """Write an epoch's metrics, unless the run has them."""
        trial = self._trial(planned)
        if not self._outbox.full:  # else the memory would fill with what `sync` reads from the journal
            trial.waiting.append(record)
        self._outbox.post(f"epoch {record.epoch} of {planned.name}", lambda: self._writer.write_waiting(trial))

    def trial_ended(self, planned: PlannedTrial, outcome: Outcome) -> None:
        """Write the last and the best checkpoint of a trial that ended well, the outcome and the terminal status."""
        trial = self._trial(planned)
        if outcome.state in KEPT:
            self._outbox.post(f"the checkpoints of {planned.name}", lambda: self._writer.keep_models(trial))
        self._outbox.post(f"the end of {planned.name}", lambda: self._writer.end(trial, outcome))

    def study_closed(self, summary: Summary) -> None:
        """End the runs of trials that did not end, as KILLED, and count the outcomes on the study's run."""
        trials = list(self._trials.values())
        self._outbox.post("the end of the study", lambda: self._writer.close(trials, summary))

    def replay(self, planned: PlannedTrial, records: Iterable[Record], outcome: Outcome | None) -> None:
        """Write what a trial's journal holds and its run lacks; nothing where they agree.

        Args:
            planned: the trial.
            records: its journal; gone through when it is this job's turn, again if that fails.
            outcome: how its last attempt ended; None if it did not.
        """
        trial = self._trial(planned)
        self._outbox.post(f"the journal of {planned.name}", lambda: self._writer.replay(trial, list(records), outcome))

    def write_cells(self, curves: pa.Table, verdicts: pa.Table, compared: pa.Table | None = None) -> None:
        """Write one run for each cell; see `tracked.cell_facts` for the columns.

        A cell whose content is what its run holds is left alone. If it changed (another seed finished), the run is
        deleted and written anew: MLflow keeps every value ever given to a step, so writing over it would leave two.
        """
        cells = cell_facts(curves, verdicts, compared)
        self._outbox.post("the cells", lambda: self._writer.write_cells(cells))

    def write_summary(self, markdown: str, artifacts: Mapping[str, bytes]) -> None:
        """Write the verdict onto the study's run and above the experiment's runs.

        Args:
            markdown: the verdict.
            artifacts: files by name, `comparison.json`, `report.html`; they replace those of an earlier call.
        """
        files = {"verdict.md": markdown.encode(), **artifacts}
        self._outbox.post("the verdict", lambda: self._writer.write_summary(markdown, files))

    # What the command line asks

    @property
    def unsynced(self) -> int:
        """Writes that have not reached MLflow: those that wait and those given up."""
        return self._outbox.unsynced

    @property
    def synced(self) -> bool:
        """Whether MLflow has everything that was told."""
        return self.unsynced == 0

    @property
    def address(self) -> str:
        """The tracking URI as it may be shown."""
        return redact(self._uri)

    @property
    def database(self) -> bool:
        """Whether the store is a database, which needs a server for its UI, rather than a server."""
        return not is_server(self._uri)

    @property
    def experiment_url(self) -> str | None:
        """Address of the study's page; None until MLflow has answered."""
        return self._address_of(experiment_link)

    @property
    def view_url(self) -> str | None:
        """Address of the charts with one mean curve over the seeds of each cell; None until MLflow has answered."""
        return self._address_of(SEEDS_VIEW.link)

    @property
    def cells_url(self) -> str | None:
        """Address of the charts with the mean curve of each cell; None until MLflow has answered."""
        return self._address_of(CELLS_VIEW.link)

    @property
    def sent(self) -> Mapping[str, int]:
        """What MLflow lacked and was sent so far: `runs`, `points`, `outcomes`, `checkpoints`."""
        return {} if self._opened is None else self._opened.sent

    def drain(self, patience: float) -> bool:
        """Wait until everything told so far is written, unless nothing gets across for `patience` seconds."""
        return self._outbox.drain(patience)

    def flush(self, timeout: float) -> bool:
        """Wait until everything told so far is written, at most `timeout` seconds; whether it is."""
        return self._outbox.flush(timeout)

    def close(self, timeout: float = CLOSE_SECONDS) -> bool:
        """Write what waits, for at most `timeout` seconds, then stop; whether MLflow has everything."""
        return self._outbox.close(timeout)

    def results_table(self, study: str) -> pa.Table:
        """What MLflow knows of a study's trials, in the columns of `study.results.results_table`.

        Raises:
            MlflowException: MLflow does not answer.
        """
        return runs_table((run, study) for run in trial_runs(self._store, study))

    def _address_of(self, link: Callable[[str, str], str]) -> str | None:
        experiment_id = None if self._opened is None else self._opened.experiment_id
        server = self.address.replace("***@", "") if is_server(self._uri) else DEFAULT_UI
        return None if experiment_id is None else link(server, experiment_id)

    @cached_property
    def _store(self) -> MlflowStore:
        return _open_store(self._uri, self._home)

    @property
    def _writer(self) -> StudyWriter:
        assert self._opened is not None, "study_opened comes first"
        return self._opened

    def _trial(self, planned: PlannedTrial) -> Tracked:
        return self._trials.setdefault(planned.trial_id, Tracked(planned))


def _open_store(uri: str, home: Path) -> MlflowStore:
    # Here, because MLflow takes two seconds to import: for a study, the outbox's thread waits for it.
    from hssl_ray.study.tracker.mlflow_store import MlflowStore

    return MlflowStore(uri, home)


@dataclass(frozen=True)
class StoredTrials:
    """What a tracking store holds of all studies.

    `table` has one row for each trial and study that has it, in the columns of `study.results.results_table`;
    `unreadable` names the runs whose params are no trial of this version.
    """

    table: pa.Table
    unreadable: tuple[str, ...]


def read_store(uri: str, home: Path) -> StoredTrials:
    """Every trial run of every study in a store; none where the database does not exist.

    Raises:
        StoreUnavailable: MLflow does not answer.
        StoreVersionError: the database has another version's schema.
    """
    runs = _open_store(uri, home).all_runs(TRIALS)
    readable = [run for run in runs if is_trial(run)]
    ids = {run.run_id for run in readable}
    return StoredTrials(
        runs_table((run, study) for run in readable for study in studies_of(run)),
        tuple(run.name for run in runs if run.run_id not in ids),
    )
