"""What a study planned, tried and finished: an append-only file that is the source of truth after any crash.

Five events: `planned` (the study as it was read, with its trials), `sampled` (one suggestion of a search or one step of
a race, with its trials), `started` (an attempt at a trial), `ended` (how it ended), `noted` (what else was decided). A
trial that was started and never ended was interrupted. An outcome no attempt could change is also put beside the trial,
for other studies that plan it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, get_args

from hssl_ray.study.layout import study_folder, trial_folder
from hssl_ray.study.lease import Driver, Lease, StudyLocked, driver_at
from hssl_ray.study.lease import running_driver as running_driver_at
from hssl_ray.study.reserve import Reserve
from hssl_ray.study.spec import PlannedTrial
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.durable import (
    Locked,
    NewerFormat,
    RecordLog,
    check_format,
    decode,
    encode,
    iterate_log,
    write_json,
    write_whole,
)

log = logging.getLogger(__name__)

FORMAT = 1
LEDGER = "ledger.jsonl"
LOCK = "lock"
RESERVE = "reserve"
OUTCOME = "outcome.json"

State = Literal["finished", "pruned", "diverged", "failed", "killed"]
END_STATES: dict[str, State] = {state: state for state in get_args(State)}
"""By their names: engines and files bring a string of its own for every trial."""
Cause = Literal[
    "worker_lost", "node_lost", "preempted", "hung", "damaged_checkpoint", "oom", "disk_full", "foreign_home",
    "error", "diverged", "interrupted", "pruned",
]  # fmt: skip
FINAL: frozenset[str] = frozenset({"finished", "diverged"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt at a trial ended."""

    state: State
    reason: str = ""
    """Empty when finished, else `cause: one line`, cause being one of `Cause`."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Every metric at the last epoch that has it."""
    attempt: int = 1
    seconds: float = 0.0
    """Wall time of this attempt."""

    def __post_init__(self) -> None:
        if self.state not in END_STATES:
            raise ValueError(f"state: must be one of {', '.join(END_STATES)}, got {self.state}")

    def is_done(self, early_stop: bool) -> bool:
        """Whether the trial needs no further attempt in a study that stops trials early, or in one that does not."""
        return self.state in FINAL or (early_stop and self.state == "pruned")  # else it is wanted whole

    @property
    def cause(self) -> str:
        return self.reason.partition(":")[0]


@dataclass(frozen=True)
class Sample:
    """One suggestion of a search and the settings it got."""

    search: str
    """Digest of the search and the cell that it was made for; where they change, sampling starts anew."""
    cell: str
    number: int
    settings: dict[str, Any]
    trials: tuple[PlannedTrial, ...] = ()


@dataclass
class History:
    """The events of a ledger, folded."""

    metrics: Collection[str] | None = None
    """The metrics that outcomes keep; None for all. Of 10,000 trials they are 80 MB, of which a reader uses a few."""
    digest: str | None = None
    """Of the study as last planned."""
    study: dict[str, Any] = field(default_factory=dict)
    planned: tuple[PlannedTrial, ...] = ()
    searches: frozenset[str] = frozenset()
    """Digests of the searches of the study as last planned."""
    samples: dict[tuple[str, int], Sample] = field(default_factory=dict)
    """By digest and number; one that is written again, with more seeds, replaces the old one."""
    attempts: dict[str, int] = field(default_factory=dict)
    started: dict[str, float] = field(default_factory=dict)
    """Trials started and not ended, with the time of the start."""
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    """How the last attempt of each trial ended, unless a new one has begun."""
    format: int | None = None
    """What the first line says; None where there is none."""
    seconds: float = 0.0
    """Of all attempts of this study that ended."""
    notes: dict[str, Any] = field(default_factory=dict)
    """What the driver decided and the results do not say, by what it is about; see `Ledger.note`."""

    def trials(self) -> dict[str, PlannedTrial]:
        """All trials of the study as last planned, each once, suggestions of its search included."""
        rows = {row.trial_id: row for row in self.planned}
        for sample in self.samples.values():
            if sample.search not in self.searches:
                continue
            rows |= {row.trial_id: row for row in sample.trials if row.trial_id not in rows}
        return rows

    def fold(self, event: dict[str, Any]) -> None:
        """Take in one event.

        Raises:
            NewerFormat: it is of a kind this version does not know.
        """
        match event["event"]:
            case "ledger":
                check_format("ledger", event["format"], FORMAT)
                self.format = event["format"]
            case "planned":
                self.plan(event["digest"], event["study"], map(_row, event["trials"]), event["searches"])
            case "sampled":
                rows = tuple(map(_row, event["trials"]))
                self.sample(Sample(event["search"], event["cell"], event["number"], event["settings"], rows))
            case "started":
                self.attempts[event["trial_id"]] = event["attempt"]
                self.started[event["trial_id"]] = event["time"]
                self.outcomes.pop(event["trial_id"], None)
                self.notes.pop("stopped", None)
            case "ended":
                self.end(event["trial_id"], Outcome(**event["outcome"]))
            case "noted":
                self.notes[event["about"]] = event["note"]
            case kind:
                raise NewerFormat(f"ledger: unknown event {kind!r}; it was written by a newer hssl-ray, upgrade it")

    def plan(self, digest: str, study: dict[str, Any], trials: Iterable[PlannedTrial], searches: Iterable[str]) -> None:
        """`planned`, its trials as they are."""
        self.digest, self.study = digest, study
        self.planned, self.searches = tuple(trials), frozenset(searches)

    def sample(self, sample: Sample) -> None:
        """`sampled`."""
        self.samples[sample.search, sample.number] = sample

    def end(self, trial_id: str, outcome: Outcome) -> None:
        """`ended`."""
        if self.metrics is not None:
            kept = {name: outcome.metrics[name] for name in self.metrics if name in outcome.metrics}
            outcome = replace(outcome, state=END_STATES[outcome.state], metrics=kept)
        self.outcomes[trial_id] = outcome
        if self.started.pop(trial_id, None) is not None:  # else it is another study's
            self.seconds += outcome.seconds


def _row(data: dict[str, Any]) -> PlannedTrial:
    config = TrialConfig.model_validate(data["config"])
    return PlannedTrial(data["trial_id"], config, data["cell"], data["name"])


def _plain(trial: PlannedTrial) -> dict[str, Any]:
    config = trial.config.model_dump(mode="json", exclude_defaults=True)
    return {"trial_id": trial.trial_id, "name": trial.name, "cell": trial.cell, "config": config}


def read_history(home: Path, study: str, metrics: Collection[str] | None = None) -> History:
    """A study's history, running or not; empty if it never ran. `metrics`: see `History`.

    Raises:
        NewerFormat: a newer version wrote it.
    """
    history = History(metrics)
    for event in iterate_log(study_folder(home, study) / LEDGER):
        history.fold(event)
    return history


def shared_outcome(home: Path, trial_id: str) -> Outcome | None:
    """The final outcome of a trial, whichever study ran it; None where there is none that can be read.

    Raises:
        NewerFormat: a newer version wrote it.
    """
    path = trial_folder(home, trial_id) / OUTCOME
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    data = decode(content.rstrip(b"\n")) or _without_checksum(content)
    if data is None:
        log.warning("%s: damaged, left out", path)
        return None
    check_format(path, data["format"], FORMAT)
    return Outcome(**data["outcome"])


def _without_checksum(content: bytes) -> dict[str, Any] | None:
    """An outcome as it was written before it had a checksum."""
    try:
        value = json.loads(content)
    except ValueError:
        return None
    return {"format": 1, "outcome": value} if isinstance(value, dict) and "state" in value else None


def running_driver(home: Path, study: str) -> str | None:
    """`process 123 on host` that runs the study now, or None. A driver on another host is taken at its word."""
    return running_driver_at(study_folder(home, study) / LOCK)


def driver_of(home: Path, study: str) -> Driver | None:
    """Who runs the study, or ran it and died; None where nobody does, or where the last driver ended in order."""
    return driver_at(study_folder(home, study) / LOCK)


class Ledger:
    """The ledger of a study, open for writing by the one driver that runs it.

    Args:
        home: see `hssl_ray.data.home`.
        study: the study's name.
        metrics: those that the outcomes in `history` keep; None for all. On disk there are always all.
        outbox: see `Lease`.

    Raises:
        StudyLocked: another driver, alive, has it open. The lock of a dead one falls with it; see `lease`.
        NewerFormat: a newer version wrote it.
        NoRoom: the disk is full.
        NoLocks: see `RecordLog`.
    """

    def __init__(
        self,
        home: Path,
        study: str,
        metrics: Collection[str] | None = None,
        outbox: Callable[[], int] | None = None,
    ) -> None:
        self.home, self.study = home, study
        folder = study_folder(home, study)
        try:
            self._log = RecordLog(folder / LEDGER)
        except Locked:
            driver = running_driver(home, study) or "another process"
            raise StudyLocked(f"study {study} is being run by {driver}; wait for it or stop it first") from None
        try:
            self._reserve = Reserve(folder / RESERVE)
            self._lease = Lease(folder / LOCK, study, outbox=outbox)
        except BaseException:
            self._log.close()
            raise
        try:
            self.history = read_history(home, study, metrics)
            if self.history.format is None:
                header = {"event": "ledger", "format": FORMAT}
                self._append(header)
                self.history.fold(header)
        except BaseException:
            self.close()
            raise

    def _append(self, event: dict[str, Any]) -> None:
        self._write(lambda: self._log.append(event))

    def _write(self, write: Callable[[], None]) -> None:
        """Write what must be on the disk, even a full one, and only while the study is ours."""
        self._lease.check()
        self._reserve.spend(write)

    @classmethod
    def open(
        cls,
        home: Path,
        study: str,
        metrics: Collection[str] | None = None,
        outbox: Callable[[], int] | None = None,
    ) -> Ledger:
        """See the class."""
        return cls(home, study, metrics, outbox)

    def planned(
        self, digest: str, study: dict[str, Any], trials: Iterable[PlannedTrial], searches: Iterable[str] = ()
    ) -> None:
        """The study as read now; nothing is written if it is the one planned last.

        Args:
            digest: of the study.
            study: what was read, as plain data.
            trials: those planned ahead.
            searches: digests of its searches, one a cell; see `Sample.search`.
        """
        if digest == self.history.digest:
            return
        trials, searches = tuple(trials), sorted(searches)
        rows = [_plain(trial) for trial in trials]
        self._append({"event": "planned", "digest": digest, "study": study, "trials": rows, "searches": searches})
        self.history.plan(digest, study, trials, searches)

    def sampled(self, sample: Sample) -> None:
        """A suggestion, before any of its trials starts."""
        self._append(
            {
                "event": "sampled",
                "search": sample.search,
                "cell": sample.cell,
                "number": sample.number,
                "settings": sample.settings,
                "trials": [_plain(trial) for trial in sample.trials],
            }
        )
        self.history.sample(sample)

    def started(self, trial: PlannedTrial, attempt: int) -> None:
        """An attempt begins."""
        config = trial_folder(self.home, trial.trial_id) / "config.json"
        if not config.exists():
            self._write(lambda: write_json(config, trial.config.model_dump(mode="json")))
        event = {"event": "started", "trial_id": trial.trial_id, "attempt": attempt, "time": time.time()}
        self._append(event)
        self.history.fold(event)

    def ended(self, trial_id: str, outcome: Outcome) -> None:
        """An attempt is over, or another study's final outcome is taken over."""
        if outcome.state in FINAL and shared_outcome(self.home, trial_id) is None:
            content = encode({"format": FORMAT, "outcome": asdict(outcome)})
            self._write(lambda: write_whole(trial_folder(self.home, trial_id) / OUTCOME, content))
        self._append({"event": "ended", "trial_id": trial_id, "time": time.time(), "outcome": asdict(outcome)})
        self.history.end(trial_id, outcome)

    def note(self, about: str, note: Any) -> None:
        """What was decided, so that the next run decides the same: `stopped`, why the budget ended the study (until a
        trial starts again); `warm_start DIGEST`, what a cell's sampler knew from the start.
        """
        if self.history.notes.get(about) != note:
            self._log.append({"event": "noted", "about": about, "note": note})
            self.history.notes[about] = note

    def close(self) -> None:
        """Let another driver run the study."""
        self._reserve.release()
        self._lease.release()
        self._log.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
