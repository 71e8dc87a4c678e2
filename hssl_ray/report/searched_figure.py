"""A search as pictures: its suggestions as lines across parallel axes, and what each field mattered as bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from hssl_ray.report.drawing import GRID, INK, METHODS, MUTED, Drawing, Paint, canvas, file_name
from hssl_ray.report.searched import Searched
from hssl_ray.report.wording import Scale, method_name
from hssl_ray.study.file.sections import Range, Search

BEST = 0.2
"""The share of suggestions that is drawn in colour."""


def parallel_figure(found: Searched, search: Search) -> Drawing:
    """A line for each suggestion across one axis per field and the metric; the best fifth in the method's colour."""
    scale = Scale(search.metric)
    factor = 100 if scale.percent else 1
    names = list(search.space)
    ordered = sorted(found.tried, key=lambda one: one.value, reverse=search.goal == "minimize")  # the best on top
    best = max(1, round(BEST * len(ordered)))
    values = [factor * one.value for one in ordered]

    def drawn(paint: Paint) -> Figure:
        figure, axes = canvas(2.9, paint)
        colour = paint(METHODS[found.method][0])
        for name, place in zip(names, range(len(names)), strict=True):
            axes.axvline(place, color=paint(MUTED), linewidth=0.8)
            for height, text in _ticks(search.space[name]):
                axes.text(place + 0.03, height, text, color=paint(MUTED), fontsize=7, va="center")
        axes.axvline(len(names), color=paint(MUTED), linewidth=0.8)
        for value in {min(values), max(values)}:
            text = f"{value:.3g}"
            axes.text(len(names) + 0.03, _between(value, values), text, color=paint(MUTED), fontsize=7, va="center")
        for number, (one, value) in enumerate(zip(ordered, values, strict=True)):
            heights = [_height(search.space[name], one.settings[name]) for name in names] + [_between(value, values)]
            top = number >= len(ordered) - best
            line = colour if top else paint(GRID)
            axes.plot(range(len(heights)), heights, color=line, linewidth=1.6 if top else 1.0, zorder=3 if top else 2)
        axes.set_ylim(-0.08, 1.08)
        axes.set_xlim(-0.1, len(names) + 0.35)
        axes.set_yticks([])
        axes.set_xticks(range(len(names) + 1), [*names, search.metric])
        axes.tick_params(axis="x", length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        return figure

    name = method_name(found.method)
    return Drawing(
        file_name("search", found.label, found.method),
        f"{found.label}: {len(ordered)} suggestions for {name} across {', '.join(names)} and {search.metric}",
        drawn,
        f"{found.label}: {name}, {len(ordered)} suggestions, the best {best} in colour.",
    )


def importance_figure(found: Sequence[Searched]) -> Drawing:
    """fANOVA's shares as a bar for each method and field, PED-ANOVA's as a tick on it."""
    rows = [(one, share) for one in found for share in one.importance]

    def drawn(paint: Paint) -> Figure:
        figure, axes = canvas(0.7 + 0.3 * len(rows), paint)
        for row, (one, share) in enumerate(rows):
            axes.barh(row, 100 * share.fanova, color=paint(METHODS[one.method][0]), height=0.6)
            if share.ped_anova is not None:
                axes.plot([100 * share.ped_anova], [row], "|", color=paint(INK), markersize=10, markeredgewidth=1.6)
        several = len({one.label for one in found}) > 1
        labels = [
            f"{f'{one.label}, ' if several else ''}{method_name(one.method)}: {share.field}" for one, share in rows
        ]
        axes.set_yticks(range(len(rows)), labels)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", color=paint(GRID), linewidth=0.6)
        axes.set_xlim(0, 105)
        axes.set_xlabel("share of what mattered, %", color=paint(INK))
        return figure

    return Drawing(
        "importance",
        "Importance of each searched field",
        drawn,
        "Bars: the share of the variance over the whole space (fANOVA). Ticks: the share of what sets the best quarter "
        "of the suggestions apart (PED-ANOVA).",
    )


def _height(axis: list[Any] | Range[Any], value: Any) -> float:
    """Where a value stands on an axis of height 1."""
    if isinstance(axis, list):
        return axis.index(value) / max(1, len(axis) - 1)
    low, high = (math.log(axis.low), math.log(axis.high)) if axis.log else (axis.low, axis.high)
    return ((math.log(value) if axis.log else value) - low) / (high - low)


def _ticks(axis: list[Any] | Range[Any]) -> list[tuple[float, str]]:
    ends = axis if isinstance(axis, list) else [axis.low, axis.high]
    return [
        (_height(axis, value), "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value))
        for value in ends
    ]


def _between(value: float, values: Sequence[float]) -> float:
    low, high = min(values), max(values)
    return 0.5 if low == high else (value - low) / (high - low)
