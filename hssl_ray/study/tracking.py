"""Keeps MLflow in step with a study: one experiment, exactly one run for each trial, runs for cells and the verdict.

The sweep tells what happens; an outbox writes it down later, in order, on its own thread. MLflow being slow, away or
broken costs the sweep nothing, and `replay` writes from the journals whatever an earlier driver did not get across.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from hssl_ray.data.errors import DataError
from hssl_ray.study.engine import Summary
from hssl_ray.study.layout import trial_folder
from hssl_ray.study.ledger import Outcome
from hssl_ray.study.mlflow_store import MlflowStore, is_server
from hssl_ray.study.outbox import Outbox
from hssl_ray.study.shared_view import experiment_link, shared_view
from hssl_ray.study.spec import PlannedTrial
from hssl_ray.study.tracked import (
    MEMBER,
    STATUS,
    CellFacts,
    Point,
    Provenance,
    RunFacts,
    cell_facts,
    cell_of,
    common_params,
    experiment_note,
    outcome_tags,
    params,
    points,
    redact,
    runs_table,
    trial_tags,
)
from hssl_ray.trial.journal import Record

log = logging.getLogger(__name__)

CLOSE_SECONDS = 30.0
DEFAULT_UI = "http://127.0.0.1:5000"
NOTE_LENGTH, TAG_LENGTH = 20_000, 8_000  # MLflow's limits
TRIALS = "tags.`hssl.kind` = 'trial'"
METHODS_VIEW = shared_view(only=TRIALS, group_by="hssl.method")
CELLS_VIEW = shared_view(only="tags.`hssl.kind` = 'cell'", charts="/mean$")
KEPT = frozenset({"finished", "pruned"})
WEIGHTS, CONFIG = "weights.safetensors", "config.json"
POINTS, MODEL_EPOCH = "hssl.points", "hssl.model_epoch"


class DatasetFacts(Protocol):
    """What is noted of a data set; `hssl_ray.data.manifest.Manifest` has it."""

    @property
    def digest(self) -> str: ...
    @property
    def source(self) -> str: ...


@dataclass
class _Trial:
    """What the outbox knows of one trial. Only its thread touches `run`, `logged` and `ended`."""

    planned: PlannedTrial
    waiting: list[Record] = field(default_factory=list)
    """Reported and not yet written; the lists of several reports become one batch when MLflow was away."""
    run: RunFacts | None = None
    logged: set[tuple[str, int]] = field(default_factory=set)
    kept: Record | None = None
    """The last epoch that came with a checkpoint."""
    ended: bool = False


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
        self._store = MlflowStore(uri, home)
        self._outbox = Outbox(judge=self._store.judge, describe=lambda error: redact(str(error).partition("\n")[0]))
        self._trials: dict[str, _Trial] = {}
        self._study = ""
        self._experiment_id: str | None = None
        self._verdict = ""
        self._known: dict[str, RunFacts] = {}  # runs of the experiment as they were when it was opened

    # What the sweep tells

    def study_opened(self, study: Any, planned_count: int) -> None:
        """Make the study's experiment, with its note and its views."""
        self._study = study.study
        facts = {"hssl.study": study.study, "hssl.study_digest": study.digest, "hssl.planned": str(planned_count)}
        self._outbox.post("the experiment", lambda: self._open_experiment(facts))

    def trial_started(self, planned: PlannedTrial, attempt: int) -> None:
        """Make the trial's run, or find it again, and set it RUNNING."""
        trial = self._trial(planned)
        self._outbox.post(f"the start of {planned.name}", lambda: self._start(trial, attempt))

    def trial_reported(self, planned: PlannedTrial, record: Record) -> None:
        """Write an epoch's metrics, unless the run has them."""
        trial = self._trial(planned)
        trial.waiting.append(record)
        self._outbox.post(f"epoch {record.epoch} of {planned.name}", lambda: self._write_waiting(trial))

    def trial_ended(self, planned: PlannedTrial, outcome: Outcome) -> None:
        """Write the kept checkpoint of a trial that ended well, the outcome and the terminal status."""
        trial = self._trial(planned)
        if outcome.state in KEPT:
            self._outbox.post(f"the checkpoint of {planned.name}", lambda: self._keep_model(trial))
        self._outbox.post(f"the end of {planned.name}", lambda: self._end(trial, outcome))

    def study_closed(self, summary: Summary) -> None:
        """End the runs of trials that did not end, as KILLED, and count the outcomes on the study's run."""
        trials = list(self._trials.values())
        self._outbox.post("the end of the study", lambda: self._close_study(trials, summary))

    def replay(self, planned: PlannedTrial, records: Iterable[Record], outcome: Outcome | None) -> None:
        """Write what a trial's journal holds and its run lacks; nothing where they agree.

        Args:
            planned: the trial.
            records: its journal.
            outcome: how its last attempt ended; None if it did not.
        """
        trial, kept = self._trial(planned), list(records)
        self._outbox.post(f"the journal of {planned.name}", lambda: self._replay(trial, kept, outcome))

    def write_cells(self, curves: pa.Table, verdicts: pa.Table) -> None:
        """Write one run for each cell; see `tracked.cell_facts` for the columns.

        A cell whose content is what its run holds is left alone. If it changed (another seed finished), the run is
        deleted and written anew: MLflow keeps every value ever given to a step, so writing over it would leave two.
        """
        cells = cell_facts(curves, verdicts)
        self._outbox.post("the cells", lambda: self._write_cells(cells))

    def write_summary(self, markdown: str, artifacts: Mapping[str, bytes]) -> None:
        """Write the verdict onto the study's run and above the experiment's runs.

        Args:
            markdown: the verdict.
            artifacts: files by name, `comparison.json`, `report.html`; they replace those of an earlier call.
        """
        self._verdict = markdown
        files = {"verdict.md": markdown.encode(), **artifacts}
        self._outbox.post("the verdict", lambda: self._write_summary(markdown, files))

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
    def ui_command(self) -> str | None:
        """What starts the UI where the store is a database; a server has one already."""
        return None if is_server(self._uri) else f"mlflow server --backend-store-uri {self.address} --host 127.0.0.1"

    @property
    def experiment_url(self) -> str | None:
        """Address of the study's page; None until MLflow has answered."""
        return None if self._experiment_id is None else experiment_link(self._server, self._experiment_id)

    @property
    def view_url(self) -> str | None:
        """Address of the charts with one mean curve for each method; None until MLflow has answered."""
        return None if self._experiment_id is None else METHODS_VIEW.link(self._server, self._experiment_id)

    @property
    def cells_url(self) -> str | None:
        """Address of the charts with the mean curve of each cell; None until MLflow has answered."""
        return None if self._experiment_id is None else CELLS_VIEW.link(self._server, self._experiment_id)

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
        return runs_table(self._trial_runs(study), study)

    def _trial_runs(self, study: str) -> list[RunFacts]:
        """The runs of a study's trials, those in other studies' experiments included."""
        experiment_id = self._store.experiment_id(study)
        own = self._store.runs(TRIALS, experiment_id) if experiment_id else []
        return own + self._store.runs(f"tags.`{MEMBER}{study}` != ''")

    @property
    def _server(self) -> str:
        return self.address.replace("***@", "").rstrip("/") if is_server(self._uri) else DEFAULT_UI

    def _trial(self, planned: PlannedTrial) -> _Trial:
        return self._trials.setdefault(planned.trial_id, _Trial(planned))

    # On the outbox's thread; each may run again after it failed half way

    def _open_experiment(self, facts: Mapping[str, str]) -> None:
        with self._store.exclusive():
            experiment_id = self._store.experiment(self._study)
        views = {view.tag_key: view.tag_value for view in (METHODS_VIEW, CELLS_VIEW)}
        self._store.tag_experiment(experiment_id, {**facts, **views, "mlflow.note.content": self._note()})
        self._known = {run.tags["hssl.trial_id"]: run for run in self._store.runs(TRIALS, experiment_id)}
        self._experiment_id = experiment_id

    def _note(self) -> str:
        return experiment_note(self._study, self._provenance, self._verdict)[:NOTE_LENGTH]

    def _experiment(self) -> str:
        if self._experiment_id is None:  # its own job was given up
            self._experiment_id = self._store.experiment(self._study)
        return self._experiment_id

    def _find_or_create(
        self, name: str, tags: Mapping[str, str], *, match: tuple[str, ...], everywhere: bool = False
    ) -> RunFacts:
        """The oldest run with these values of the `match` tags, else a new one.

        Younger ones, of drivers on two homes that raced for a server, go.
        """
        where = None if everywhere else self._experiment()
        expression = " AND ".join(f"tags.`{key}` = '{tags[key]}'" for key in match)
        with self._store.exclusive():
            found = self._store.runs(expression, where)
            if not found:
                self._store.create_run(self._experiment(), name, {**tags, **self._provenance.tags()})
                found = self._store.runs(expression, where)
        for double in found[1:]:
            self._store.delete_run(double.run_id)
        return found[0]

    def _run(self, trial: _Trial) -> RunFacts:
        if trial.run is None:
            planned = trial.planned
            run = self._known.pop(planned.trial_id, None) or self._find_or_create(
                planned.name,
                trial_tags(self._study, planned),
                match=("hssl.kind", "hssl.trial_id"),
                everywhere=True,
            )
            if run.params != params(planned.config):
                with self._store.exclusive():
                    run = self._describe(self._store.run(run.run_id), planned)
            if run.tags["hssl.study"] != self._study:
                self._store.log(run.run_id, tags={MEMBER + self._study: planned.cell})
            trial.logged = self._store.logged(run)
            trial.run = run
        return trial.run

    def _dataset(self, planned: PlannedTrial) -> tuple[str, str, str] | None:
        name = planned.config.dataset
        if self._datasets is None:
            return None
        try:
            facts = self._datasets(name)
        except DataError as error:
            log.warning("data set %s is not noted in MLflow: %s", name, error)
            return None
        return name, facts.digest, facts.source

    def _describe(self, run: RunFacts, planned: PlannedTrial) -> RunFacts:
        """Write the trial's data set, then its config, which tells that both are there."""
        config = params(planned.config)
        if run.params != config:
            dataset = self._dataset(planned)
            if dataset is not None:
                self._store.log_dataset(run.run_id, *dataset)
            self._store.log(run.run_id, params=config)
        return replace(run, params=config)

    def _start(self, trial: _Trial, attempt: int) -> None:
        run = self._run(trial)
        tags = {"hssl.attempt": str(attempt), "hssl.outcome": "running", **self._provenance.tags()}
        self._store.log(run.run_id, tags=tags)
        self._store.set_status(run.run_id, "RUNNING")
        trial.ended = False

    def _write_waiting(self, trial: _Trial) -> None:
        records = list(trial.waiting)
        if records:
            self._write(trial, records)
            del trial.waiting[: len(records)]

    def _write(self, trial: _Trial, records: Iterable[Record]) -> None:
        run = self._run(trial)
        new: dict[tuple[str, int], Point] = {}
        for record in records:
            if record.checkpoint is not None and record.epoch >= (trial.kept.epoch if trial.kept else 0):
                trial.kept = record
            for point in points(record):
                if (point.key, point.step) not in trial.logged:
                    new.setdefault((point.key, point.step), point)
        self._store.log(run.run_id, new.values())
        trial.logged |= new.keys()

    def _end(self, trial: _Trial, outcome: Outcome) -> None:
        run = self._run(trial)
        self._store.log(run.run_id, tags={**outcome_tags(outcome), POINTS: str(len(trial.logged))})
        self._store.set_status(run.run_id, STATUS[outcome.state])
        trial.ended = True
        trial.run, trial.logged = None, set()  # found again if it is tried again; a study may have very many

    def _keep_model(self, trial: _Trial) -> None:
        kept = trial.kept
        if kept is None or kept.checkpoint is None:
            return
        folder = trial_folder(self._home, trial.planned.trial_id) / kept.checkpoint
        if not (folder / WEIGHTS).is_file():  # on another machine's disk, or cleared away
            return
        run, dataset = self._run(trial), self._dataset(trial.planned)
        with tempfile.TemporaryDirectory() as staging:
            shutil.copyfile(folder / WEIGHTS, Path(staging, WEIGHTS))
            Path(staging, CONFIG).write_text(trial.planned.config.model_dump_json(indent=1), encoding="utf-8")
            model_id = self._store.log_model(
                run,
                Path(staging),
                step=kept.epoch,
                points=points(kept),
                tags=trial_tags(self._study, trial.planned),
                dataset=dataset[:2] if dataset else None,
            )
        self._store.log(run.run_id, tags={"hssl.model_id": model_id, MODEL_EPOCH: str(kept.epoch)})

    def _replay(self, trial: _Trial, records: list[Record], outcome: Outcome | None) -> None:
        saved = [record for record in records if record.checkpoint is not None]
        trial.kept = saved[-1] if saved else None
        known = self._known.get(trial.planned.trial_id)
        if known is not None and outcome is not None and _agrees(known, records, trial.kept, outcome):
            trial.ended = True
            return
        self._write(trial, records)
        if outcome is not None:
            if outcome.state in KEPT:
                self._keep_model(trial)
            self._end(trial, outcome)

    def _close_study(self, trials: Iterable[_Trial], summary: Summary) -> None:
        for trial in trials:
            if trial.run is not None and not trial.ended:
                self._kill(trial.run)
                trial.ended = True
        for run in self._known.values():  # left by a driver that died, and not taken up in this one
            if run.status == "RUNNING" and run.tags["hssl.study"] == self._study:
                self._kill(run)
        run = self._study_run()
        counts = {f"hssl.trials.{state}": str(count) for state, count in summary.counts.items()}
        self._store.log(run.run_id, tags={**counts, "hssl.seconds": f"{summary.seconds:.3f}"})
        interrupted = "KILLED" if summary.interrupted is not None else "FAILED"
        self._store.set_status(run.run_id, "FINISHED" if summary.ended_well else interrupted)

    def _kill(self, run: RunFacts) -> None:
        self._store.log(run.run_id, tags={"hssl.outcome": "killed"})
        self._store.set_status(run.run_id, "KILLED")

    def _study_run(self) -> RunFacts:
        tags = {"hssl.kind": "study", "hssl.study": self._study}
        return self._find_or_create(self._study, tags, match=("hssl.kind",))

    def _write_summary(self, markdown: str, files: Mapping[str, bytes]) -> None:
        run = self._study_run()
        self._store.log_artifacts(run.run_id, files)
        self._store.log(run.run_id, tags={"mlflow.note.content": redact(markdown)[:TAG_LENGTH]})
        self._store.tag_experiment(self._experiment(), {"mlflow.note.content": self._note()})
        if run.status == "RUNNING":
            self._store.set_status(run.run_id, "FINISHED")

    def _write_cells(self, cells: Iterable[CellFacts]) -> None:
        trials: dict[str, list[RunFacts]] = {}
        for run in self._trial_runs(self._study):
            trials.setdefault(cell_of(run, self._study), []).append(run)
        old: dict[str, list[RunFacts]] = {}
        for run in self._store.runs("tags.`hssl.kind` = 'cell'", self._experiment()):
            old.setdefault(run.tags["hssl.cell"], []).append(run)
        for facts in cells:
            self._write_cell(facts, common_params(trials.get(facts.cell, ())), old.get(facts.cell, ()))

    def _write_cell(self, facts: CellFacts, shared: Mapping[str, str], old: Iterable[RunFacts]) -> None:
        tags = {
            "hssl.kind": "cell",
            "hssl.study": self._study,
            "hssl.cell": facts.cell,
            "hssl.digest": facts.digest,
            **{f"hssl.{name}": shared[name] for name in ("method", "group") if name in shared},
            **facts.tags,
        }
        run = self._find_or_create(facts.cell, tags, match=("hssl.kind", "hssl.digest"))
        for outdated in old:
            if outdated.tags["hssl.digest"] != facts.digest:
                self._store.delete_run(outdated.run_id)
        if run.status == "RUNNING":  # new or half written; its start is the time of every point, so twice is once
            self._store.log(run.run_id, [point.at(run.start_time) for point in facts.points], params=shared)
            self._store.set_status(run.run_id, "FINISHED")


def _agrees(run: RunFacts, records: Iterable[Record], kept: Record | None, outcome: Outcome) -> bool:
    """Whether a run holds all of a trial's journal, outcome and checkpoint, by what its last end wrote on it."""
    told = {(point.key, point.step) for record in records for point in points(record)}
    tags = {**outcome_tags(outcome), POINTS: str(len(told))}
    if kept is not None and outcome.state in KEPT:
        tags[MODEL_EPOCH] = str(kept.epoch)
    return run.status == STATUS[outcome.state] and tags.items() <= run.tags.items()
