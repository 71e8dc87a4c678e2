"""What a study's numbers do along an axis of its grid: means with intervals, and a test for a trend over the seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from hssl_ray.report.comparison import Cell, Comparison, Pair
from hssl_ray.report.paper.readings import FIELDS, concerns
from hssl_ray.report.text_table import NOTHING, TextTable
from hssl_ray.report.wording import Scale, method_name, p_value
from hssl_ray.study.statistics import Interval, holm, paired_difference
from hssl_ray.trial.config import TrialConfig

FEWEST = 3  # places of an axis; of two, the table of pairs says all there is
DOUBLINGS = 4  # an axis that spans this factor is drawn and tested by its logarithm


@dataclass(frozen=True)
class Place:
    """One setting of the axis. `x` is where it is drawn; the setting of no bound on a distance is the diameter."""

    x: float
    setting: int | float | None
    cell: Cell


@dataclass(frozen=True)
class Trend:
    """The slope of a line through the places of one seed, over the seeds: its mean, interval and two-sided p.

    Seeds are blocks: one seed has the same initial weights, order of data and draws at every place, so what it does to
    all of them is no noise of the slope. `per` is the step that the slope is for.
    """

    slope: float
    interval: Interval
    p: float
    n: int
    per: str
    p_holm: float | None = None


@dataclass(frozen=True)
class Series:
    """One method along the axis; `trend` is None below two seeds that have ended at every place."""

    method: str
    places: tuple[Place, ...]
    trend: Trend | None

    @property
    def level(self) -> bool:
        """Whether the axis does not concern the method: one cell stands at every place."""
        return len({place.cell.name for place in self.places}) == 1


@dataclass(frozen=True)
class Sweep:
    """All methods along one axis, with everything else the same; `label` says what that is where it varies."""

    axis: str
    label: str
    doubling: bool
    series: tuple[Series, ...]


def sweeps(comparison: Comparison, results: pa.Table) -> list[Sweep]:
    """The numeric axes of a study's grid, each with at least `FEWEST` places that have values.

    Args:
        results: one row per trial, of which the comparison was made.
    """
    axes = [name for name in (comparison.pairs[0].settings if comparison.pairs else ()) if _numeric(comparison, name)]
    rows = _first_rows(results) if axes else {}
    found = [sweep for axis in axes for sweep in _along(axis, comparison, rows)]
    return _with_holm(found)


def trend_table(found: Sequence[Sweep], comparison: Comparison) -> TextTable | None:
    """One row for each method that an axis concerns; None where there is nothing to test."""
    scale = Scale(comparison.question.metric)
    level = comparison.question.confidence
    rows = []
    for sweep in found:
        for series in sweep.series:
            if series.level:
                continue
            trend = series.trend
            name = f"{sweep.label}: {method_name(series.method)}" if sweep.label else method_name(series.method)
            if trend is None:
                rows.append((sweep.axis, name, NOTHING, NOTHING, NOTHING, NOTHING, "0 or 1", "no test"))
                continue
            p = trend.p if trend.p_holm is None else trend.p_holm
            said = "none shown" if p > 1 - level else "rises" if trend.slope > 0 else "falls"
            rows.append(
                (
                    sweep.axis,
                    name,
                    f"{scale.change(trend.slope)} per {trend.per}",
                    scale.change_interval(trend.interval),
                    p_value(trend.p),
                    NOTHING if trend.p_holm is None else p_value(trend.p_holm),
                    str(trend.n),
                    said,
                )
            )
    header = ("axis", "cells", "change", f"{100 * level:g} % interval", "p", "p (Holm)", "seeds", "trend")
    unit = ", points" if scale.percent else ""
    return TextTable(f"Trend of {comparison.question.metric}{unit}", header, tuple(rows)) if rows else None


def _numeric(comparison: Comparison, name: str) -> bool:
    """Whether a setting is a number with places enough; no bound, `None`, counts where others are numbers."""
    if name not in FIELDS:
        return False
    values = {pair.settings[name] for pair in comparison.pairs}
    numbers = {value for value in values if isinstance(value, int | float) and not isinstance(value, bool)}
    return len(values) >= FEWEST and values - numbers <= ({None} if name == "max_distance" else set())


def _first_rows(results: pa.Table) -> dict[str, Mapping[str, Any]]:
    wanted = [name for name in results.column_names if name == "cell" or name in TrialConfig.model_fields]
    rows: dict[str, Mapping[str, Any]] = {}
    for row in results.select(wanted).to_pylist():
        rows.setdefault(row["cell"], row)
    return rows


def _along(axis: str, comparison: Comparison, rows: Mapping[str, Mapping[str, Any]]) -> list[Sweep]:
    lines: dict[tuple[tuple[str, Any], ...], list[Pair]] = {}
    for pair in comparison.pairs:
        others = tuple((name, value) for name, value in pair.settings.items() if name != axis)
        lines.setdefault(others, []).append(pair)
    found = []
    for others, pairs in lines.items():
        shown = {name: value for name, value in others if len({dict(line)[name] for line in lines}) > 1}
        label = ", ".join(str(v) if k in ("dataset", "group") else f"{k}={v}" for k, v in shown.items())
        places: dict[str, list[Place]] = {}
        for pair in pairs:
            for cell in pair.cells:
                if cell.summary:
                    x = _x(axis, pair.settings[axis], rows[cell.name])
                    places.setdefault(cell.method, []).append(Place(x, pair.settings[axis], cell))
        several = {method: own for method, own in places.items() if len(own) >= FEWEST}
        if not any(concerns(axis, rows[own[0].cell.name]) for own in several.values()):
            continue
        xs = [place.x for own in several.values() for place in own]
        doubling = min(xs) > 0 and max(xs) >= DOUBLINGS * min(xs)
        confidence = comparison.question.confidence
        series = (_series(method, own, doubling, confidence) for method, own in several.items())
        found.append(Sweep(axis, label, doubling, tuple(series)))
    return found


def _x(axis: str, setting: int | float | None, row: Mapping[str, Any]) -> float:
    """Where a setting is drawn: no bound on the distance at the group's diameter, which is what it comes to."""
    if setting is not None:
        return float(setting)
    return TrialConfig(**{name: row[name] for name in TrialConfig.model_fields if name in row}).geometry.diameter


def _series(method: str, places: list[Place], doubling: bool, confidence: float) -> Series:
    ordered = tuple(sorted(places, key=lambda place: (place.x, place.setting is None)))
    series = Series(method, ordered, None)
    return series if series.level else replace(series, trend=_trend(ordered, doubling, confidence))


def _trend(places: Sequence[Place], doubling: bool, confidence: float) -> Trend | None:
    xs = [math.log2(place.x) if doubling else place.x for place in places]
    seeds = set.intersection(*(set(place.cell.values) for place in places))
    centre = sum(xs) / len(xs)
    spread = sum((x - centre) ** 2 for x in xs)
    if spread == 0:  # no bound, and a bound at the diameter
        return None
    slopes = [
        sum((x - centre) * place.cell.values[seed] for x, place in zip(xs, places, strict=True)) / spread
        for seed in sorted(seeds)
    ]
    found = paired_difference([0.0] * len(slopes), slopes)
    if found is None:
        return None
    per = "doubling" if doubling else "1"
    return Trend(found.estimate, found.interval(confidence), found.p_different, found.n, per)


def _with_holm(found: list[Sweep]) -> list[Sweep]:
    """p values corrected for how many trends are tested, where there are several."""
    tested = [series.trend for sweep in found for series in sweep.series if series.trend]
    if len(tested) < 2:
        return found
    corrected = iter(holm([trend.p for trend in tested]))
    return [
        replace(
            sweep,
            series=tuple(
                replace(series, trend=replace(series.trend, p_holm=next(corrected))) if series.trend else series
                for series in sweep.series
            ),
        )
        for sweep in found
    ]
