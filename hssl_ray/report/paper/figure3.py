"""Figure 3 as numbers: H-SSL's top-1 over the base size and over the largest topographic distance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from hssl_ray.report.compare import answer_of, pair_of
from hssl_ray.report.comparison import Cell, Gap, Question
from hssl_ray.report.paper.printed import BASE_SETTINGS, RowKey, departures
from hssl_ray.report.paper.readings import FIELDS, Role, TableError, fields_of
from hssl_ray.report.paper.selection import Chosen, Query, Trial, as_yaml, choose, has_value, trials_of
from hssl_ray.study.statistics import Interval
from hssl_ray.trial.config import TrialConfig

Axis = Literal["base_size", "max_distance"]
METHOD = "h_ssl"


@dataclass(frozen=True)
class Point:
    """One place of a curve. `x` is where it is drawn: no bound on the distance is drawn at the group's diameter.

    `value` and `interval` are what the panel shows: the relative change from base size 1, or the mean of the metric.
    """

    x: float
    setting: int | float | None
    cell: Cell
    value: float
    interval: Interval | None


@dataclass(frozen=True)
class Curve:
    """The points of one data set, group and network, and in what its trials depart from the paper's settings."""

    key: RowKey
    points: tuple[Point, ...]
    gaps: tuple[Gap, ...]
    departures: tuple[str, ...]
    studies: tuple[str, ...]


@dataclass(frozen=True)
class Panel:
    """The left (`base_size`) or the right (`max_distance`) half of the figure."""

    axis: Axis
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class Figure3:
    """Both halves, and the reading that all of their trials share. `left_out` counts trials of no curve."""

    question: Question
    left: Panel
    right: Panel
    readings: Mapping[str, Any]
    left_out: int

    @property
    def panels(self) -> tuple[Panel, Panel]:
        return self.left, self.right

    @property
    def curves(self) -> list[Curve]:
        return [curve for panel in self.panels for curve in panel.curves]


def figure3(store: pa.Table, query: Query) -> Figure3:
    """The series of both halves from whatever a store has.

    Left: relative change of the metric from base size 1, paired by seed as everywhere, its interval in units of the
    mean at base size 1. Right: the metric at base size 1. A setting is a curve if it has two values of the axis.

    Args:
        store: one row for each trial and study that has it, as `study.tracking.read_store` gives it.
        query: metric, confidence, and which candidates.

    Raises:
        TableError: no such study or metric, or several candidates for the figure or for one curve.
    """
    trials = [trial for trial in trials_of(store, query) if trial["method"] == METHOD]
    question = Question("figure3", metric=query.metric, margin=query.margin, confidence=query.confidence)
    refused, chosen = [], {}
    for axis in ("base_size", "max_distance"):
        try:
            chosen[axis] = choose("figure3", _series(trials, axis, query), query.metric, varied=[axis])
        except TableError as error:
            refused.append(str(error))
    if refused:
        raise TableError("\n".join(dict.fromkeys(line for text in refused for line in text.split("\n"))))
    left, right = chosen["base_size"], chosen["max_distance"]
    for name in left.readings.keys() & right.readings.keys():
        if left.readings[name] != right.readings[name]:
            values = [as_yaml(half.readings[name]) for half in (left, right)]
            options = " or ".join(f"--where {name}={value}" for value in values)
            raise TableError(
                f"figure3: {name}: one value in a figure, got {' and '.join(values)}; choose with {options}"
            )
    return Figure3(
        question,
        Panel("base_size", _curves(left, "base_size", question)),
        Panel("max_distance", _curves(right, "max_distance", question)),
        left.readings or right.readings,
        left_out=len(trials)
        - len({t["trial_id"] for half in (left, right) for own in half.rows.values() for t in own}),
    )


def _series(trials: Iterable[Trial], axis: Axis, query: Query) -> list[Trial]:
    """The trials of settings that make a curve, at the paper's value of the other axes."""
    others = {name: query.where.get(name, BASE_SETTINGS[name]) for name in fields_of(Role.AXIS) if name != axis}
    same = [name for name in FIELDS if name not in ("seed", *fields_of(Role.AXIS))]
    settings: dict[tuple[Any, ...], list[Trial]] = {}
    for trial in trials:
        if all(trial[name] == value for name, value in others.items() if name in trial):
            settings.setdefault(tuple(trial.get(name) for name in same), []).append(trial)
    return [
        trial
        for own in settings.values()
        if _is_curve({trial[axis] for trial in own if has_value(trial, query.metric)}, axis)
        for trial in own
    ]


def _is_curve(places: Set[Any], axis: Axis) -> bool:
    """Two places; on the left one of them is base size 1, which the others are relative to."""
    return len(places) > 1 and (axis != "base_size" or 1 in places)


def _curves(chosen: Chosen, axis: Axis, question: Question) -> tuple[Curve, ...]:
    return tuple(_curve(key, chosen.rows[key], axis, question) for key in sorted(chosen.rows))


def _curve(key: RowKey, trials: Sequence[Trial], axis: Axis, question: Question) -> Curve:
    by_setting: dict[Any, list[Trial]] = {}
    for trial in trials:
        by_setting.setdefault(trial[axis], []).append(trial)
    cells = {}
    for setting, own in by_setting.items():
        pair = pair_of(key.label, {axis: setting}, {METHOD: own}, question)
        assert pair.against is not None
        cells[setting] = (_place(own[0], axis), pair.against)
    ordered = sorted(cells.items(), key=lambda item: (item[1][0], item[0] is None))
    base = cells[1][1] if axis == "base_size" else None
    points = [_point(x, setting, cell, base, question) for setting, (x, cell) in ordered if cell.summary]
    named = {name for trial in trials for name in departures(METHOD, trial, question.metric)}
    return Curve(
        key,
        tuple(points),
        tuple(gap for _, cell in cells.values() for gap in cell.gaps),
        tuple(sorted(name for name in named if name.partition("=")[0] not in fields_of(Role.AXIS))),
        tuple(sorted({study for trial in trials for study in trial["studies"]})),
    )


def _place(trial: Trial, axis: Axis) -> float:
    if trial[axis] is not None:
        return float(trial[axis])
    return TrialConfig(**{name: trial[name] for name in TrialConfig.model_fields}).geometry.diameter


def _point(x: float, setting: Any, cell: Cell, base: Cell | None, question: Question) -> Point:
    """The place of a cell with values; relative to `base` if there is one."""
    assert cell.summary is not None
    if base is None:
        return Point(x, setting, cell, cell.summary.mean, cell.interval)
    if cell is base:
        return Point(x, setting, cell, 0.0, None)
    assert base.summary is not None
    unit = base.summary.mean
    answer = answer_of(base, cell, question)
    if answer is None:
        return Point(x, setting, cell, cell.summary.mean / unit - 1, None)
    interval = Interval(answer.interval.low / unit, answer.interval.high / unit, answer.interval.confidence)
    return Point(x, setting, cell, answer.difference.estimate / unit, interval)
