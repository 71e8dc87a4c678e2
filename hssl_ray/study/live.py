"""A running study in numbers, for those who watch it: an observer that counts, and hands out what it counted.

Labels are bounded: a study's name, methods, states, causes, rungs and a few metrics; never a trial.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from hssl_ray.study.engine import Summary
from hssl_ray.study.file.sections import EarlyStop
from hssl_ray.study.ledger import END_STATES, Outcome
from hssl_ray.study.metrics import LESS_IS_BETTER
from hssl_ray.study.search.early_stop import rung_epochs
from hssl_ray.study.spec import PlannedTrial, Study
from hssl_ray.trial.journal import Record

STATES = ("planned", "running", *END_STATES)
ALWAYS = ("train/loss", "probe/top1")
"""Metrics that every study shows, beside the one that it compares."""


@dataclass(frozen=True)
class Family:
    """One metric: its name, what it means, and what its values are told apart by."""

    name: str
    help: str
    labels: tuple[str, ...] = ("study",)
    kind: Literal["gauge", "counter"] = "gauge"


FAMILIES = (
    Family("hssl_trials", "Trials of the study in each state.", ("study", "state")),
    Family("hssl_study_trials", "Trials of the study, those a search may still suggest included."),
    Family("hssl_metric_last", "Newest value of a metric, of any trial of the method.", ("study", "method", "metric")),
    Family("hssl_metric_best", "Best value of a metric so far.", ("study", "method", "metric")),
    Family("hssl_epochs", "Epochs trained, repeated ones included.", ("study", "method"), "counter"),
    Family("hssl_images_per_second", "Speed of the running trials, added up.", ("study", "method")),
    Family("hssl_restarts", "New attempts at trials, by why the last one ended.", ("study", "cause"), "counter"),
    Family("hssl_rung_trials", "Trials that have reached a rung of early stopping.", ("study", "epoch")),
    Family("hssl_checkpoint_seconds", "Time spent on writing checkpoints.", ("study",), "counter"),
    Family("hssl_outbox_jobs", "Writes that MLflow has not got yet."),
    Family("hssl_silence_seconds", "Time since the running trial that is longest silent was last heard of."),
)

Sample = tuple[str, tuple[str, ...]]
"""A family's name and the values of its labels."""


class Live:
    """Counts what happens to a study; an `Observer`.

    Args:
        outbox: how many writes MLflow has not got yet.
        clock: monotonic seconds.
    """

    def __init__(self, outbox: Callable[[], int] = lambda: 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._outbox, self._clock = outbox, clock
        self._lock = threading.Lock()
        self._study = ""
        self._planned = 0
        self._metrics: tuple[str, ...] = ALWAYS
        self._early_stop: EarlyStop | None = None
        self._longest = 0  # epochs of the longest trial so far
        self._states: dict[str, str] = {}
        self._heard: dict[str, float] = {}  # of running trials
        self._speed: dict[str, tuple[str, float]] = {}  # of running trials: method, images a second
        self._reached: dict[str, int] = {}  # the last epoch of each trial
        self._last: dict[tuple[str, str], float] = {}
        self._best: dict[tuple[str, str], float] = {}
        self._epochs = Counter[str]()
        self._restarts = Counter[str]()
        self._causes: dict[str, str] = {}  # why the last attempt at a trial ended
        self._seen: set[tuple[str, int, int]] = set()
        self._checkpoint_seconds = 0.0

    def study_opened(self, study: Study, planned_count: int) -> None:
        with self._lock:
            self._study, self._planned = study.study, planned_count
            self._metrics = tuple(dict.fromkeys((*ALWAYS, study.compare.metric)))
            self._early_stop = study.early_stop

    def replay(self, planned: PlannedTrial, records: Iterable[Record], outcome: Outcome | None) -> None:
        if outcome is None:
            return
        with self._lock:
            self._end(planned, outcome)
            if self._early_stop is not None:
                self._longest = max(self._longest, planned.config.epochs)
                self._reached[planned.trial_id] = max((record.epoch for record in records), default=0)

    def trial_started(self, planned: PlannedTrial, attempt: int) -> None:
        with self._lock:
            self._states[planned.trial_id] = "running"
            self._heard[planned.trial_id] = self._clock()
            self._longest = max(self._longest, planned.config.epochs)
            if attempt > 1:
                self._restarts[self._causes.pop(planned.trial_id, "interrupted")] += 1

    def trial_reported(self, planned: PlannedTrial, record: Record) -> None:
        key = (planned.trial_id, record.epoch, record.attempt)
        method = planned.config.method
        with self._lock:
            if key in self._seen:  # told once more when a trial is taken up again
                return
            self._seen.add(key)
            self._epochs[method] += 1
            self._heard[planned.trial_id] = self._clock()
            if self._early_stop is not None:
                self._reached[planned.trial_id] = record.epoch
            self._speed[planned.trial_id] = method, record.metrics.get("perf/images_per_second", 0.0)
            self._checkpoint_seconds += record.metrics.get("perf/checkpoint_seconds", 0.0)
            self._note(method, record.metrics)

    def trial_ended(self, planned: PlannedTrial, outcome: Outcome) -> None:
        with self._lock:
            self._end(planned, outcome)
            self._heard.pop(planned.trial_id, None)
            self._speed.pop(planned.trial_id, None)
            self._seen = {key for key in self._seen if key[0] != planned.trial_id}

    def study_closed(self, summary: Summary) -> None:
        with self._lock:
            self._heard.clear()
            self._speed.clear()

    def _end(self, planned: PlannedTrial, outcome: Outcome) -> None:
        self._states[planned.trial_id] = outcome.state
        if outcome.cause:
            self._causes[planned.trial_id] = outcome.cause

    def _note(self, method: str, metrics: Mapping[str, float]) -> None:
        for name in self._metrics:
            if (value := metrics.get(name)) is None:
                continue
            self._last[method, name] = value
            best = min if name in LESS_IS_BETTER else max
            self._best[method, name] = best(value, self._best.get((method, name), value))

    def samples(self) -> dict[Sample, float]:
        """Every value now. What was there once stays, as zero where nothing is left of it."""
        with self._lock:
            study, now = self._study, self._clock()
            found: dict[Sample, float] = {}
            counts = Counter(self._states.values())
            counts["planned"] = max(0, self._planned - sum(counts.values()))
            for state in STATES:
                found["hssl_trials", (study, state)] = counts[state]
            found["hssl_study_trials", (study,)] = self._planned
            for (method, metric), value in self._last.items():
                found["hssl_metric_last", (study, method, metric)] = value
            for (method, metric), value in self._best.items():
                found["hssl_metric_best", (study, method, metric)] = value
            for method, epochs in self._epochs.items():
                found["hssl_epochs", (study, method)] = epochs
                speeds = [speed for of, speed in self._speed.values() if of == method]
                found["hssl_images_per_second", (study, method)] = sum(speeds)
            for cause, restarts in self._restarts.items():
                found["hssl_restarts", (study, cause)] = restarts
            stop = self._early_stop
            rungs = rung_epochs(stop.grace_epochs, stop.reduction_factor, self._longest) if stop else ()
            for epoch in rungs:
                reached = sum(last >= epoch for last in self._reached.values())
                found["hssl_rung_trials", (study, str(epoch))] = reached
            found["hssl_checkpoint_seconds", (study,)] = self._checkpoint_seconds
            found["hssl_outbox_jobs", (study,)] = self._outbox()
            found["hssl_silence_seconds", (study,)] = max((now - at for at in self._heard.values()), default=0.0)
            return found
