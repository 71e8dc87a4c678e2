"""The figures of a comparison, each as one SVG: differences against the margin, seeds, training curves."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from hssl_ray.report.comparison import Cell, Comparison, Pair, Question
from hssl_ray.report.drawing import BAND, GRID, INK, METHODS, MUTED, SETTINGS, canvas, to_svg
from hssl_ray.report.wording import Scale, method_name

ROWS = 40  # a figure longer than some screens is a table


def difference_figure(comparison: Comparison) -> str:
    """The differences of the first `ROWS` pairs on one axis, with the margin as a band.

    The thick bar is the interval that decides equivalence (inside the band), the thin one decides difference (clear of
    zero), the dots are single pairs of seeds.
    """
    question = comparison.question
    scale = Scale(question.metric)
    factor = 100 if scale.percent else 1
    pairs = [pair for pair in comparison.pairs if pair.answer][:ROWS]
    with mpl.rc_context(SETTINGS):
        figure, axes = canvas(0.75 + 0.5 * len(pairs))
        axes.axvspan(-factor * question.margin, factor * question.margin, color=BAND.drawn, linewidth=0)
        axes.axvline(0, color=MUTED.drawn, linewidth=0.8)
        colour = METHODS[question.against][0].drawn if question.against in METHODS else INK.drawn
        for row, pair in enumerate(pairs):
            answer = pair.answer
            assert answer is not None
            for interval, width in ((answer.interval, 1.2), (answer.equivalence_interval, 4)):
                axes.plot([factor * interval.low, factor * interval.high], [row, row], color=colour, linewidth=width)
            gaps = [factor * gap for gap in _gaps(pair)]
            axes.plot(gaps, [row + 0.2] * len(gaps), "o", color=INK.drawn, markersize=3, alpha=0.6, linewidth=0)
            axes.plot([factor * answer.difference.estimate], [row], "|", color=INK.drawn, markersize=13)
            for x, side, text in ((0.01, "left", _short(pair.label)), (0.99, "right", answer.verdict)):
                across = axes.get_yaxis_transform()
                axes.text(x, row - 0.32, text, color=INK.drawn, ha=side, va="center", transform=across)
        axes.set_ylim(len(pairs) - 0.5, -0.65)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.margins(x=0.08)
        unit = scale.points.strip()
        what = f"{method_name(question.against)} − {method_name(question.baseline)}" + (f", {unit}" if unit else "")
        axes.set_xlabel(what, color=INK.drawn)
        return to_svg(figure, f"Difference {what} with intervals, and the margin")


def difference_caption(question: Question) -> str:
    """What stands under `difference_figure`."""
    scale = Scale(question.metric)
    margin = f"±{scale.margin(question.margin)}{scale.points}"
    return (
        f"Difference with intervals. Thick bar inside the shaded margin ({margin}): equivalent. "
        "Thin bar clear of zero: different. Dots: single seeds."
    )


def seed_figure(pair: Pair, question: Question) -> str:
    """The seeds of a pair's cells and of its references: dots, mean and interval; a line joins what is compared."""
    scale = Scale(question.metric)
    factor = 100 if scale.percent else 1
    cells = [cell for cell in pair.cells if cell.values]
    with mpl.rc_context(SETTINGS):
        figure, axes = canvas(0.7 + 0.36 * len(cells))
        for row, cell in enumerate(cells):
            colour, marker = METHODS[cell.method]
            values = [factor * value for value in cell.values.values()]
            heights = [row + 0.12 * offset for offset in _offsets(len(values))]
            axes.plot(values, heights, marker, color=colour.drawn, markersize=4.5, alpha=0.75, linewidth=0)
            if cell.summary:
                axes.plot([factor * cell.summary.mean], [row + 0.3], "|", color=INK.drawn, markersize=9)
            if cell.interval:
                ends = [factor * cell.interval.low, factor * cell.interval.high]
                axes.plot(ends, [row + 0.3] * 2, color=colour.drawn, linewidth=2.5, zorder=1)
        if pair.answer and pair.answer.difference.design == "paired" and pair.baseline and pair.against:
            _join(axes, pair.baseline, pair.against, factor)
        axes.set_ylim(len(cells) - 0.4, -0.45)
        axes.set_yticks(range(len(cells)), [method_name(cell.method) for cell in cells])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", color=GRID.drawn, linewidth=0.6)
        axes.margins(x=0.06)
        axes.set_xlabel(question.metric + (", %" if scale.percent else ""), color=INK.drawn)
        return to_svg(figure, f"{pair.label}: {question.metric} of every seed by method")


def curve_metrics(curves: pa.Table, question: Question) -> list[str]:
    """The metrics worth drawing over epochs, of those measured in more than one."""
    wanted = (question.metric, "probe/top1", "train/loss", "eval/effective_rank")
    epochs = curves.group_by("metric").aggregate([("epoch", "count_distinct")]).to_pylist()
    several = {row["metric"] for row in epochs if row["epoch_count_distinct"] > 1}
    return [metric for metric in dict.fromkeys(wanted) if metric in several]


def curve_figure(curves: pa.Table, cells: Sequence[Cell], metric: str, label: str) -> str:
    """One metric over epochs: the mean over seeds of each cell, with a band of one standard deviation.

    Args:
        curves: as `compare.cell_curves` gives them.
    """
    factor = 100 if Scale(metric).percent else 1
    with mpl.rc_context(SETTINGS):
        figure, axes = canvas(2.6)
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
                color=colour.drawn,
                marker=marker,
                markersize=4,
                markevery=max(1, len(epochs) // 8),
                linewidth=1.5,
                label=method_name(cell.method),
            )
            low = [m - d for m, d in zip(means, deviations, strict=True)]
            high = [m + d for m, d in zip(means, deviations, strict=True)]
            axes.fill_between(epochs, low, high, color=colour.drawn, alpha=0.2, linewidth=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", color=GRID.drawn, linewidth=0.6)
        axes.set_xlabel("epoch", color=INK.drawn)
        axes.set_title(metric + (", %" if Scale(metric).percent else ""), color=INK.drawn)
        if axes.get_legend_handles_labels()[0]:
            figure.legend(loc="outside lower center", ncols=4, frameon=False, labelcolor=INK.drawn, handlelength=1.6)
        return to_svg(figure, f"{label}: {metric} by epoch")


def _gaps(pair: Pair) -> list[float]:
    """Differences of single seeds, where seeds are paired."""
    assert pair.answer and pair.baseline and pair.against
    if pair.answer.difference.design != "paired":
        return []
    mine, theirs = pair.against.values, pair.baseline.values
    return [mine[seed] - theirs[seed] for seed in sorted(mine.keys() & theirs.keys())]


def _join(axes: Axes, baseline: Cell, against: Cell, factor: float) -> None:
    """Thin lines from a seed's dot to its partner's, both in the first two rows."""
    upper = dict(zip(baseline.values, _offsets(len(baseline.values)), strict=True))
    lower = dict(zip(against.values, _offsets(len(against.values)), strict=True))
    for seed in baseline.values.keys() & against.values.keys():
        ends = [factor * baseline.values[seed], factor * against.values[seed]]
        axes.plot(ends, [0.12 * upper[seed], 1 + 0.12 * lower[seed]], color=MUTED.drawn, linewidth=0.6, zorder=0.5)


def _offsets(count: int) -> list[float]:
    """Heights in -1 .. 1 that keep equal values apart."""
    return [2 * i / (count - 1) - 1 if count > 1 else 0.0 for i in range(count)]


def _short(label: str) -> str:
    return label if len(label) <= 48 else label[:47] + "…"
