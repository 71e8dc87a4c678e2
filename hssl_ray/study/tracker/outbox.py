"""An outbox: writes to a service that may be slow, away or refusing, done in order by one thread of their own.

Whoever posts never waits and never sees an error. The journals on disk hold everything that is posted here, so what
an outbox has to give up is late, not lost.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum

log = logging.getLogger(__name__)

Job = Callable[[], None]


class Fault(Enum):
    """What a failed job says about trying it again."""

    AWAY = "the service does not answer"
    """Try again for as long as the outbox is open."""
    FAILED = "the service answers, but this job failed"
    """Try some times more, then go on without it."""
    REFUSED = "the service will never take it"
    """Go on without it."""


class Outbox:
    """Runs posted jobs first in, first out, on one thread.

    A job must be harmless to run twice: it is run again when it failed half way. Until `begin`, or until somebody waits
    for the jobs, they are only kept.
    """

    def __init__(
        self,
        *,
        judge: Callable[[Exception], Fault],
        describe: Callable[[Exception], str] = str,
        capacity: int = 100_000,
        attempts: int = 10,
        first_wait: float = 0.2,
        longest_wait: float = 10.0,
        linger: float = 0.0,
    ) -> None:
        """
        Args:
            judge: what an error of a job means; called on the outbox's thread.
            describe: an error as text that may be logged.
            capacity: jobs that may wait; those beyond it are given up, so that an outage cannot fill the memory.
            attempts: how often a job may fail while the service answers; failures of an outage do not count.
            first_wait: seconds before the first retry; doubled for each one after, with jitter.
            longest_wait: bound of that, seconds.
            linger: seconds that a job stays where none was before, unless somebody waits for it; whoever posts goes on
                undisturbed for as long.
        """
        self._judge, self._describe = judge, describe
        self._capacity, self._attempts = capacity, attempts
        self._first_wait, self._longest_wait, self._linger = first_wait, longest_wait, linger
        self._jobs: deque[tuple[str, Job]] = deque()
        self._changed = threading.Condition()
        self._given_up = 0
        self._failing_since: float | None = None
        self._begun = self._failed = 0  # attempts: how many, and the number of the last one that failed
        self._hurry = False
        self._lingers_until = 0.0
        self._waiting = 0  # threads that wait for the jobs
        self._deadline: float | None = None
        self._jitter = random.Random()  # noqa: S311  spreads retries, guards nothing
        self._thread: threading.Thread | None = None

    @property
    def unsynced(self) -> int:
        """Jobs not done: those that wait, and those given up."""
        with self._changed:
            return len(self._jobs) + self._given_up

    @property
    def full(self) -> bool:
        """Whether a job posted now would be given up, because too many wait."""
        return len(self._jobs) >= self._capacity

    def begin(self) -> None:
        """Start with the jobs, those posted already and all to come."""
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="hssl-outbox", daemon=True)
                self._thread.start()

    def post(self, what: str, job: Job) -> None:
        """Queue a job. Returns at once; after `close` the job counts as given up.

        Args:
            what: the job in a few words, for the log.
            job: what to run, on the outbox's thread.
        """
        with self._changed:
            if self._deadline is not None or len(self._jobs) >= self._capacity:
                self._give_up(what, "the outbox is closed" if self._deadline is not None else "the outbox is full")
                return
            if not self._jobs:
                self._lingers_until = time.monotonic() + self._linger
            self._jobs.append((what, job))
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until no job waits, at most `timeout` seconds.

        Returns:
            Whether all that was ever posted is done.
        """
        self.begin()
        with self._awaited():
            self._changed.wait_for(lambda: not self._jobs, timeout)
            return not self._jobs and not self._given_up

    def drain(self, patience: float) -> bool:
        """Wait until no job waits, for as long as it takes, unless nothing gets across for `patience` seconds.

        A service that has been away for longer is tried once more, at once, and not waited for.

        Returns:
            Whether all that was ever posted is done.
        """
        self.begin()
        with self._awaited():
            before, self._hurry = self._begun, True
            while self._jobs:
                failing = 0.0 if self._failing_since is None else time.monotonic() - self._failing_since
                if failing >= patience and self._failed > before:
                    break
                self._changed.wait(min(1.0, max(0.05, patience - failing)))
            return not self._jobs and not self._given_up

    def close(self, timeout: float) -> bool:
        """Take no more jobs, try the waiting ones for at most `timeout` seconds, then stop the thread.

        A job in the middle of a call that does not return is left to the process's end.

        Returns:
            Whether all that was ever posted is done.
        """
        with self._changed:
            if self._deadline is None:
                self._deadline = time.monotonic() + timeout
            self._changed.notify_all()
        self.begin()
        assert self._thread is not None
        self._thread.join(timeout + 1.0)
        return self.unsynced == 0

    @contextmanager
    def _awaited(self) -> Iterator[None]:
        """Holds the lock; inside the block jobs do not linger."""
        with self._changed:
            self._waiting += 1
            self._changed.notify_all()
            try:
                yield
            finally:
                self._waiting -= 1

    def _give_up(self, what: str, why: str) -> None:
        self._given_up += 1
        if self._given_up == 1:  # one line, not one for each: whoever closes the outbox tells the count
            log.warning("tracking goes on without: %s (%s)", what, why)

    def _out_of_time(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _run(self) -> None:
        failures = refused = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._deadline is not None)
                lingers = max(0.0, self._lingers_until - time.monotonic())
                self._changed.wait_for(lambda: self._waiting or self._deadline is not None, lingers)
                if not self._jobs or self._out_of_time():
                    return
                what, job = self._jobs[0]
                self._begun += 1
            error = self._attempt(job)
            if error is None:
                if failures:
                    log.info("tracking goes on after %d failed attempts", failures)
                failures = refused = 0
                self._done()
                continue
            failures += 1
            with self._changed:
                self._failing_since, self._failed = self._failing_since or time.monotonic(), self._begun
                self._changed.notify_all()
            fault = self._judge(error)
            # What failed because the service went away is not held against the job once the service is back.
            refused = refused + 1 if fault is Fault.FAILED else 0
            if fault is Fault.REFUSED or refused >= self._attempts:
                with self._changed:
                    self._give_up(what, self._describe(error))
                failures = refused = 0
                self._done()
                continue
            if failures == 1:
                log.warning("tracking waits: %s (%s: %s)", what, fault.value, self._describe(error))
            self._pause(failures)

    def _attempt(self, job: Job) -> Exception | None:
        try:
            job()
        except Exception as error:
            return error
        return None

    def _done(self) -> None:
        with self._changed:
            self._jobs.popleft()
            self._failing_since = None
            self._changed.notify_all()

    def _pause(self, failures: int) -> None:
        longest = min(self._longest_wait, self._first_wait * 2.0 ** min(failures - 1, 30))
        wait = longest * (0.5 + self._jitter.random() / 2)
        with self._changed:
            if self._deadline is None:
                self._changed.wait_for(lambda: self._deadline is not None or self._hurry, wait)
                self._hurry = False
            else:
                self._changed.wait(max(0.0, min(wait, self._deadline - time.monotonic())))
