"""Whether a gap between the methods goes with networks that are not quite equivariant."""

from __future__ import annotations

import math
from statistics import fmean

import pyarrow as pa
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
        for number, (pair, error) in enumerate(placed):
            assert pair.answer is not None
            colour, marker = STYLES[number % len(STYLES)] if named else (INK, "o")
            ends = [factor * pair.answer.interval.low, factor * pair.answer.interval.high]
            axes.plot([error, error], ends, color=paint(colour), linewidth=1.2)
            estimate = factor * pair.answer.difference.estimate
            label = pair.label if named else None
            axes.plot([error], [estimate], marker, color=paint(colour), markersize=6, linewidth=0, label=label)
            gaps = [factor * gap for gap in gaps_of_seeds(pair)]
            axes.plot([error] * len(gaps), gaps, "_", color=paint(colour), markersize=6, alpha=0.6, linewidth=0)
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
