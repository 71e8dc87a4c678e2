"""Tables 1 and 2 for programs: JSON, and CSV with a line for each cell. Values are in the metric's units, fractions."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

from hssl_ray.report.comparison import answer_json, cell_json
from hssl_ray.report.paper.printed import printed_number
from hssl_ray.report.paper.table_wording import notes
from hssl_ray.report.paper.tables import COLUMNS, PaperTable, TableRow

SCHEMA = "hssl-ray/paper-table/1"  # raised when a field of the JSON is renamed, removed or changes its meaning


def to_json(table: PaperTable) -> str:
    """The whole as JSON, schema `SCHEMA`; never a NaN."""
    question = table.question
    content = {
        "schema": SCHEMA,
        "table": table.name,
        "metric": question.metric,
        "margin": question.margin,
        "confidence": question.confidence,
        "readings": dict(table.readings),
        "rows": [_row(row) for row in table.rows],
        "missing": [vars(gap) for gap in table.comparison.gaps],
        "notes": notes(table),
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def to_csv(table: PaperTable) -> str:
    """One line for each cell, missing ones with n = 0; the difference stands on H-SSL's line."""
    return csv_text(_line(table, row, method) for row in table.rows for method in COLUMNS)


def csv_text(lines: Iterable[Mapping[str, Any]]) -> str:
    """Lines of the same columns; numbers in full, what is not there empty."""
    text = io.StringIO()
    writer: csv.DictWriter[str] | None = None
    for line in lines:
        if writer is None:
            writer = csv.DictWriter(text, fieldnames=list(line), lineterminator="\n")
            writer.writeheader()
        writer.writerow(line)
    return text.getvalue()


def _row(row: TableRow) -> dict[str, Any]:
    answer = row.pair.answer
    return {
        **row.key._asdict(),
        "in_paper": row.in_paper,
        "cells": {method: (cell := row.cell(method)) and cell_json(cell) for method in COLUMNS},
        "paper": {method: _printed(row, method) for method in COLUMNS} if row.in_paper else None,
        "answer": answer and answer_json(answer),
        "missing": row.missing,
        "departures": list(row.departures),
        "settings": dict(row.settings),
        "studies": list(row.studies),
    }


def _printed(row: TableRow, method: str) -> dict[str, float | None] | None:
    printed = printed_number(row.key, method) if row.in_paper else None
    return {"mean": printed.mean, "std": printed.std} if printed else None


def _line(table: PaperTable, row: TableRow, method: str) -> dict[str, Any]:
    cell, question = row.cell(method), table.question
    summary = cell.summary if cell else None
    interval = cell.interval if cell else None
    paper = _printed(row, method) or {"mean": None, "std": None}
    delta = summary.mean - paper["mean"] if summary and cell and cell.paper and paper["mean"] is not None else None
    delta_interval = cell.paper_interval if cell else None
    answer = row.pair.answer if method == question.against else None
    return {
        "table": table.name,
        **row.key._asdict(),
        "method": method,
        "metric": question.metric,
        "n": summary.n if summary else 0,
        "trials": len(cell.seeds) if cell else 0,
        "mean": summary and summary.mean,
        "std": summary and summary.std,
        "low": interval and interval.low,
        "high": interval and interval.high,
        "confidence": question.confidence,
        "paper_mean": paper["mean"],
        "paper_std": paper["std"],
        "delta": delta,
        "delta_low": delta_interval and delta_interval.low,
        "delta_high": delta_interval and delta_interval.high,
        "difference": answer and answer.difference.estimate,
        "difference_low": answer and answer.interval.low,
        "difference_high": answer and answer.interval.high,
        "design": answer and answer.difference.design,
        "margin": question.margin,
        "p_equivalent": answer and answer.p_equivalent,
        "p_different": answer and answer.p_different,
        "verdict": answer and answer.verdict,
        "departures": " ".join(row.departures),
        "studies": " ".join(row.studies),
    }
