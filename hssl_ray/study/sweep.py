"""What is left of a study, and what to do about every event: pure policy. Engines do the work.

Running a study again is how it is resumed: what is left is read from the ledger, nothing else is kept.
"""

from __future__ import annotations

import logging
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from hssl_ray.study.attempt import Decision, Ending
from hssl_ray.study.engine import Observers, Summary
from hssl_ray.study.file.sections import Resilience
from hssl_ray.study.layout import trial_folder
from hssl_ray.study.ledger import Ledger, Outcome, shared_outcome
from hssl_ray.study.retries import NO_RETRIES, seconds_to_retry
from hssl_ray.study.search.early_stop import Asha
from hssl_ray.study.search.spending import Spending
from hssl_ray.study.spec import PlannedTrial
from hssl_ray.trial.journal import JOURNAL, Record, last_metrics, read_records

log = logging.getLogger(__name__)


class Interrupted(BaseException):
    """A signal asked the study to end. Not an `Exception`, so that no trial takes it for a failure of its own."""


@dataclass(frozen=True)
class Assignment:
    """A trial to train now."""

    trial: PlannedTrial
    attempt: int
    """From 1, counted over the life of the study."""


@dataclass(frozen=True)
class Wait:
    """Nothing to hand out now."""

    seconds: float | None = None
    """Until a trial is due for its retry; None where only the end of a running trial can bring more."""


@dataclass(frozen=True)
class _Due:
    """An attempt that waits for its time."""

    at: float
    """Of the sweep's clock."""
    assignment: Assignment


HOPELESS = {
    "disk_full": "%s: the disk is full; no more trials are started. Free some space and run the study again (%s)",
    "foreign_home": "%s: not shared by all nodes; no more trials are started. Let that node mount it, or leave, and run"
    " the study again (%s)",
}
"""Causes after which every other trial would train to no avail, and what is said once: the home, and the reason."""


class Search(Protocol):
    """Trials that are suggested one after the other instead of planned ahead; see `sampled.SampledTrials`."""

    def ask(self) -> tuple[PlannedTrial, ...] | None:
        """The trials of the next suggestion; None when there are no more."""

    def tell(self, trial_id: str, outcome: Outcome) -> None:
        """How one of its trials, or one planned ahead, ended."""


@dataclass
class _Running:
    assignment: Assignment
    since: float
    heard: set[tuple[int, int]] = field(default_factory=set)  # (epoch, attempt) told to the observers


class Sweep:
    """Hands out trials, takes in what becomes of them, and writes both into the ledger.

    Args:
        trials: planned ahead, in the order to run them.
        ledger: of the study; says what earlier runs did.
        observers: hear of every event.
        search: suggests more trials.
        early_stop: by cell, holding what earlier runs reported; empty where nothing is stopped early.
        resilience: which failed attempts are followed by another one, and when.
        clock: seconds that only grow.
        spending: says when the budget is used up; None where there is none.
    """

    def __init__(
        self,
        trials: Iterable[PlannedTrial],
        ledger: Ledger,
        observers: Observers,
        *,
        search: Search | None = None,
        early_stop: Mapping[str, Asha] | None = None,
        resilience: Resilience = NO_RETRIES,
        clock: Callable[[], float] = time.monotonic,
        spending: Spending | None = None,
    ) -> None:
        self._ledger = ledger
        self._observers = observers
        self._search = search
        self._early_stop = early_stop or {}
        self._resilience = resilience
        self._clock = clock
        self._spending = spending
        self._trials = {trial.trial_id: trial for trial in trials}
        self._queue = deque(self._trials.values())
        self._again: deque[Assignment] = deque()  # at once
        self._later: list[_Due] = []
        self._retried: Counter[str] = Counter()
        self._handed: dict[str, Assignment] = {}
        self._running: dict[str, _Running] = {}
        self._settled: set[str] = set()
        self._interruptible = False
        self._hopeless = False
        self._since = clock()
        self._summary: Summary | None = None
        self._ahead: Assignment | Wait | None = None
        self.interrupted: int | None = None
        """The signal that asked the study to end."""
        self.stopped: str | None = None
        """Why no more trials are handed out, if the budget is used up."""

    # ---- what is left

    def next(self) -> Assignment | Wait | None:
        """A trial to run, once; `Wait` while time or a running trial may bring more; None when nothing is left."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and self.interrupted is None:
            return ahead
        while self.interrupted is None and not self._hopeless:
            if self._again:
                return self._hand(self._again.popleft())
            if (due := self._take_due()) is not None:
                return self._hand(due)
            if self._queue:
                trial = self._queue.popleft()
                if not self._settle(trial) and self._affordable(trial):
                    return self._hand(Assignment(trial, self._ledger.history.attempts.get(trial.trial_id, 0) + 1))
                continue
            suggestion = self._search.ask() if self._search is not None and self._affordable() else None
            if suggestion is not None:
                self._add(suggestion)
                continue
            if self._later:
                return Wait(max(0.0, min(due.at for due in self._later) - self._clock()))
            return Wait() if self._handed or self._running else None
        return None

    def _take_due(self) -> Assignment | None:
        """The retry whose time came first, if one's has."""
        first = min(self._later, key=lambda due: due.at, default=None)
        if first is None or first.at > self._clock():
            return None
        self._later.remove(first)
        return first.assignment

    def has_work(self) -> bool:
        """Whether there is a trial to run; if not, no engine has to start."""
        self._ahead = self.next()
        return self._ahead is not None

    def _hand(self, assignment: Assignment) -> Assignment:
        self._handed[assignment.trial.trial_id] = assignment
        return assignment

    def _add(self, trials: tuple[PlannedTrial, ...]) -> None:
        for trial in trials:
            if trial.trial_id not in self._trials:
                self._trials[trial.trial_id] = trial
                self._queue.append(trial)
            elif trial.trial_id in self._settled and self._search is not None:
                self._search.tell(trial.trial_id, self._ledger.history.outcomes[trial.trial_id])

    def _settle(self, trial: PlannedTrial) -> bool:
        """Whether a trial needs no attempt, because this study or another one is done with it."""
        known = self._ledger.history.outcomes.get(trial.trial_id)
        if known is not None and known.is_done(bool(self._early_stop)):
            self._close(trial.trial_id, known)
            return True
        found = shared_outcome(self._ledger.home, trial.trial_id) or self._stopped_before(trial)
        if found is None:
            return False
        self._observers.trial_started(trial, found.attempt)
        for record in self._records(trial.trial_id):
            self._observers.trial_reported(trial, record)
        self._ledger.ended(trial.trial_id, found)
        self._observers.trial_ended(trial, found)
        self._close(trial.trial_id, found)
        return True

    def _stopped_before(self, trial: PlannedTrial) -> Outcome | None:
        """The outcome of a trial that a rung stopped just when the driver went."""
        rungs = self._early_stop.get(trial.cell)
        if rungs is None or trial.trial_id not in rungs.stopped:
            return None
        records = self._records(trial.trial_id)
        reason = f"pruned: stopped early after epoch {records[-1].epoch}"
        attempt = self._ledger.history.attempts.get(trial.trial_id, 1)
        return Outcome("pruned", reason, last_metrics(records), attempt)

    def _affordable(self, trial: PlannedTrial | None = None) -> bool:
        """Whether the budget lets a trial start, one that is still to be suggested if none is named."""
        if self._spending is not None:
            now = time.monotonic()
            running = sum(now - one.since for one in self._running.values())
            refusal = self._spending.refusal(None if trial is None else trial.trial_id, running)
            self.stopped = refusal or self.stopped
            return refusal is None
        return True

    def _close(self, trial_id: str, outcome: Outcome) -> None:
        self._settled.add(trial_id)
        if self._spending is not None:
            self._spending.closed(trial_id, outcome)
        if self._search is not None:
            self._search.tell(trial_id, outcome)

    # ---- what happens

    def started(self, trial_id: str) -> None:
        """The attempt handed out begins. Epochs that earlier attempts recorded are told to the observers once more."""
        assignment = self._handed.pop(trial_id)
        running = self._running[trial_id] = _Running(assignment, self._clock())
        self._ledger.started(assignment.trial, assignment.attempt)
        self._observers.trial_started(assignment.trial, assignment.attempt)
        self._catch_up(running)

    def reported(self, trial_id: str, record: Record) -> Decision:
        """An epoch is over and in the journal. Whether the trial goes on."""
        running = self._running.get(trial_id)
        if running is None:  # recorded as killed a moment ago
            return "stop"
        self._tell(running, record)
        trial = running.assignment.trial
        rungs = self._early_stop.get(trial.cell)
        if rungs is None or rungs.metric not in record.metrics:
            return "continue"
        stop = rungs.decide(trial_id, record.epoch, record.metrics[rungs.metric])
        return "stop" if stop and record.epoch < trial.config.epochs else "continue"

    def ended(self, trial_id: str, ending: Ending) -> None:
        """The attempt is over. Another one follows if the study's policy says so."""
        running = self._running.pop(trial_id, None)
        if running is None:
            return
        trial, attempt = running.assignment.trial, running.assignment.attempt
        trial_id = trial.trial_id  # kept from here on, and not the engine's copy
        records = self._catch_up(running)
        if ending.state == "finished" and (not records or records[-1].epoch < trial.config.epochs):
            done = records[-1].epoch if records else 0
            ending = Ending("failed", f"error: training returned after epoch {done} of {trial.config.epochs}")
        seconds = self._clock() - running.since
        outcome = Outcome(ending.state, ending.reason, last_metrics(records), attempt, seconds)
        self._ledger.ended(trial_id, outcome)
        self._observers.trial_ended(trial, outcome)
        wait = seconds_to_retry(self._resilience, outcome, self._retried[trial_id])
        if outcome.cause in HOPELESS and wait is None and not self._hopeless:
            self._hopeless = True
            log.error(HOPELESS[outcome.cause], self._ledger.home, outcome.reason)
        if wait is None:
            self._close(trial_id, outcome)
        else:
            self._retried[trial_id] += 1
            self._later.append(_Due(self._clock() + wait, Assignment(trial, attempt + 1)))

    def set_back(self, trial_id: str, why: str) -> None:
        """The attempt was cut short through no fault of the trial: it is handed out again and no retry is used up."""
        assignment = self._running[trial_id].assignment
        self.ended(trial_id, Ending("killed", f"interrupted: {why}"))
        self._settled.discard(trial_id)
        self._again.append(replace(assignment, attempt=assignment.attempt + 1))

    def make_way(self, trial_id: str) -> bool:
        """Take back a trial that was handed out and has not started, if one that lost its process is to go first."""
        handed = self._handed.get(trial_id)
        urgent = self._again or any(due.at <= self._clock() for due in self._later)
        if handed is None or not urgent or self._retried[trial_id]:
            return False
        self._queue.appendleft(self._handed.pop(trial_id).trial)
        return True

    def take_back(self) -> None:
        """Forget what was handed out and never started; it is handed out again."""
        self._again.extendleft(reversed(self._handed.values()))
        self._handed.clear()

    def close(self) -> Summary:
        """Record what still runs as killed, and tell the observers that the study has ended; they hear it once."""
        if self._summary is None:
            self.abandon("the driver failed" if self.interrupted is None else signal.Signals(self.interrupted).name)
            if self.stopped is not None:
                self._ledger.note("stopped", self.stopped)
            self._summary = Summary(self.counts(), self._clock() - self._since, self.interrupted, self.stopped)
            self._observers.study_closed(self._summary)
        return self._summary

    def abandon(self, why: str) -> None:
        """Record every running attempt as killed; the next run of the study takes them up where they stand."""
        for trial_id in list(self._running):
            self.ended(trial_id, Ending("killed", f"interrupted: {why}"))

    # ---- signals

    def interrupt(self, signal_number: int) -> None:
        """Ask the study to end: hand out nothing more, and raise `Interrupted` where that is allowed."""
        self.interrupted = signal_number
        if self._interruptible:
            raise Interrupted(signal_number)

    def end_if_interrupted(self) -> None:
        """For engines that look for signals by themselves: close the study, then raise `Interrupted`.

        Before the engine ends, which may take longer than whoever sent the signal is ready to wait.
        """
        if self.interrupted is not None:
            self.close()
            raise Interrupted(self.interrupted)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let `interrupt` raise in this block; elsewhere it could tear the ledger's bookkeeping."""
        self._interruptible = True
        try:
            if self.interrupted is not None:
                raise Interrupted(self.interrupted)
            yield
        finally:
            self._interruptible = False

    # ---- what is known

    def counts(self) -> dict[str, int]:
        """Trials by state."""
        outcomes = self._ledger.history.outcomes
        states = Counter[str]()
        for trial_id in self._trials:
            running = trial_id in self._running
            states["running" if running else outcomes[trial_id].state if trial_id in outcomes else "planned"] += 1
        return dict(states)

    def _records(self, trial_id: str) -> list[Record]:
        return read_records(trial_folder(self._ledger.home, trial_id) / JOURNAL)

    def _tell(self, running: _Running, record: Record) -> None:
        if (record.epoch, record.attempt) not in running.heard:
            running.heard.add((record.epoch, record.attempt))
            self._observers.trial_reported(running.assignment.trial, record)

    def _catch_up(self, running: _Running) -> list[Record]:
        """Tell what the journal holds and no report brought: the journal comes first, so a lost worker leaves some."""
        records = self._records(running.assignment.trial.trial_id)
        for record in records:
            self._tell(running, record)
        return records
