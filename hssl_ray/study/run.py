"""Running a study, the first time or again: what is left is read from its ledger, and an engine trains it."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from operator import itemgetter
from pathlib import Path
from types import FrameType

from hssl_ray.study.engine import Engine, Observer, Observers, Summary, TrialOptions
from hssl_ray.study.file.sections import Range
from hssl_ray.study.forecast import checkpoint_bytes
from hssl_ray.study.layout import study_folder, trial_folder
from hssl_ray.study.ledger import LEDGER, History, Ledger, Outcome
from hssl_ray.study.reserve import check_room
from hssl_ray.study.search.early_stop import Asha
from hssl_ray.study.search.spending import Spending
from hssl_ray.study.spec import Cell, PlannedTrial, Study
from hssl_ray.study.sweep import Interrupted, Search, Sweep
from hssl_ray.trial.checkpoint_files import check_formats, size_of
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.journal import JOURNAL, StoredRecords, check_journal

log = logging.getLogger(__name__)


def run_study(
    study: Study,
    *,
    home: Path,
    engine: Engine,
    observers: Iterable[Observer] = (),
    outbox: Callable[[], int] | None = None,
) -> Summary:
    """Run what is left of a study, until it is done or a signal ends it.

    SIGTERM and the first Ctrl-C end it in order: running trials are recorded as killed and resume on the next run. A
    second one ends the process at once.

    Args:
        study: as read from its file.
        home: see `hssl_ray.data.home`.
        engine: runs the trials.
        observers: hear of every event.
        outbox: how many writes MLflow has not got yet, for those who watch the study from another process.

    Raises:
        StudyLocked: another driver is running the study.
        NewerFormat: a newer version of this program ran it.
        NoRoom: the disk is full before the first trial.
        DiskFull: it filled up, and so did the room set aside for the ledger.
        SamplerUnavailable: its search needs a package that is not installed.
        WarmStartError: the study that its search starts from has not run here.
        ClusterError: no cluster answers, or it can never hold one of the trials.
    """
    metrics = _told_metrics(study)
    with Ledger.open(home, study.study, metrics, outbox) as ledger:
        if ledger.history.digest != study.digest:
            ledger.planned(study.digest, study.model_dump(mode="json"), study.planned(), _search_digests(study))
        planned = ledger.history.planned
        _check_left(study, ledger)
        told = Observers(observers)
        told.study_opened(study, study.trial_count)
        rungs = _rungs(study)
        _replay(ledger, told, rungs)
        scratch = study_folder(home, study.study) / "engine"
        options = TrialOptions(
            home, scratch, study.checkpoints.every_epochs, study.checkpoints.retention, study.resilience.hang_seconds
        )
        with _search(study, ledger) as search:
            sweep = Sweep(
                planned,
                ledger,
                told,
                search=search,
                early_stop=rungs,
                resilience=study.resilience,
                spending=Spending(study.budget, ledger) if study.budget else None,
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


# Optuna takes a seventh of a second to import, which only a search needs, and scipy as much again for a race.


def _search_digests(study: Study) -> list[str]:
    """The identities of what a study suggests beside the trials planned ahead."""
    if study.search is not None:
        from hssl_ray.study.search.sampled import search_digest

        return [search_digest(study, cell) for cell in study.cells()]
    if study.race is not None:
        from hssl_ray.study.search.looks import race_digest

        return [race_digest(pair) for pair in study.pairs]
    return []


@contextmanager
def _search(study: Study, ledger: Ledger) -> Iterator[Search | None]:
    """What suggests trials beside those planned ahead."""
    if study.search is not None:
        from hssl_ray.study.search.sampled import SampledTrials

        with closing(SampledTrials(study, ledger)) as search:
            yield search
    elif study.race is not None:
        from hssl_ray.study.search.race import SeedRace

        yield SeedRace(study, ledger)
    else:
        yield None


def _told_metrics(study: Study) -> tuple[str, ...]:
    """What samplers and races are told of a trial; its files have all."""
    if study.search is not None:
        return (study.search.metric,)
    return (study.compare.metric,) if study.race is not None else ()


def _check_left(study: Study, ledger: Ledger) -> None:
    """Look at what trials that have begun left behind, before an engine starts.

    Raises:
        NewerFormat: a newer version wrote a journal or a checkpoint of a trial that is not done.
        NoRoom: the checkpoints of the trials that are left will not fit on the disk.
    """
    history = ledger.history
    left = [
        trial
        for trial_id, trial in history.trials().items()
        if trial_id not in history.outcomes or not history.outcomes[trial_id].is_done(study.early_stop is not None)
    ]
    for trial in left:
        if trial.trial_id in history.attempts:
            workdir = trial_folder(ledger.home, trial.trial_id)
            check_journal(workdir / JOURNAL)
            check_formats(workdir)
    there = sum(size_of(trial_folder(ledger.home, trial.trial_id)) for trial in left)
    check_room(ledger.home, study.checkpoints.most * sum(checkpoint_bytes(trial.config) for trial in left) - there)


def studies_run(home: Path) -> list[str]:
    """The names of the studies that were ever run in a home."""
    return sorted(path.parent.name for path in (home / "studies").glob(f"*/{LEDGER}"))


def begun(history: History, home: Path) -> Iterator[tuple[PlannedTrial, StoredRecords, Outcome | None]]:
    """The trials that earlier runs began: each with its journal, and how its last attempt ended, if it did."""
    for trial_id, trial in history.trials().items():
        if trial_id in history.attempts or trial_id in history.outcomes:
            yield trial, StoredRecords(trial_folder(home, trial_id) / JOURNAL), history.outcomes.get(trial_id)


def _replay(ledger: Ledger, told: Observers, rungs: dict[str, Asha]) -> None:
    """Tell the observers, and enter into the rungs, what the journals hold of earlier runs.

    Whoever needs no records of a trial leaves its journal unread: of thousands, reading takes longer than all else.
    """
    reports = []
    for trial, records, outcome in begun(ledger.history, ledger.home):
        told.replay(trial, records, outcome)
        if (cell := rungs.get(trial.cell)) is not None:
            cut_short = outcome is None or outcome.state == "killed"
            last = max((record.epoch for record in records), default=0)
            reports += [
                (record.time, trial, record.epoch, record.metrics[cell.metric], cut_short and record.epoch == last)
                for record in records
                if cell.metric in record.metrics
            ]
    for _, trial, epoch, value, open_end in sorted(reports, key=itemgetter(0)):  # as they came, over all trials
        cell = rungs[trial.cell]
        if open_end and epoch < trial.config.epochs:  # the trial did not live to hear whether it goes on
            cell.decide(trial.trial_id, epoch, value)
        else:
            cell.record(trial.trial_id, epoch, value)


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
