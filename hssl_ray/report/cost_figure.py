"""What the methods cost beside each other: images a second, one forward pass against two."""

from __future__ import annotations

import pyarrow as pa
from matplotlib.figure import Figure

from hssl_ray.report.comparison import Comparison
from hssl_ray.report.cost import SPEED, speeds
from hssl_ray.report.drawing import GRID, INK, METHODS, Drawing, Paint, canvas
from hssl_ray.report.wording import method_name

ROWS = 10  # pairs


def speed_figure(comparison: Comparison, results: pa.Table) -> Drawing | None:
    """Images a second of both sides of the first `ROWS` pairs, trial by trial and their mean; None if not measured."""
    found = speeds(results)
    rows = [
        (pair.label, cell.method, found[cell.name])
        for pair in comparison.pairs[:ROWS]
        for cell in (pair.baseline, pair.against)
        if cell is not None and found.get(cell.name)
    ]
    if not rows:
        return None
    several = len({label for label, _, _ in rows}) > 1

    def drawn(paint: Paint) -> Figure:
        figure, axes = canvas(0.7 + 0.3 * len(rows), paint)
        for row, (_, method, values) in enumerate(rows):
            colour = paint(METHODS[method][0])
            axes.barh(row, sum(values) / len(values), color=colour, height=0.6, alpha=0.85)
            axes.plot(values, [row] * len(values), "o", color=paint(INK), markersize=2.5, alpha=0.7, linewidth=0)
        names = [f"{label}: {method_name(m)}" if several else method_name(m) for label, m, _ in rows]
        axes.set_yticks(range(len(rows)), [name if len(name) <= 40 else name[:39] + "…" for name in names])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", color=paint(GRID), linewidth=0.6)
        axes.set_xlim(left=0)
        axes.set_xlabel("images a second while training", color=paint(INK))
        return figure

    return Drawing(
        "speed", f"{SPEED} by method", drawn, "Images a second while training: mean (bar) and single trials (dots)."
    )
