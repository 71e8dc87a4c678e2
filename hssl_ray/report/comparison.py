"""What a comparison says, as data: cells, pairs of cells, answers. Values are in the metric's units (fractions)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from hssl_ray.report.paper.printed import PaperCell
from hssl_ray.study.file.sections import Race
from hssl_ray.study.statistics import Design, Difference, Interval, Summary, Verdict

SCHEMA = "hssl-ray/comparison/1"  # raised when a field of the JSON is renamed, removed or changes its meaning


@dataclass(frozen=True)
class Question:
    """What a study asks: the fields of its `compare` section, and which fields its search samples."""

    study: str
    baseline: str = "a_ssl"
    against: str = "h_ssl"
    metric: str = "probe/ridge_top1"
    margin: float = 0.02
    confidence: float = 0.95
    sampled: tuple[str, ...] = ()
    search_metric: str | None = None
    maximize: bool = True
    race: Race | None = None


@dataclass(frozen=True)
class Gap:
    """A trial that is planned but has no value of the metric yet, or never will."""

    trial_id: str
    name: str
    cell: str
    seed: int
    state: str
    reason: str | None


@dataclass(frozen=True)
class Look:
    """Which look of a race an answer is from, and the level that its tests have.

    The intervals of the answer have the same level, so that those of all looks together hold with the study's
    confidence. One that is not `complete` has trials that have not ended, and no verdict yet.
    """

    number: int
    of: int
    seeds: int
    at_most: int
    level: float
    complete: bool


@dataclass(frozen=True)
class Answer:
    """A difference (against - baseline) of two cells, and what it decides at the study's margin.

    `seeds_to_decide`: seeds per side that decide with power 0.8 if the observed difference and spread are the truth;
    `seeds_if_equal`: that show the equivalence if the true difference is 0. None: no number of seeds does. `look`:
    where the study races its seeds.
    """

    difference: Difference
    interval: Interval
    equivalence_interval: Interval
    p_different: float
    p_equivalent: float
    verdict: Verdict
    seeds_to_decide: int | None
    seeds_if_equal: int | None
    other_design: tuple[Design, Verdict] | None = None
    p_different_holm: float | None = None
    p_equivalent_holm: float | None = None
    verdict_holm: Verdict | None = None
    look: Look | None = None

    @property
    def seeds_missing(self) -> int | None:
        """Seeds still to be run per side; 0 once decided, None where more seeds do not help."""
        if self.verdict != "undecided":
            return 0
        return None if self.seeds_to_decide is None else max(1, self.seeds_to_decide - self.difference.n)


@dataclass(frozen=True)
class Cell:
    """One setting of one method over its seeds. `values` has the finished seeds; `settings` what tells cells apart."""

    name: str
    method: str
    settings: dict[str, Any]
    seeds: tuple[int, ...]
    values: dict[int, float]
    gaps: tuple[Gap, ...]
    summary: Summary | None
    interval: Interval | None
    gain: Answer | None = None
    paper: PaperCell | None = None
    paper_interval: Interval | None = None
    suggestions: int | None = None


@dataclass(frozen=True)
class Pair:
    """The two cells that differ in the method alone, the reference cells of the same setting, and the answer."""

    label: str
    settings: dict[str, Any]
    baseline: Cell | None
    against: Cell | None
    references: tuple[Cell, ...]
    answer: Answer | None
    notes: tuple[str, ...]

    @property
    def cells(self) -> tuple[Cell, ...]:
        return tuple(cell for cell in (self.baseline, self.against) if cell is not None) + self.references


@dataclass(frozen=True)
class Comparison:
    """A study's answer. `notes` are about the whole; each pair has its own."""

    question: Question
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]

    @property
    def cells(self) -> Iterator[Cell]:
        return (cell for pair in self.pairs for cell in pair.cells)

    @property
    def gaps(self) -> list[Gap]:
        """What is missing, once, also where a cell stands in several pairs."""
        return list(dict.fromkeys(gap for cell in self.cells for gap in cell.gaps))

    def to_json(self) -> str:
        """The whole as JSON, schema `SCHEMA`: differences with their intervals, never a NaN."""
        question = self.question
        return json.dumps(
            {
                "schema": SCHEMA,
                "study": question.study,
                "metric": question.metric,
                "baseline": question.baseline,
                "against": question.against,
                "margin": question.margin,
                "confidence": question.confidence,
                "pairs": [_pair(pair) for pair in self.pairs],
                "missing": [vars(gap) for gap in self.gaps],
                "notes": list(self.notes),
            },
            indent=2,
            allow_nan=False,
        )

    def verdicts(self) -> pa.Table:
        """One row per answered pair under the `cell` it is about (against's), for stores that take tables."""
        rows = [
            {
                "cell": pair.against.name,
                "baseline_cell": pair.baseline.name,
                "setting": pair.label,
                "metric": self.question.metric,
                "margin": self.question.margin,
                "confidence": self.question.confidence,
                "design": answer.difference.design,
                "n": answer.difference.n,
                "difference": answer.difference.estimate,
                "low": answer.interval.low,
                "high": answer.interval.high,
                "p_different": answer.p_different,
                "p_equivalent": answer.p_equivalent,
                "verdict": answer.verdict,
                "seeds_missing": answer.seeds_missing,
            }
            for pair in self.pairs
            if (answer := pair.answer) and pair.baseline and pair.against
        ]
        return pa.Table.from_pylist(rows, schema=_VERDICTS)

    def compared(self) -> pa.Table:
        """One row per cell that has a value of the metric: cell, mean, std, n, low, high; each cell once."""
        found = {cell.name: (cell.summary, cell.interval) for cell in self.cells if cell.summary}
        rows = [
            {
                "cell": name,
                "mean": summary.mean,
                "std": summary.std,
                "n": summary.n,
                "low": interval and interval.low,
                "high": interval and interval.high,
            }
            for name, (summary, interval) in found.items()
        ]
        return pa.Table.from_pylist(rows, schema=_COMPARED)


_NUMBERS = {"mean": pa.float64(), "std": pa.float64(), "n": pa.int64(), "low": pa.float64(), "high": pa.float64()}
_COMPARED = pa.schema({"cell": pa.string(), **_NUMBERS})
_VERDICTS = pa.schema(
    {
        "cell": pa.string(),
        "baseline_cell": pa.string(),
        "setting": pa.string(),
        "metric": pa.string(),
        "margin": pa.float64(),
        "confidence": pa.float64(),
        "design": pa.string(),
        "n": pa.int64(),
        "difference": pa.float64(),
        "low": pa.float64(),
        "high": pa.float64(),
        "p_different": pa.float64(),
        "p_equivalent": pa.float64(),
        "verdict": pa.string(),
        "seeds_missing": pa.int64(),
    }
)


def _pair(pair: Pair) -> dict[str, Any]:
    return {
        "setting": pair.label,
        "settings": pair.settings,
        "baseline": pair.baseline and cell_json(pair.baseline),
        "against": pair.against and cell_json(pair.against),
        "references": [cell_json(cell) for cell in pair.references],
        "answer": pair.answer and answer_json(pair.answer),
        "notes": list(pair.notes),
    }


def cell_json(cell: Cell) -> dict[str, Any]:
    """A cell as the JSON of comparisons and of the paper's tables has it."""
    return {
        "cell": cell.name,
        "method": cell.method,
        "settings": cell.settings,
        "mean": cell.summary and cell.summary.mean,
        "std": cell.summary and cell.summary.std,
        "n": len(cell.values),
        "planned": len(cell.seeds),
        "interval": interval_json(cell.interval),
        "values": {str(seed): value for seed, value in cell.values.items()},
        "suggestions": cell.suggestions,
        "gain_over_frozen": cell.gain and _estimate(cell.gain),
        "paper": cell.paper
        and {
            "mean": cell.paper.printed.mean,
            "std": cell.paper.printed.std,
            "difference": cell.summary and cell.summary.mean - cell.paper.printed.mean,
            "interval": interval_json(cell.paper_interval),
            "departures": list(cell.paper.departures),
        },
    }


def answer_json(answer: Answer) -> dict[str, Any]:
    """An answer as the JSON of comparisons and of the paper's tables has it."""
    return {
        **_estimate(answer),
        "equivalence_interval": interval_json(answer.equivalence_interval),
        "p_different": answer.p_different,
        "p_equivalent": answer.p_equivalent,
        "verdict": answer.verdict,
        "p_different_holm": answer.p_different_holm,
        "p_equivalent_holm": answer.p_equivalent_holm,
        "verdict_holm": answer.verdict_holm,
        "other_design": answer.other_design and {"design": answer.other_design[0], "verdict": answer.other_design[1]},
        "seeds_to_decide": answer.seeds_to_decide,
        "seeds_if_equal": answer.seeds_if_equal,
        "seeds_missing": answer.seeds_missing,
        "look": answer.look and vars(answer.look),
    }


def _estimate(answer: Answer) -> dict[str, Any]:
    difference = answer.difference
    return {
        "difference": difference.estimate,
        "design": difference.design,
        "n": difference.n,
        "interval": interval_json(answer.interval),
    }


def interval_json(interval: Interval | None) -> list[float] | None:
    """`[low, high]`, or null."""
    return [interval.low, interval.high] if interval else None
