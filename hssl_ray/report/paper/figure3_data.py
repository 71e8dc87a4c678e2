"""Figure 3 for programs: JSON, and CSV with a line for each point. Values and changes are fractions."""

from __future__ import annotations

import json
from typing import Any

from hssl_ray.report.comparison import cell_json, interval_json
from hssl_ray.report.paper.figure3 import Curve, Figure3, Panel, Point
from hssl_ray.report.paper.figure3_wording import notes
from hssl_ray.report.paper.selection import as_yaml
from hssl_ray.report.paper.table_data import csv_text

SCHEMA = "hssl-ray/figure3/1"  # raised when a field of the JSON is renamed, removed or changes its meaning


def to_csv(figure: Figure3) -> str:
    """One line for each point; values and changes are fractions."""
    return csv_text(
        _line(figure, panel, curve, point)
        for panel in figure.panels
        for curve in panel.curves
        for point in curve.points
    )


def to_json(figure: Figure3) -> str:
    """The whole as JSON, schema `SCHEMA`; never a NaN."""
    content = {
        "schema": SCHEMA,
        "figure": "figure3",
        "metric": figure.question.metric,
        "confidence": figure.question.confidence,
        "readings": dict(figure.readings),
        "panels": [
            {"axis": panel.axis, "curves": [_curve(panel, curve) for curve in panel.curves]} for panel in figure.panels
        ],
        "missing": [vars(gap) for curve in figure.curves for gap in curve.gaps],
        "notes": notes(figure),
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _line(figure: Figure3, panel: Panel, curve: Curve, point: Point) -> dict[str, Any]:
    summary, interval = point.cell.summary, point.cell.interval
    assert summary is not None
    change = point if panel.axis == "base_size" else None
    return {
        "figure": "figure3",
        "axis": panel.axis,
        **curve.key._asdict(),
        "setting": as_yaml(point.setting),
        "x": point.x,
        "metric": figure.question.metric,
        "n": summary.n,
        "trials": len(point.cell.seeds),
        "mean": summary.mean,
        "std": summary.std,
        "low": interval and interval.low,
        "high": interval and interval.high,
        "confidence": figure.question.confidence,
        "change": change and change.value,
        "change_low": change and change.interval and change.interval.low,
        "change_high": change and change.interval and change.interval.high,
        "departures": " ".join(curve.departures),
        "studies": " ".join(curve.studies),
    }


def _curve(panel: Panel, curve: Curve) -> dict[str, Any]:
    return {
        **curve.key._asdict(),
        "points": [
            {
                "x": point.x,
                panel.axis: point.setting,
                "value": point.value,
                "interval": interval_json(point.interval),
                "cell": cell_json(point.cell),
            }
            for point in curve.points
        ],
        "departures": list(curve.departures),
        "studies": list(curve.studies),
    }
