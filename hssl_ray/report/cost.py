"""What the answer cost, and whether the networks were what the theory asks for: tables by cell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import pyarrow as pa

from hssl_ray.report.comparison import Comparison
from hssl_ray.report.text_table import NOTHING, TextTable
from hssl_ray.report.wording import method_name

SPEED = "perf/images_per_second"
HEALTH = {
    "eval/equivariance_error": "equivariance error",
    "eval/equivariance_error_pooled": "pooled",
    "eval/loss_gap": "A-SSL to H-SSL loss gap",
    "eval/effective_rank": "effective rank",
    "eval/feature_std": "feature spread",
}


def cost_table(results: pa.Table) -> TextTable:
    """Per cell: training hours over its trials, images a second while training (means over trials)."""
    rows = tuple(
        (name, str(len(_column(trials, "seconds"))), _hours(sum(_column(trials, "seconds"))), _rounded(trials, SPEED))
        for name, trials in _by_cell(results).items()
    )
    total = _hours(sum(_column(results.to_pylist(), "seconds")))
    return TextTable(f"Cost: {total} of training", ("cell", "trials", "time", "images/s"), rows)


def one_pass_against_two(results: pa.Table, comparison: Comparison) -> list[str]:
    """For each pair, how much faster its two sides saw images: H-SSL needs one forward pass, A-SSL two."""
    found = speeds(results)
    said = []
    for pair in comparison.pairs:
        if pair.baseline is None or pair.against is None:
            continue
        sides = [found.get(cell.name) for cell in (pair.baseline, pair.against)]
        if all(sides):
            slow, fast = (fmean(side) for side in sides if side)
            if slow > 0:
                names = method_name(comparison.question.against), method_name(comparison.question.baseline)
                said.append(
                    f"{pair.label}: {names[0]} saw {fast:,.0f} images a second, {names[1]} {slow:,.0f}: "
                    f"{fast / slow:.2f} times as many"
                )
    return said


def speeds(results: pa.Table) -> dict[str, list[float]]:
    """Images a second of each cell's trials."""
    return {name: _column(trials, SPEED) for name, trials in _by_cell(results).items()}


def health_table(results: pa.Table) -> TextTable | None:
    """Per cell, means of what shows collapse or a grid that breaks equivariance; None if nobody measured it."""
    metrics = [metric for metric in HEALTH if metric in results.column_names]
    if not metrics:
        return None
    rows = tuple(
        (name, *(_rounded(trials, metric) for metric in metrics)) for name, trials in _by_cell(results).items()
    )
    return TextTable("Networks, at the last epoch", ("cell", *(HEALTH[metric] for metric in metrics)), rows)


def _by_cell(results: pa.Table) -> dict[str, list[dict[str, Any]]]:
    wanted = {"cell", "seconds", SPEED, *HEALTH}
    cells: dict[str, list[dict[str, Any]]] = {}
    for row in results.select([name for name in results.column_names if name in wanted]).to_pylist():
        cells.setdefault(row["cell"], []).append(row)
    return cells


def _column(rows: Sequence[dict[str, Any]], name: str) -> list[float]:
    values = [row.get(name) for row in rows]
    return [value for value in values if value is not None and math.isfinite(value)]


def _rounded(rows: Sequence[dict[str, Any]], metric: str) -> str:
    values = _column(rows, metric)
    if not values:
        return NOTHING
    mean = fmean(values)
    return f"{mean:,.0f}" if mean >= 100 else f"{mean:.2g}"


def _hours(seconds: float) -> str:
    """`42 s`, `3.5 min`, `2.1 h`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
