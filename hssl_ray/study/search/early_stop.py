"""Asynchronous successive halving (Li et al., A System for Massively Parallel Hyperparameter Tuning, 2020).

A pure ranking of numbers: it knows no engine and keeps no file. The clock is the trial's own epoch, so a trial that
resumes from a checkpoint stands where it stood, and the rungs are rebuilt from the journals: by `record`, and by
`decide` for the last report of a trial that was cut short, whose decision may have died with the driver.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from hssl_ray.study.metrics import Goal


def rung_epochs(grace_epochs: int, reduction_factor: int, max_epochs: int) -> list[int]:
    """Where rungs stand: grace_epochs * reduction_factor ** k, below max_epochs."""
    epochs = []
    rung = grace_epochs
    while rung < max_epochs:
        epochs.append(rung)
        rung *= reduction_factor
    return epochs


class Asha:
    """The rungs of one cell: trials of different cells are never ranked against each other.

    A trial meets a rung at the first epoch at or past it that it reports, once, and goes on if its value is among
    the best 1 / reduction_factor (at least one) of all values the rung has seen so far. Equal values go on together.
    """

    def __init__(
        self, grace_epochs: int, reduction_factor: int, max_epochs: int, metric: str, goal: Goal = "maximize"
    ) -> None:
        """
        Args:
            grace_epochs: the first rung, >= 1.
            reduction_factor: see `rung_epochs`; >= 2.
            max_epochs: epochs of a full trial, >= 1.
            metric: name of the value that `decide` is given, kept for whoever looks it up in a record.
            goal: whether more or less of it is better.
        """
        assert grace_epochs >= 1 and reduction_factor >= 2 and max_epochs >= 1
        self.metric = metric
        self.stopped: set[str] = set()
        """Trials that `decide` has stopped."""
        self._reduction_factor = reduction_factor
        self._sign = 1.0 if goal == "maximize" else -1.0
        self._rungs: dict[int, dict[str, float]] = {
            epoch: {} for epoch in rung_epochs(grace_epochs, reduction_factor, max_epochs)
        }

    @property
    def rungs(self) -> Mapping[int, Mapping[str, float]]:
        """For each rung's epoch the values it has seen, by trial, in the metric's own sign."""
        return {epoch: {t: self._sign * v for t, v in seen.items()} for epoch, seen in self._rungs.items()}

    def record(self, trial_id: str, epoch: int, value: float) -> int | None:
        """Enter a reported value without a decision, as a restart does with what the journals hold.

        Returns:
            The rung that the trial has met by this report; None if it met none, or had met it before.
        """
        rung = max((e for e in self._rungs if e <= epoch), default=None)
        if rung is None or trial_id in self._rungs[rung]:
            return None
        self._rungs[rung][trial_id] = self._sign * value if math.isfinite(value) else -math.inf
        return rung

    def decide(self, trial_id: str, epoch: int, value: float) -> bool:
        """Whether the trial should stop after this epoch. A value that is not finite ranks below all others."""
        rung = self.record(trial_id, epoch, value)
        if rung is None:
            return False
        seen = self._rungs[rung]
        kept = max(1, len(seen) // self._reduction_factor)
        threshold = sorted(seen.values(), reverse=True)[kept - 1]
        stop = seen[trial_id] < threshold or seen[trial_id] == -math.inf
        if stop:
            self.stopped.add(trial_id)
        return stop
