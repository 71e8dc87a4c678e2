"""The trials of a search: suggested cell by cell, each suggestion trained with every seed."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from hssl_ray.study.layout import study_folder
from hssl_ray.study.ledger import Ledger, Outcome, Sample
from hssl_ray.study.search.optuna_view import CellHistory, OptunaView
from hssl_ray.study.search.search import Past, Sampler, State, Suggestion
from hssl_ray.study.search.warm_start import Point, fitting, history_of
from hssl_ray.study.spec import Cell, PlannedTrial, Study

log = logging.getLogger(__name__)


def search_digest(study: Study, cell: Cell) -> str:
    """Identity of what suggestions in a cell depend on.

    How many are asked for, with which seeds, and what is tried or known first may change: the suggestions made so far
    stand.
    """
    assert study.search is not None
    left_out = {"trials", "points_to_evaluate", "warm_start"}
    data = [study.search.model_dump(mode="json", exclude=left_out), cell.name, dict(cell.settings)]
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
        WarmStartError: the study to start from has not run here.
    """

    def __init__(self, study: Study, ledger: Ledger) -> None:
        assert study.search is not None
        self._study = study
        self._ledger = ledger
        self._metric = study.search.metric
        cells = study.cells()
        self._digests = {cell.name: search_digest(study, cell) for cell in cells}
        warm = self._warm_points(cells)
        self._samplers = [Sampler(study.search, cell, study.search.seed, warm[cell.name]) for cell in cells]
        self._open: dict[str, list[_Open]] = {}
        digests = set(self._digests.values())
        self._past = deque(sample for sample in ledger.history.samples.values() if sample.search in digests)
        histories = []
        for sampler in self._samplers:
            name = sampler.cell.name
            mine = [sample for sample in self._past if sample.cell == name]
            sampler.replay(Past(Suggestion(sample.number, sample.settings)) for sample in mine)
            histories.append(CellHistory(name, self._digests[name], [self._as_it_stands(sample) for sample in mine]))
        folder = study_folder(ledger.home, study.study)
        self._view = OptunaView(folder, study.study, study.search, histories)

    def _warm_points(self, cells: Sequence[Cell]) -> dict[str, list[Point]]:
        """What each cell's sampler knows from the start. Read once in a study's life: the other study may go on."""
        search = self._study.search
        assert search is not None
        if (other := search.warm_start) is None:
            return {cell.name: [] for cell in cells}
        history = None
        found: dict[str, list[Point]] = {}
        for cell in cells:
            about = f"warm_start {self._digests[cell.name]}"
            noted = self._ledger.history.notes.get(about)
            if noted is None or noted["study"] != other:
                history = history or history_of(self._ledger.home, other, search)
                noted = {"study": other, "points": [list(point) for point in fitting(history, search, cell)]}
                self._ledger.note(about, noted)
                if not noted["points"]:
                    log.warning(
                        "search.warm_start: study %s has no finished trial that fits cell %s, which starts cold",
                        other,
                        cell.name,
                    )
            found[cell.name] = [(settings, value) for settings, value in noted["points"]]
        return found

    def _as_it_stands(self, sample: Sample) -> Past:
        """A suggestion of earlier runs with what became of its trials, for the view."""
        suggestion = Suggestion(sample.number, sample.settings)
        outcomes = self._ledger.history.outcomes
        seeds = self._study.seed_list
        wanted = [trial.trial_id for trial in sample.trials if trial.config.seed in seeds]
        ended = [outcomes[trial_id] for trial_id in wanted if trial_id in outcomes]
        if len(ended) < len(seeds) or any(outcome.state == "killed" for outcome in ended):
            return Past(suggestion)
        value, state = self._verdict(ended)
        return Past(suggestion, state, value)

    def ask(self) -> tuple[PlannedTrial, ...] | None:
        """The trials of the next suggestion; None when every cell has all of its suggestions."""
        if self._past:
            sample = self._past.popleft()
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
        known = self._ledger.history.samples.get((sample.search, sample.number))
        if known != sample:
            self._ledger.sampled(sample)
        if known is None:
            self._view.put(cell.name, Past(suggestion))
        one = _Open(sampler, suggestion.number, {trial.trial_id for trial in trials})
        for trial in trials:
            self._open.setdefault(trial.trial_id, []).append(one)
        return trials

    def tell(self, trial_id: str, outcome: Outcome) -> None:
        """How a trial ended. When all seeds of a suggestion have, its value is their mean.

        One that was cut short has not ended: it is handed out again, by this run or the next.
        """
        if outcome.state == "killed":
            return
        for one in self._open.pop(trial_id, []):
            one.waiting.discard(trial_id)
            one.outcomes.append(outcome)
            if not one.waiting:
                past = one.sampler.tell(one.number, *self._verdict(one.outcomes))
                self._view.put(one.sampler.cell.name, past)

    def close(self) -> None:
        """Finish the view of the suggestions; nothing is asked or told after that."""
        self._view.close()

    def _verdict(self, outcomes: list[Outcome]) -> tuple[float | None, State]:
        """A suggestion is no better than its worst seed's state; a value is the mean over all seeds or none."""
        states = {outcome.state for outcome in outcomes}
        values = [outcome.metrics[self._metric] for outcome in outcomes if self._metric in outcome.metrics]
        if not states <= {"finished", "pruned"} or len(values) < len(outcomes) or not all(map(math.isfinite, values)):
            return None, "failed"
        return fmean(values), "pruned" if "pruned" in states else "finished"
