"""A study as another process sees it: ledger, journals and lease, each read on from where it was read to before.

Works with the cluster down, and costs what happened since the last look, not what there is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hssl_ray.study.layout import study_folder, trial_folder
from hssl_ray.study.lease import Driver
from hssl_ray.study.ledger import LEDGER, History, Outcome, driver_of
from hssl_ray.study.results import state_of
from hssl_ray.study.spec import PlannedTrial
from hssl_ray.trial.durable import LogTail
from hssl_ray.trial.journal import JOURNAL


@dataclass
class Running:
    """A trial that is being trained, as far as its journal has got."""

    trial: PlannedTrial
    attempt: int
    epoch: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    """Every metric at the last epoch that has it."""
    before: float = 0.0
    """The share of its epochs that was trained before this driver began."""

    @property
    def share(self) -> float:
        """How much of it is done, of 1."""
        return min(1.0, self.epoch / self.trial.config.epochs)


@dataclass(frozen=True)
class Best:
    """The best value of a metric that a method has reached, and the trial that did."""

    value: float
    trial: PlannedTrial


@dataclass(frozen=True)
class Look:
    """What there is to see at one moment."""

    states: dict[str, tuple[str, str]]
    """State and reason of every trial, see `results_table`; the same object for as long as they stay the same."""
    trials: dict[str, PlannedTrial]
    history: History
    running: tuple[Running, ...]
    ended: tuple[tuple[PlannedTrial, Outcome], ...]
    """Attempts that ended since the last look; all there are, at the first one."""
    best: dict[str, Best]
    """By method."""
    driver: Driver | None
    silence: float
    """Seconds since the driver was last heard of, or since the first look."""
    done: float
    """Trials trained since the driver began, parts of them included."""
    seconds: float
    """Since the driver began; 0 without one."""

    @property
    def left(self) -> float:
        """Trials that this driver has still to train, as far as they are known, parts of them included."""
        waiting = sum(state == "planned" for state, _ in self.states.values())
        return waiting + sum(1.0 - one.share for one in self.running)

    @property
    def alive(self) -> bool:
        """Whether somebody runs the study; a driver on another machine is taken at its word."""
        return self.driver is not None and not self.driver.ended


class StudyWatch:
    """Looks at a study again and again, whether it runs or not.

    Args:
        home: see `hssl_ray.data.home`.
        study: its name.
        metric: what its trials are compared by.
        less_is_better: of that metric.
        clock: monotonic seconds.
        wall: seconds since 1970.
    """

    def __init__(
        self,
        home: Path,
        study: str,
        metric: str,
        *,
        less_is_better: bool = False,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._home, self._study, self._metric = home, study, metric
        self._better = min if less_is_better else max
        self._clock, self._wall = clock, wall
        self._ledger = LogTail(study_folder(home, study) / LEDGER)
        self._sign: tuple[str, float, int] | None = None
        self._heard = clock()
        self._begin()

    def _begin(self) -> None:
        self._history = History(metrics=(self._metric,))
        self._trials: dict[str, PlannedTrial] = {}
        self._states: dict[str, tuple[str, str]] = {}
        self._was_alive = False
        self._running: dict[str, Running] = {}
        self._journals: dict[str, LogTail] = {}
        self._best: dict[str, Best] = {}
        self._over: list[tuple[float, float]] = []  # trials that ended: when, and how much this driver did of each

    def look(self) -> Look:
        """Read what was added, and say what there is now.

        Raises:
            NewerFormat: a newer version writes the ledger.
        """
        driver = driver_of(self._home, self._study)
        self._hear(driver)
        events = self._ledger.new()
        if events is None:  # another ledger: begin anew
            self._begin()
            events = self._ledger.new() or []
        ended = self._fold(events, 0.0 if driver is None else driver.since)
        alive = driver is not None and not driver.ended
        running = self._follow(driver.since) if alive and driver is not None else ()
        history = self._history
        if events or alive != self._was_alive:
            self._was_alive = alive
            self._states = {
                trial_id: state_of(trial, history, history.outcomes.get(trial_id), alive)
                for trial_id, trial in self._trials.items()
            }
        since = driver.since if alive and driver is not None else math.inf
        return Look(
            states=self._states,
            trials=self._trials,
            history=history,
            running=running,
            ended=tuple(ended),
            best=dict(self._best),
            driver=driver,
            silence=self._clock() - self._heard,
            done=sum(share for at, share in self._over if at >= since)
            + sum(max(0.0, one.share - one.before) for one in running),
            seconds=max(0.0, self._wall() - since),
        )

    def _hear(self, driver: Driver | None) -> None:
        sign = None if driver is None else (driver.name, driver.since, driver.beats)
        if sign != self._sign:
            self._sign, self._heard = sign, self._clock()

    def _fold(self, events: list[dict[str, Any]], since: float) -> list[tuple[PlannedTrial, Outcome]]:
        """Take in the ledger's new events; the attempts that ended with them."""
        over = []
        for event in events:
            trained = event["event"] == "ended" and event["trial_id"] in self._history.started
            self._history.fold(event)
            match event["event"]:
                case "planned":
                    self._trials = self._history.trials()
                case "sampled":
                    rows = {} if event["search"] not in self._history.searches else self._history.samples
                    sample = rows.get((event["search"], event["number"]))
                    for row in () if sample is None else sample.trials:
                        self._trials.setdefault(row.trial_id, row)
                case "started":
                    self._drop(event["trial_id"])
                case "ended":
                    over.append((event["trial_id"], event["time"], trained))
        ended = []
        for trial_id, at, trained in over:
            outcome, followed = self._history.outcomes.get(trial_id), self._drop(trial_id)
            if outcome is None or (trial := self._trials.get(trial_id)) is None:
                continue  # begun again since, or of an earlier plan
            ended.append((trial, outcome))
            self._compare(trial, outcome.metrics)
            if trained and outcome.state != "killed" and at >= since:
                self._over.append((at, 1.0 - (followed.before if followed else 0.0)))
        return ended

    def _drop(self, trial_id: str) -> Running | None:
        self._journals.pop(trial_id, None)
        return self._running.pop(trial_id, None)

    def _follow(self, since: float) -> tuple[Running, ...]:
        """The running trials, after reading on in their journals."""
        for trial_id in self._history.started:
            if (trial := self._trials.get(trial_id)) is None:
                continue
            if trial_id not in self._journals:
                self._journals[trial_id] = LogTail(trial_folder(self._home, trial_id) / JOURNAL)
                self._running[trial_id] = Running(trial, self._history.attempts[trial_id])
            self._read(self._running[trial_id], self._journals[trial_id], since)
        return tuple(replace(one, metrics=dict(one.metrics)) for one in self._running.values())  # they will change

    def _read(self, one: Running, journal: LogTail, since: float) -> None:
        records = journal.new()
        if records is None:
            one.epoch, one.before, one.metrics = 0, 0.0, {}
            records = journal.new() or []
        for record in records:
            if "format" in record:
                continue
            one.epoch = record["epoch"]
            one.metrics |= record["metrics"]
            if record["time"] < since:
                one.before = one.share
            self._compare(one.trial, record["metrics"])

    def _compare(self, trial: PlannedTrial, metrics: dict[str, float]) -> None:
        value = metrics.get(self._metric)
        if value is None or not math.isfinite(value):
            return
        held = self._best.get(trial.config.method)
        if held is None or self._better(held.value, value) != held.value:
            self._best[trial.config.method] = Best(value, trial)
