"""Seeds are added only where a comparison is undecided; `looks` says at which level each look at it is tested."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from hssl_ray.study.ledger import Ledger, Outcome, Sample
from hssl_ray.study.search.looks import look_confidence, race_digest
from hssl_ray.study.spec import Cell, PlannedTrial, Study
from hssl_ray.study.statistics import paired_difference


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
