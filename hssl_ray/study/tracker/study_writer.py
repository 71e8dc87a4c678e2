"""What is written to MLflow for one study. Every method may run again after it failed half way; one thread runs all."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hssl_ray.data.errors import DataError
from hssl_ray.study.engine import Summary
from hssl_ray.study.layout import trial_folder
from hssl_ray.study.ledger import Outcome
from hssl_ray.study.redaction import redact
from hssl_ray.study.spec import PlannedTrial
from hssl_ray.study.tracker.kept_checkpoints import BEST, BEST_EPOCH, LAST, LAST_EPOCH, KeptCheckpoints, epoch_of
from hssl_ray.study.tracker.shared_view import comparison_link, shared_view
from hssl_ray.study.tracker.tracked import (
    MEMBER,
    STATUS,
    CellFacts,
    Point,
    Provenance,
    RunFacts,
    TrackedModel,
    cell_of,
    common_params,
    experiment_note,
    outcome_tags,
    params,
    points,
    trial_tags,
)
from hssl_ray.trial.checkpoint_files import CONFIG, WEIGHTS, Best
from hssl_ray.trial.journal import Record

if TYPE_CHECKING:
    from hssl_ray.study.tracker.mlflow_store import MlflowStore

log = logging.getLogger(__name__)

NOTE_LENGTH, TAG_LENGTH = 20_000, 8_000  # MLflow's limits
TRIALS = "tags.`hssl.kind` = 'trial'"
SEEDS_VIEW = shared_view(only=TRIALS, group_by="hssl.cell", charts="^(probe/top1|train/loss)$")
"""By cell, not by method: a mean over rotations and scales answers no question. Without the hundreds of charts of
`equivariance/`, which keep the UI loading for a minute."""
CELLS_VIEW = shared_view(only="tags.`hssl.kind` = 'cell'", charts="^(probe/top1|train/loss)/(low|mean|high)$")
"""Mean and interval by epoch, side by side; the UI draws no bands."""
BASELINE, SETTING = "hssl.verdict.baseline_cell", "hssl.verdict.setting"
MOST_LINKS = 12
KEPT = frozenset({"finished", "pruned"})
POINTS = "hssl.points"
LAST_ID, BEST_ID = "hssl.model_id", "hssl.best_model_id"
"""Tags of a trial's run; if the last checkpoint is the best one, too, both are the same."""


class DatasetFacts(Protocol):
    """What is noted of a data set; `hssl_ray.data.manifest.Manifest` has it."""

    @property
    def digest(self) -> str: ...
    @property
    def source(self) -> str: ...


@dataclass
class Tracked:
    """What is known of one trial. All but `waiting` belongs to the thread that writes."""

    planned: PlannedTrial
    waiting: list[Record] = field(default_factory=list)
    """Reported and not yet written; those of several reports become one batch when MLflow was away."""
    run: RunFacts | None = None
    logged: dict[tuple[str, int], Point] = field(default_factory=dict)
    """What the run holds, by metric and epoch."""
    kept: Record | None = None
    """The last epoch that came with a checkpoint."""
    ended: bool = False


def trial_runs(store: MlflowStore, study: str) -> list[RunFacts]:
    """The runs of a study's trials, those in other studies' experiments included."""
    experiment_id = store.experiment_id(study)
    own = store.runs(TRIALS, experiment_id) if experiment_id else []
    return own + store.runs(f"tags.`{MEMBER}{study}` != ''")


class StudyWriter:
    """Writes one study's experiment.

    Args:
        store: where to.
        home: where the checkpoints of trials lie.
        study: its name.
        provenance: where it was started from.
        datasets: facts of a data set by name; `DataError` means that no input is noted.
        best: which checkpoint is the best, if the study keeps it.
    """

    def __init__(
        self,
        store: MlflowStore,
        home: Path,
        study: str,
        provenance: Provenance,
        datasets: Callable[[str], DatasetFacts] | None,
        best: Best | None,
    ) -> None:
        self._store, self._home, self._study, self._best = store, home, study, best
        self._provenance, self._datasets = provenance, datasets
        self._known: dict[str, RunFacts] = {}  # runs of the experiment as they were when it was opened
        self.experiment_id: str | None = None
        """None until MLflow has answered."""
        self._cells: dict[str, str] = {}  # run ids by cell
        self._pairs: dict[str, tuple[str, str]] = {}  # the two cells that an answer is about, by setting
        self.sent = Counter[str]()
        """What MLflow lacked and was sent: `runs`, `points`, `outcomes`, `checkpoints`."""

    def open(self, facts: Mapping[str, str]) -> None:
        """Make the experiment, with its note and views, and look at the runs it has."""
        with self._store.exclusive():
            experiment_id = self._store.experiment(self._study)
        views = {view.tag_key: view.tag_value for view in (SEEDS_VIEW, CELLS_VIEW)}
        self._store.tag_experiment(experiment_id, {**facts, **views, **self._note()})
        self._known = {run.tags["hssl.trial_id"]: run for run in self._store.runs(TRIALS, experiment_id)}
        self.experiment_id = experiment_id

    def _note(self, verdict: str = "") -> dict[str, str]:
        """The experiment's note; none from who does not know where the study was started from, to keep a better one."""
        if self._provenance == Provenance():
            return {}
        note = experiment_note(self._study, self._provenance, verdict, self._links() if verdict else None)
        return {"mlflow.note.content": note[:NOTE_LENGTH]}

    def _links(self) -> dict[str, str]:
        """Where the UI answers the study's question; without a server's name, so they hold on any."""
        experiment_id = self._experiment()
        links = {
            f"compare on {setting}": comparison_link("", experiment_id, [self._cells[cell] for cell in pair])
            for setting, pair in list(self._pairs.items())[:MOST_LINKS]
            if self._cells.keys() >= set(pair)
        }
        return {
            **{name: link.removeprefix("/") for name, link in links.items()},
            "curves of the seeds by cell": SEEDS_VIEW.link("", experiment_id).removeprefix("/"),
            "mean curves of the cells": CELLS_VIEW.link("", experiment_id).removeprefix("/"),
        }

    def _experiment(self) -> str:
        if self.experiment_id is None:  # its own job was given up
            self.experiment_id = self._store.experiment(self._study)
        return self.experiment_id

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
                self.sent["runs"] += 1
                found = self._store.runs(expression, where)
        for double in found[1:]:
            self._store.delete_run(double.run_id)
        return found[0]

    def _run(self, trial: Tracked) -> RunFacts:
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

    def start(self, trial: Tracked, attempt: int) -> None:
        """Make the trial's run, or find it again, and set it RUNNING."""
        run = self._run(trial)
        tags = {"hssl.attempt": str(attempt), "hssl.outcome": "running", **self._provenance.tags()}
        self._store.log(run.run_id, tags=tags)
        self._store.set_status(run.run_id, "RUNNING")
        trial.ended = False

    def write_waiting(self, trial: Tracked) -> None:
        """Write the epochs that wait."""
        records = list(trial.waiting)
        if records:
            self._write(trial, records)
            del trial.waiting[: len(records)]

    def _write(self, trial: Tracked, records: Iterable[Record]) -> None:
        run = self._run(trial)
        new: dict[tuple[str, int], Point] = {}
        for record in records:
            if record.checkpoint is not None and (trial.kept is None or _place(record) >= _place(trial.kept)):
                trial.kept = record
            for point in points(record):
                if (point.key, point.step) not in trial.logged:
                    new.setdefault((point.key, point.step), point)
        self._store.log(run.run_id, new.values())
        trial.logged |= new
        self.sent["points"] += len(new)

    def end(self, trial: Tracked, outcome: Outcome) -> None:
        """Write the outcome and the terminal status."""
        run = self._run(trial)
        self._store.log(run.run_id, tags={**outcome_tags(outcome), POINTS: str(len(trial.logged))})
        self._store.set_status(run.run_id, STATUS[outcome.state])
        trial.ended = True
        self.sent["outcomes"] += 1
        trial.run, trial.logged = None, {}  # found again if it is tried again; there may be very many
        if trial.kept is not None and trial.kept.attempt <= outcome.attempt:
            trial.kept = None  # else the next attempt has begun, and was written with this one's last epochs

    def _kept(self, trial: Tracked) -> KeptCheckpoints | None:
        if trial.kept is None or trial.kept.checkpoint is None:
            return None
        workdir = trial_folder(self._home, trial.planned.trial_id)
        return KeptCheckpoints.of(workdir, trial.kept.checkpoint, self._best)

    def keep_models(self, trial: Tracked) -> None:
        """Write the last checkpoint, and the best one if the study keeps it, as models, if they can be read here."""
        kept = self._kept(trial)
        if kept is None:
            return
        run, dataset = self._run(trial), self._dataset(trial.planned)
        with tempfile.TemporaryDirectory() as staging:
            models = {
                name: None if path is None else self._model(trial, path, Path(staging, name), kept.model_tags(name))
                for name, path in kept.models.items()
            }
            ids = self._store.log_models(run, models, dataset[:2] if dataset else None)
        best = {} if kept.best is None else {BEST_ID: ids.get(BEST, ids[LAST])}
        self._store.log(run.run_id, tags={LAST_ID: ids[LAST], **best, **kept.run_tags})
        self.sent["checkpoints"] += len(kept.epochs - {run.tags.get(LAST_EPOCH), run.tags.get(BEST_EPOCH)})

    def _model(self, trial: Tracked, checkpoint: Path, staging: Path, tags: Mapping[str, str]) -> TrackedModel:
        staging.mkdir()
        shutil.copyfile(checkpoint / WEIGHTS, staging / WEIGHTS)
        (staging / CONFIG).write_text(trial.planned.config.model_dump_json(indent=1), encoding="utf-8")
        epoch = epoch_of(checkpoint)
        measured = tuple(point for point in trial.logged.values() if point.step == epoch)
        return TrackedModel(staging, epoch, measured, {**trial_tags(self._study, trial.planned), **tags})

    def replay(self, trial: Tracked, records: list[Record], outcome: Outcome | None) -> None:
        """Write what a trial's journal holds and its run lacks."""
        saved = [record for record in records if record.checkpoint is not None]
        trial.kept = saved[-1] if saved else None
        known = self._known.get(trial.planned.trial_id)
        models = self._kept(trial)
        if known is not None and outcome is not None and _agrees(known, records, models, outcome):
            trial.ended, trial.kept = True, None
            return
        self._write(trial, records)
        if outcome is not None:
            if outcome.state in KEPT:
                self.keep_models(trial)
            self.end(trial, outcome)

    def close(self, trials: Iterable[Tracked], summary: Summary) -> None:
        """End, as KILLED, the runs of trials that did not end, and count the outcomes on the study's run."""
        for trial in trials:
            if trial.run is not None and not trial.ended:
                self._kill(trial.run)
                trial.ended = True
        for run in self._known.values():  # left by a driver that died, and not taken up in this one
            if run.status == "RUNNING" and run.tags["hssl.study"] == self._study:
                self._kill(run)
        run = self._study_run()
        counts = {f"hssl.trials.{state}": str(count) for state, count in summary.counts.items()}
        lasted = {"hssl.seconds": f"{summary.seconds:.3f}"} if summary.seconds else {}  # none if only told again
        self._store.log(run.run_id, tags={**counts, **lasted})
        interrupted = "KILLED" if summary.interrupted is not None else "FAILED"
        self._store.set_status(run.run_id, "FINISHED" if summary.ended_well else interrupted)

    def _kill(self, run: RunFacts) -> None:
        self._store.log(run.run_id, tags={"hssl.outcome": "killed"})
        self._store.set_status(run.run_id, "KILLED")

    def _study_run(self) -> RunFacts:
        tags = {"hssl.kind": "study", "hssl.study": self._study}
        return self._find_or_create(self._study, tags, match=("hssl.kind",))

    def write_summary(self, markdown: str, files: Mapping[str, bytes]) -> None:
        """Write the verdict onto the study's run and above the experiment's runs."""
        run = self._study_run()
        self._store.log_artifacts(run.run_id, files)
        self._store.log(run.run_id, tags={"mlflow.note.content": redact(markdown)[:TAG_LENGTH]})
        self._store.tag_experiment(self._experiment(), self._note(markdown))
        if run.status == "RUNNING":
            self._store.set_status(run.run_id, "FINISHED")

    def write_cells(self, cells: Iterable[CellFacts]) -> None:
        """Write one run for each cell that changed; the run it had before is deleted."""
        trials: dict[str, list[RunFacts]] = {}
        for run in trial_runs(self._store, self._study):
            trials.setdefault(cell_of(run, self._study), []).append(run)
        old: dict[str, list[RunFacts]] = {}
        for run in self._store.runs("tags.`hssl.kind` = 'cell'", self._experiment()):
            old.setdefault(run.tags["hssl.cell"], []).append(run)
        for facts in cells:
            for key, baseline in facts.tags.items():
                if key.startswith(BASELINE):
                    setting = facts.tags[SETTING + key.removeprefix(BASELINE)]
                    self._pairs[setting] = baseline, facts.cell
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
        self._cells[facts.cell] = run.run_id
        for outdated in old:
            if outdated.tags["hssl.digest"] != facts.digest:
                self._store.delete_run(outdated.run_id)
        if run.status != "FINISHED":  # new or half written; its start is the time of every point, so twice is once
            self._store.log(run.run_id, [point.at(run.start_time) for point in facts.points], params=shared)
            self._store.set_status(run.run_id, "FINISHED")


def _agrees(run: RunFacts, records: Iterable[Record], kept: KeptCheckpoints | None, outcome: Outcome) -> bool:
    """Whether a run holds all of a trial's journal, outcome and checkpoints, by what its last end wrote on it."""
    told = {(point.key, point.step) for record in records for point in points(record)}
    tags = {**outcome_tags(outcome), POINTS: str(len(told))}
    if kept is not None and outcome.state in KEPT:
        tags |= kept.run_tags
    told_all = all(run.tags.get(key, "") == value for key, value in tags.items())  # a server leaves empty tags out
    return run.status == STATUS[outcome.state] and told_all


def _place(record: Record) -> tuple[int, int]:
    """Of two records the later has the greater one, however late they are written."""
    return record.attempt, record.epoch
