"""What a study planned, tried and finished: an append-only file that is the source of truth after any crash.

Four events: `planned` (the study as it was read, with its trials), `sampled` (one suggestion of a search, with its
trials), `started` (an attempt at a trial), `ended` (how it ended). A trial that was started and never ended was
interrupted. An outcome no attempt could change is also put beside the trial, for other studies that plan it.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, get_args

from hssl_ray.study.layout import study_folder, trial_folder
from hssl_ray.study.spec import PlannedTrial
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.durable import Locked, RecordLog, read_json, read_log, write_json

FORMAT = 1
LEDGER = "ledger.jsonl"
LOCK = "lock"
OUTCOME = "outcome.json"

State = Literal["finished", "pruned", "diverged", "failed", "killed"]
Cause = Literal[
    "worker_lost", "node_lost", "preempted", "oom", "disk_full", "error", "diverged", "interrupted", "pruned"
]
FINAL: frozenset[str] = frozenset({"finished", "diverged"})
RETRYABLE: frozenset[str] = frozenset({"worker_lost", "node_lost", "preempted"})


class StudyLocked(RuntimeError):
    """Another driver is running the study; running it twice at once would train everything twice."""


class LedgerError(ValueError):
    """The ledger was written by a newer version of this program."""


@dataclass(frozen=True)
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
        if self.state not in get_args(State):
            raise ValueError(f"state: must be one of {', '.join(get_args(State))}, got {self.state}")

    @property
    def cause(self) -> str:
        return self.reason.partition(":")[0]

    @property
    def retryable(self) -> bool:
        """Whether the same trial could end well if tried again at once."""
        return self.state == "failed" and self.cause in RETRYABLE


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
            LedgerError: it is of a kind this version does not know.
        """
        match event["event"]:
            case "ledger":
                if event["format"] > FORMAT:
                    raise LedgerError(
                        f"ledger: format {event['format']} was written by a newer hssl-ray; this one reads {FORMAT}"
                    )
            case "planned":
                self.digest, self.study = event["digest"], event["study"]
                self.planned = tuple(map(_row, event["trials"]))
                self.searches = frozenset(event["searches"])
            case "sampled":
                sample = Sample(
                    event["search"],
                    event["cell"],
                    event["number"],
                    event["settings"],
                    tuple(map(_row, event["trials"])),
                )
                self.samples[sample.search, sample.number] = sample
            case "started":
                self.attempts[event["trial_id"]] = event["attempt"]
                self.started[event["trial_id"]] = event["time"]
                self.outcomes.pop(event["trial_id"], None)
            case "ended":
                self.outcomes[event["trial_id"]] = Outcome(**event["outcome"])
                self.started.pop(event["trial_id"], None)
            case kind:
                raise LedgerError(f"ledger: unknown event {kind!r}; it was written by a newer hssl-ray")


def _row(data: dict[str, Any]) -> PlannedTrial:
    config = TrialConfig.model_validate(data["config"])
    return PlannedTrial(data["trial_id"], config, data["cell"], data["name"])


def _plain(trial: PlannedTrial) -> dict[str, Any]:
    config = trial.config.model_dump(mode="json", exclude_defaults=True)
    return {"trial_id": trial.trial_id, "name": trial.name, "cell": trial.cell, "config": config}


def read_history(home: Path, study: str) -> History:
    """A study's history, running or not; empty if it never ran."""
    history = History()
    for event in read_log(study_folder(home, study) / LEDGER):
        history.fold(event)
    return history


def shared_outcome(home: Path, trial_id: str) -> Outcome | None:
    """The final outcome of a trial, whichever study ran it."""
    data = read_json(trial_folder(home, trial_id) / OUTCOME)
    return None if data is None else Outcome(**data)


def running_driver(home: Path, study: str) -> str | None:
    """`process 123 on host` that runs the study now, or None. A driver on another host is taken at its word."""
    data = read_json(study_folder(home, study) / LOCK)
    if data is None or (data["host"] == socket.gethostname() and not _alive(data["pid"])):
        return None
    return f"process {data['pid']} on {data['host']}"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Ledger:
    """The ledger of a study, open for writing by the one driver that runs it.

    Args:
        home: see `hssl_ray.data.home`.
        study: the study's name.

    Raises:
        StudyLocked: another driver, alive, has it open. The lock of a dead one falls with it.
        LedgerError: a newer version wrote it.
    """

    def __init__(self, home: Path, study: str) -> None:
        self.home, self.study = home, study
        folder = study_folder(home, study)
        try:
            self._log = RecordLog(folder / LEDGER)
        except Locked:
            driver = running_driver(home, study) or "another process"
            raise StudyLocked(f"study {study} is being run by {driver}; wait for it or stop it first") from None
        write_json(folder / LOCK, {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()})
        try:
            self.history = read_history(home, study)
            if self.history.digest is None:
                self._add({"event": "ledger", "format": FORMAT})
        except BaseException:
            self._log.close()
            raise

    @classmethod
    def open(cls, home: Path, study: str) -> Ledger:
        """See the class."""
        return cls(home, study)

    def _add(self, event: dict[str, Any]) -> None:
        self._log.append(event)
        self.history.fold(event)

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
        rows = [_plain(trial) for trial in trials]
        self._add({"event": "planned", "digest": digest, "study": study, "trials": rows, "searches": sorted(searches)})

    def sampled(self, sample: Sample) -> None:
        """A suggestion, before any of its trials starts."""
        self._add(
            {
                "event": "sampled",
                "search": sample.search,
                "cell": sample.cell,
                "number": sample.number,
                "settings": sample.settings,
                "trials": [_plain(trial) for trial in sample.trials],
            }
        )

    def started(self, trial: PlannedTrial, attempt: int) -> None:
        """An attempt begins."""
        config = trial_folder(self.home, trial.trial_id) / "config.json"
        if not config.exists():
            write_json(config, trial.config.model_dump(mode="json"))
        self._add({"event": "started", "trial_id": trial.trial_id, "attempt": attempt, "time": time.time()})

    def ended(self, trial_id: str, outcome: Outcome) -> None:
        """An attempt is over, or another study's final outcome is taken over."""
        if outcome.state in FINAL:
            path = trial_folder(self.home, trial_id) / OUTCOME
            if not path.exists():
                write_json(path, asdict(outcome))
        self._add({"event": "ended", "trial_id": trial_id, "time": time.time(), "outcome": asdict(outcome)})

    def close(self) -> None:
        """Let another driver run the study."""
        (study_folder(self.home, self.study) / LOCK).unlink(missing_ok=True)
        self._log.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
