"""Seeds are added only where a comparison is undecided, and every look at it is paid for.

Looking at a verdict again and again until it decides is wrong more often than its level says: at ten looks, four times
as often. So the level alpha = 1 - confidence is spent over the looks. After n of N seeds, alpha (n / N)^2 may have been
spent: the power family of spending functions (Lan and DeMets, Discrete sequential boundaries for clinical trials, 1983;
Kim and DeMets, 1987). A look is tested at what it adds to that. The levels of all looks sum to alpha, so by
Bonferroni's inequality the chance of a wrong verdict at any of them is at most alpha, whatever the seeds have in common:
for "different", and for each of the two one-sided tests of "equivalent".
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from hssl_ray.study.ledger import Ledger, Outcome, Sample
from hssl_ray.study.sections import Race
from hssl_ray.study.spec import Cell, PlannedTrial, Study
from hssl_ray.study.statistics import paired_difference

_POWER = 2


def look_confidence(race: Race, seeds: int, confidence: float) -> float:
    """1 - the level that the look at so many seeds is tested at.

    Args:
        seeds: of a cell; between two looks those of the next one count as not yet looked at.
        confidence: of all looks together.
    """
    looks = [look for look in race.looks if look <= seeds] or [race.start]
    before = looks[-2] if len(looks) > 1 else 0
    share = (looks[-1] / race.at_most) ** _POWER - (before / race.at_most) ** _POWER
    return 1 - (1 - confidence) * share


def race_digest(pair: tuple[Cell, Cell]) -> str:
    """Identity of a pair in the ledger, where each step of its race is a sample under this digest."""
    data = ["race", *([cell.name, dict(cell.settings)] for cell in pair)]
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


@dataclass
class _Pair:
    """Two cells, the seeds they have, and what became of them; by seed and side."""

    cells: tuple[Cell, Cell]
    seeds: int
    running: set[str] = field(default_factory=set)
    outcomes: tuple[dict[int, Outcome], dict[int, Outcome]] = field(default_factory=lambda: ({}, {}))


class SeedRace:
    """The trials of a race after those of its start; a `sweep.Search`.

    A pair gets the seeds of the next look when all of the present one's have ended and its verdict is undecided. That
    is written to the ledger before the trials start, and is not decided again when the study is: steps of earlier runs
    come first.
    """

    def __init__(self, study: Study, ledger: Ledger) -> None:
        assert study.race is not None
        self._study, self._race, self._ledger = study, study.race, ledger
        self._pairs = [_Pair(cells, study.race.start) for cells in study.pairs]
        self._members: dict[str, tuple[_Pair, int, int]] = {}
        for pair in self._pairs:
            self._enter(pair, range(study.race.start))
        self._earlier = deque(self._steps_of_earlier_runs())

    def _steps_of_earlier_runs(self) -> Iterator[tuple[_Pair, int]]:
        samples = self._ledger.history.samples
        for pair in self._pairs:
            digest = race_digest(pair.cells)
            for number in sorted(number for search, number in samples if search == digest):
                if number <= self._race.at_most:
                    yield pair, number

    def ask(self) -> tuple[PlannedTrial, ...] | None:
        """The seeds of a pair's next look; None while no pair is ready for one, or none is left."""
        if self._earlier:
            pair, seeds = self._earlier.popleft()
            return self._step(pair, seeds)
        for pair in self._pairs:
            if not pair.running and pair.seeds < self._race.at_most and self._undecided(pair):
                return self._step(pair, next(look for look in self._race.looks if look > pair.seeds))
        return None

    def tell(self, trial_id: str, outcome: Outcome) -> None:
        """How a trial ended. One that is cut short still runs, as far as its pair is concerned."""
        if trial_id in self._members and outcome.state != "killed":
            pair, side, seed = self._members[trial_id]
            pair.running.discard(trial_id)
            pair.outcomes[side][seed] = outcome

    def _step(self, pair: _Pair, seeds: int) -> tuple[PlannedTrial, ...]:
        added = range(pair.seeds, seeds)
        trials = self._enter(pair, added)
        pair.seeds = max(pair.seeds, seeds)
        sample = Sample(race_digest(pair.cells), pair.cells[1].name, seeds, {"seeds": list(added)}, trials)
        if (sample.search, seeds) not in self._ledger.history.samples:
            self._ledger.sampled(sample)
        return trials

    def _enter(self, pair: _Pair, seeds: Sequence[int]) -> tuple[PlannedTrial, ...]:
        found: list[PlannedTrial] = []
        for side, cell in enumerate(pair.cells):
            trials = self._study.replicates(cell, seeds)
            self._members |= {trial.trial_id: (pair, side, trial.config.seed) for trial in trials}
            pair.running |= {trial.trial_id for trial in trials}
            found += trials
        return tuple(found)

    def _undecided(self, pair: _Pair) -> bool:
        compare = self._study.compare
        baseline, against = (_values(outcomes, compare.metric) for outcomes in pair.outcomes)
        common = sorted(baseline.keys() & against.keys())
        difference = paired_difference([baseline[s] for s in common], [against[s] for s in common])
        confidence = look_confidence(self._race, pair.seeds, compare.confidence)
        return difference is None or difference.verdict(compare.margin, confidence) == "undecided"


def _values(outcomes: Mapping[int, Outcome], metric: str) -> dict[int, float]:
    return {
        seed: outcome.metrics[metric]
        for seed, outcome in outcomes.items()
        if outcome.state == "finished" and metric in outcome.metrics
    }
