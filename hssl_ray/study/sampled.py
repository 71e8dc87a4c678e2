"""The trials of a search: suggested cell by cell, each suggestion trained with every seed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from statistics import fmean

from hssl_ray.study.ledger import Ledger, Outcome, Sample
from hssl_ray.study.search import Past, Sampler, State, Suggestion
from hssl_ray.study.spec import Cell, PlannedTrial, Study


def search_digest(study: Study, cell: Cell) -> str:
    """Identity of what suggestions in a cell depend on. How many are asked for, and with which seeds, may change."""
    assert study.search is not None
    data = [study.search.model_dump(mode="json", exclude={"trials"}), cell.name, dict(cell.settings)]
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


@dataclass
class _Open:
    """A suggestion whose trials have not all ended."""

    sampler: Sampler
    number: int
    waiting: set[str]
    outcomes: list[Outcome] = field(default_factory=list)


class SampledTrials:
    """Asks the samplers of a study's cells in turn, and tells them what became of each suggestion; a `sweep.Search`.

    Suggestions of earlier runs come first, in the order they were made: their trials that have ended settle at once, so
    the samplers know all that was known when they are asked for a new one.

    Raises:
        SamplerUnavailable: the sampler's package is not installed.
    """

    def __init__(self, study: Study, ledger: Ledger) -> None:
        assert study.search is not None
        self._study = study
        self._ledger = ledger
        self._metric = study.search.metric
        cells = study.cells()
        self._samplers = [Sampler(study.search, cell, study.search.seed) for cell in cells]
        self._digests = {cell.name: search_digest(study, cell) for cell in cells}
        self._open: dict[str, list[_Open]] = {}
        digests = set(self._digests.values())
        self._past = [sample for sample in ledger.history.samples.values() if sample.search in digests]
        for sampler in self._samplers:
            mine = [sample for sample in self._past if sample.cell == sampler.cell.name]
            sampler.replay(Past(Suggestion(sample.number, sample.settings)) for sample in mine)

    def ask(self) -> tuple[PlannedTrial, ...] | None:
        """The trials of the next suggestion; None when every cell has all of its suggestions."""
        if self._past:
            sample = self._past.pop(0)
            sampler = next(one for one in self._samplers if one.cell.name == sample.cell)
            return self._issue(sampler, Suggestion(sample.number, sample.settings))
        while self._samplers:
            sampler = self._samplers.pop(0)
            suggestion = sampler.ask()
            if suggestion is not None:
                self._samplers.append(sampler)  # the other cells are asked first
                return self._issue(sampler, suggestion)
        return None

    def _issue(self, sampler: Sampler, suggestion: Suggestion) -> tuple[PlannedTrial, ...]:
        cell = sampler.cell
        trials = tuple(self._study.sampled(cell, suggestion.number, suggestion.settings))
        sample = Sample(self._digests[cell.name], cell.name, suggestion.number, dict(suggestion.settings), trials)
        if self._ledger.history.samples.get((sample.search, sample.number)) != sample:
            self._ledger.sampled(sample)
        one = _Open(sampler, suggestion.number, {trial.trial_id for trial in trials})
        for trial in trials:
            self._open.setdefault(trial.trial_id, []).append(one)
        return trials

    def tell(self, trial_id: str, outcome: Outcome) -> None:
        """How a trial ended. When all seeds of a suggestion have, its value is their mean."""
        for one in self._open.pop(trial_id, []):
            one.waiting.discard(trial_id)
            one.outcomes.append(outcome)
            if not one.waiting:
                one.sampler.tell(one.number, *self._verdict(one.outcomes))

    def _verdict(self, outcomes: list[Outcome]) -> tuple[float | None, State]:
        """A suggestion is no better than its worst seed's state; a value is the mean over all seeds or none."""
        states = {outcome.state for outcome in outcomes}
        values = [outcome.metrics[self._metric] for outcome in outcomes if self._metric in outcome.metrics]
        if not states <= {"finished", "pruned"} or len(values) < len(outcomes):
            return None, "failed"
        return fmean(values), "pruned" if "pruned" in states else "finished"
