"""The figures of a comparison: differences against the margin, seeds, training curves."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hssl_ray.report.comparison import Cell, Comparison, Pair, Question
from hssl_ray.report.drawing import BAND, GRID, INK, METHODS, MUTED, Drawing, Paint, canvas, file_name
from hssl_ray.report.wording import Scale, method_name

ROWS = 40  # a figure longer than some screens is a table


def difference_figure(comparison: Comparison) -> Drawing:
    """The differences of the first `ROWS` pairs on one axis, with the margin as a band.

    The thick bar is the interval that decides equivalence (inside the band), the thin one decides difference (clear of
    zero), the dots are single pairs of seeds.
    """
    question = comparison.question
    scale = Scale(question.metric)
    factor = 100 if scale.percent else 1
    pairs = [pair for pair in comparison.pairs if pair.answer][:ROWS]
    unit = scale.points.strip()
    what = f"{method_name(question.against)} − {method_name(question.baseline)}" + (f", {unit}" if unit else "")
    margin = f"±{scale.margin(question.margin)}{scale.points}"

    def drawn(paint: Paint) -> Figure:
        figure, axes = canvas(0.75 + 0.5 * len(pairs), paint)
        axes.axvspan(-factor * question.margin, factor * question.margin, color=paint(BAND), linewidth=0)
        axes.axvline(0, color=paint(MUTED), linewidth=0.8)
        colour = paint(METHODS[question.against][0] if question.against in METHODS else INK)
        for row, pair in enumerate(pairs):
            answer = pair.answer
            assert answer is not None
            for interval, width in ((answer.interval, 1.2), (answer.equivalence_interval, 4)):
                axes.plot([factor * interval.low, factor * interval.high], [row, row], color=colour, linewidth=width)
            gaps = [factor * gap for gap in gaps_of_seeds(pair)]
            axes.plot(gaps, [row + 0.2] * len(gaps), "o", color=paint(INK), markersize=3, alpha=0.6, linewidth=0)
            axes.plot([factor * answer.difference.estimate], [row], "|", color=paint(INK), markersize=13)
            name = f"{_short(pair.label)}: {answer.verdict}"
            axes.text(0.01, row - 0.32, name, color=paint(INK), va="center", transform=axes.get_yaxis_transform())
        axes.set_ylim(len(pairs) - 0.5, -0.65)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.margins(x=0.08)
        axes.set_xlabel(what, color=paint(INK))
        return figure

    return Drawing(
        "differences",
        f"Difference {what} with intervals, and the margin",
        drawn,
        f"Difference with intervals. Thick bar inside the shaded margin ({margin}): equivalent. "
        "Thin bar clear of zero: different. Dots: single seeds.",
    )


def seed_figure(pair: Pair, question: Question) -> Drawing:
    """The seeds of a pair's cells and of its references: dots, mean and interval; a line joins what is compared."""
    scale = Scale(question.metric)
    factor = 100 if scale.percent else 1
    cells = [cell for cell in pair.cells if cell.values]

    def drawn(paint: Paint) -> Figure:
        figure, axes = canvas(0.7 + 0.36 * len(cells), paint)
        for row, cell in enumerate(cells):
            colour, marker = METHODS[cell.method]
            values = [factor * value for value in cell.values.values()]
            heights = [row + 0.12 * offset for offset in _offsets(len(values))]
            axes.plot(values, heights, marker, color=paint(colour), markersize=4.5, alpha=0.75, linewidth=0)
            if cell.summary:
                axes.plot([factor * cell.summary.mean], [row + 0.3], "|", color=paint(INK), markersize=9)
            if cell.interval:
                ends = [factor * cell.interval.low, factor * cell.interval.high]
                axes.plot(ends, [row + 0.3] * 2, color=paint(colour), linewidth=2.5, zorder=1)
        if pair.answer and pair.answer.difference.design == "paired" and pair.baseline and pair.against:
            _join(axes, pair.baseline, pair.against, factor, paint(MUTED))
        axes.set_ylim(len(cells) - 0.4, -0.45)
        axes.set_yticks(range(len(cells)), [method_name(cell.method) for cell in cells])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", color=paint(GRID), linewidth=0.6)
        axes.margins(x=0.06)
        axes.set_xlabel(question.metric + (", %" if scale.percent else ""), color=paint(INK))
        return figure

    return Drawing(file_name("seeds", pair.label), f"{pair.label}: {question.metric} of every seed by method", drawn)


def curve_metrics(curves: pa.Table, question: Question) -> list[str]:
    """The metrics worth drawing over epochs, of those measured in more than one."""
    wanted = (question.metric, "probe/top1", "train/loss", "eval/effective_rank")
    epochs = curves.group_by("metric").aggregate([("epoch", "count_distinct")]).to_pylist()
    several = {row["metric"] for row in epochs if row["epoch_count_distinct"] > 1}
    return [metric for metric in dict.fromkeys(wanted) if metric in several]


def curve_figure(curves: pa.Table, cells: Sequence[Cell], metric: str, label: str) -> Drawing:
    """One metric over epochs: the mean over seeds of each cell, with a band of one standard deviation.

    Args:
        curves: as `compare.cell_curves` gives them.
    """
    factor = 100 if Scale(metric).percent else 1

    def drawn(paint: Paint) -> Figure:
        figure, axes = canvas(2.6, paint)
        for cell in cells:
            rows = curves.filter((pc.field("cell") == cell.name) & (pc.field("metric") == metric)).to_pylist()
            if not rows:
                continue
            colour, marker = METHODS[cell.method]
            epochs = [row["epoch"] for row in rows]
            means = [factor * row["mean"] for row in rows]
            deviations = [factor * (row["std"] or 0.0) for row in rows]
            axes.plot(
                epochs,
                means,
                color=paint(colour),
                marker=marker,
                markersize=4,
                markevery=max(1, len(epochs) // 8),
                linewidth=1.5,
                label=method_name(cell.method),
            )
            low = [m - d for m, d in zip(means, deviations, strict=True)]
            high = [m + d for m, d in zip(means, deviations, strict=True)]
            axes.fill_between(epochs, low, high, color=paint(colour), alpha=0.2, linewidth=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", color=paint(GRID), linewidth=0.6)
        axes.set_xlabel("epoch", color=paint(INK))
        axes.set_title(metric + (", %" if Scale(metric).percent else ""), color=paint(INK))
        if axes.get_legend_handles_labels()[0]:
            figure.legend(loc="outside lower center", ncols=4, frameon=False, labelcolor=paint(INK), handlelength=1.6)
        return figure

    return Drawing(file_name("curves", label, metric), f"{label}: {metric} by epoch", drawn)


def gaps_of_seeds(pair: Pair) -> list[float]:
    """Differences of single seeds, where seeds are paired."""
    assert pair.answer and pair.baseline and pair.against
    if pair.answer.difference.design != "paired":
        return []
    mine, theirs = pair.against.values, pair.baseline.values
    return [mine[seed] - theirs[seed] for seed in sorted(mine.keys() & theirs.keys())]


def _join(axes: Axes, baseline: Cell, against: Cell, factor: float, colour: str) -> None:
    """Thin lines from a seed's dot to its partner's, both in the first two rows."""
    upper = dict(zip(baseline.values, _offsets(len(baseline.values)), strict=True))
    lower = dict(zip(against.values, _offsets(len(against.values)), strict=True))
    for seed in baseline.values.keys() & against.values.keys():
        ends = [factor * baseline.values[seed], factor * against.values[seed]]
        axes.plot(ends, [0.12 * upper[seed], 1 + 0.12 * lower[seed]], color=colour, linewidth=0.6, zorder=0.5)


def _offsets(count: int) -> list[float]:
    """Heights in -1 .. 1 that keep equal values apart."""
    return [2 * i / (count - 1) - 1 if count > 1 else 0.0 for i in range(count)]


def _short(label: str) -> str:
    return label if len(label) <= 48 else label[:47] + "…"
