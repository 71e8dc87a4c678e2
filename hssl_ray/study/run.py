"""Running a study, the first time or again: what is left is read from its ledger, and an engine trains it."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from hssl_ray.study.early_stop import Asha
from hssl_ray.study.engine import Engine, Observer, Observers, Summary, TrialOptions
from hssl_ray.study.layout import study_folder, trial_folder
from hssl_ray.study.ledger import Ledger
from hssl_ray.study.sampled import SampledTrials, search_digest
from hssl_ray.study.sections import Range
from hssl_ray.study.spec import Cell, Study
from hssl_ray.study.sweep import Interrupted, Sweep
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.journal import JOURNAL, StoredRecords

log = logging.getLogger(__name__)


def run_study(study: Study, *, home: Path, engine: Engine, observers: Iterable[Observer] = ()) -> Summary:
    """Run what is left of a study, until it is done or a signal ends it.

    SIGTERM and the first Ctrl-C end it in order: running trials are recorded as killed and resume on the next run. A
    second one ends the process at once.

    Args:
        study: as read from its file.
        home: see `hssl_ray.data.home`.
        engine: runs the trials.
        observers: hear of every event.

    Raises:
        StudyLocked: another driver is running the study.
        LedgerError: a newer version of this program ran it.
        SamplerUnavailable: its search needs a package that is not installed.
        ClusterError: no cluster answers, or it can never hold one of the trials.
    """
    metrics = (study.search.metric,) if study.search else ()  # what samplers are told; the files have all
    with Ledger.open(home, study.study, metrics) as ledger:
        if ledger.history.digest != study.digest:
            searches = [search_digest(study, cell) for cell in study.cells()] if study.search else []
            ledger.planned(study.digest, study.model_dump(mode="json"), study.planned(), searches)
        planned = ledger.history.planned
        told = Observers(observers)
        told.study_opened(study, study.trial_count)
        rungs = _rungs(study)
        _replay(ledger, told, rungs)
        sweep = Sweep(
            planned,
            ledger,
            told,
            search=SampledTrials(study, ledger) if study.search else None,
            early_stop=rungs,
            resilience=study.resilience,
        )
        scratch = study_folder(home, study.study) / "engine"
        options = TrialOptions(
            home, scratch, study.checkpoints.every_epochs, study.checkpoints.keep, study.resilience.hang_seconds
        )
        try:
            with _signals_to(sweep):
                if sweep.has_work():
                    engine.run(sweep, study.resources, options)
        except Interrupted:
            pass  # what a signal asks for is done below
        finally:
            summary = sweep.close()
        return summary


def _replay(ledger: Ledger, told: Observers, rungs: dict[str, Asha]) -> None:
    """Tell the observers, and enter into the rungs, what the journals hold of earlier runs.

    Whoever needs no records of a trial leaves its journal unread: of thousands, reading takes longer than all else.
    """
    history = ledger.history
    reports = []
    for trial_id, trial in history.trials().items():
        if trial_id not in history.attempts and trial_id not in history.outcomes:
            continue
        records = StoredRecords(trial_folder(ledger.home, trial_id) / JOURNAL)
        told.replay(trial, records, history.outcomes.get(trial_id))
        if (cell := rungs.get(trial.cell)) is not None:
            reports += [
                (record.time, trial.cell, trial_id, record.epoch, record.metrics[cell.metric])
                for record in records
                if cell.metric in record.metrics
            ]
    for _, name, trial_id, epoch, value in sorted(reports):  # in the order they came, over all trials
        rungs[name].record(trial_id, epoch, value)


def _rungs(study: Study) -> dict[str, Asha]:
    """The early stop of every cell; empty where the study stops nothing early."""
    asked = study.early_stop
    if asked is None:
        return {}
    return {
        cell.name: Asha(asked.grace_epochs, asked.reduction_factor, _longest(study, cell), asked.metric, asked.goal)
        for cell in study.cells()
    }


def _longest(study: Study, cell: Cell) -> int:
    """Epochs of a cell's longest trial."""
    searched = study.search.space.get("epochs") if study.search else None
    match searched:
        case Range(high=high):
            return int(high)
        case list():
            return int(max(searched))
    return int(cell.settings.get("epochs", TrialConfig.model_fields["epochs"].default))


@contextmanager
def _signals_to(sweep: Sweep) -> Iterator[None]:
    """Send SIGINT and SIGTERM to the sweep; the second of them has its usual effect."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only a main thread hears signals
        return

    def handle(number: int, frame: FrameType | None) -> None:
        for name in before:
            signal.signal(name, signal.SIG_DFL)
        log.warning("%s: ending the study; once more ends it at once", signal.Signals(number).name)
        sweep.interrupt(number)

    before = {name: signal.signal(name, handle) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, signal.SIG_DFL if handler is None else handler)
