"""Whether a gap between the methods goes with networks that are not quite equivariant."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from hssl_ray.report.comparison import Comparison, Pair
from hssl_ray.report.drawing import BAND, GRID, INK, METHODS, MUTED, Drawing, Paint, canvas
from hssl_ray.report.figures import gaps_of_seeds
from hssl_ray.report.wording import Scale, method_name

ERROR = "eval/equivariance_error"
NAMED = 8  # pairs with a colour and a name of their own
STYLES = tuple(METHODS.values())
SMALLEST = 1e-9  # where an error of exactly nothing is drawn on the logarithmic axis


def gap_figure(comparison: Comparison, results: pa.Table) -> Drawing | None:
    """The difference of each answered pair with its interval over its networks' equivariance error.

    A network that is equivariant to rounding sees the same vectors under both methods, so a gap there has another
    reason. The error is the mean over the trials of both sides. None where nobody measured it.
    """
    question = comparison.question
    if ERROR not in results.column_names:
        return None
    errors: dict[str, list[float]] = {}
    for row in results.select(["cell", ERROR]).to_pylist():
        if row[ERROR] is not None and math.isfinite(row[ERROR]):
            errors.setdefault(row["cell"], []).append(row[ERROR])
    placed: list[tuple[Pair, float]] = []
    for pair in comparison.pairs:
        if pair.answer and pair.baseline and pair.against:
            own = errors.get(pair.baseline.name, []) + errors.get(pair.against.name, [])
            if own:
                placed.append((pair, max(SMALLEST, fmean(own))))
    if not placed:
        return None
    scale = Scale(question.metric)
    factor = 100 if scale.percent else 1
    unit = f", {scale.points.strip()}" if scale.percent else ""
    what = f"{method_name(question.against)} − {method_name(question.baseline)}{unit}"

    def drawn(paint: Paint) -> Figure:
        figure, axes = canvas(2.9, paint)
        axes.axhspan(-factor * question.margin, factor * question.margin, color=paint(BAND), linewidth=0)
        axes.axhline(0, color=paint(MUTED), linewidth=0.8)
        axes.set_xscale("log")
        named = len(placed) <= NAMED
        if named:
            for number, (pair, error) in enumerate(placed):
                colour, marker = STYLES[number % len(STYLES)]
                _draw(axes, [(pair, error)], marker, paint(colour), factor, pair.label)
        else:
            _draw(axes, placed, "o", paint(INK), factor, None)
        least, most = min(error for _, error in placed), max(error for _, error in placed)
        axes.set_xlim(least / 4, most * 4)
        axes.xaxis.set_major_formatter(
            FuncFormatter(lambda value, _: f"{value:.0e}" if value < 0.001 else f"{value:g}")
        )
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(color=paint(GRID), linewidth=0.6)
        axes.set_xlabel("equivariance error at the last epoch, mean over both methods", color=paint(INK))
        axes.set_title(what, color=paint(INK))
        if named:
            figure.legend(loc="outside lower center", ncols=2, frameon=False, labelcolor=paint(INK), handlelength=1.2)
        return figure

    return Drawing(
        "equivariance-and-gap",
        f"Difference {what} over the equivariance error of the networks",
        drawn,
        "Equivariance error against the gap between the methods. Bars: intervals; ticks: single seeds; shaded: the "
        "margin. An exactly equivariant network (error near rounding) sees the same vectors under both methods.",
    )


def _draw(
    axes: Axes, placed: Sequence[tuple[Pair, float]], marker: str, colour: str, factor: float, label: str | None
) -> None:
    """Pairs that look alike, in three lines and not in three for each: of thousands, that takes seconds."""

    def plot(points: Sequence[tuple[float, float]], *style: str, **look: Any) -> None:
        axes.plot([x for x, _ in points], [y for _, y in points], *style, color=colour, **look)

    answered = [(pair, pair.answer, error) for pair, error in placed if pair.answer]
    ends = [(error, factor * end) for _, it, error in answered for end in (it.interval.low, it.interval.high, math.nan)]
    plot(ends, linewidth=1.2)
    middles = [(error, factor * it.difference.estimate) for _, it, error in answered]
    plot(middles, marker, markersize=6, linewidth=0, label=label)
    seeds = [(error, factor * gap) for pair, _, error in answered for gap in gaps_of_seeds(pair)]
    plot(seeds, "_", markersize=6, alpha=0.6, linewidth=0)
