"""How far a study is: trials by state and cell, what failed and why."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from hssl_ray.report.text_table import MOST_ROWS, NOTHING, TextTable

SCHEMA = "hssl-ray/status/1"
STATES = ("finished", "running", "planned", "pruned", "diverged", "failed", "killed")
LEFT = ("planned", "running", "failed", "killed")  # what running the study again would try to finish
BROKEN = ("diverged", "failed", "killed")


@dataclass(frozen=True)
class CellProgress:
    """Trials of a cell by state; `epoch` is the mean last epoch of its running trials, of `epochs`."""

    name: str
    states: dict[str, int]
    epoch: float | None
    epochs: int


@dataclass(frozen=True)
class Progress:
    """Trials of a study by state. `seconds` is the training time of ended trials, retries left out."""

    study: str
    states: dict[str, int]
    cells: tuple[CellProgress, ...]
    broken: tuple[dict[str, Any], ...]
    seconds: float
    stopped: str | None = None
    """What of the study's budget is used up, if that ended its last run."""

    @property
    def trials(self) -> int:
        return sum(self.states.values())

    @property
    def left(self) -> int:
        """Trials that running the study again would start or continue."""
        return sum(self.states.get(state, 0) for state in LEFT)

    def sentence(self) -> str:
        """`4 of 6 trials finished; 1 failed, 1 planned.`"""
        others = [f"{n} {state}" for state, n in self.states.items() if state != "finished"]
        tail = f"; {', '.join(others)}" if others else ""
        return f"{self.states.get('finished', 0)} of {self.trials} trials finished{tail}."

    def to_json(self) -> str:
        """The whole as JSON, schema `SCHEMA`."""
        data = {
            "schema": SCHEMA,
            "study": self.study,
            "trials": self.trials,
            "left": self.left,
            "states": self.states,
            "seconds": self.seconds,
            "cells": [vars(cell) for cell in self.cells],
            "broken": list(self.broken),
            "stopped": self.stopped,
        }
        return json.dumps(data, indent=2, allow_nan=False)

    def tables(self, *, everything: bool = False) -> list[TextTable]:
        """Cells by state; then what broke, if anything did.

        Of more than `MOST_ROWS` cells those alike are counted together, and no more broken trials are listed, unless
        everything is asked for.
        """
        most = None if everything else MOST_ROWS
        shown = [self._each_cell() if everything or len(self.cells) <= MOST_ROWS else self._cells_alike()]
        if self.broken:
            broken = tuple(
                (row["name"], row["state"], str(row["attempt"]), row["reason"] or NOTHING, row["trial_id"])
                for row in self.broken[:most]
            )
            header = ("trial", "state", "attempt", "reason", "id")
            shown.append(TextTable("Ended badly", header, broken, left_out=_left_out(len(self.broken) - len(broken))))
        return shown

    @property
    def _used(self) -> list[str]:
        return [state for state in STATES if self.states.get(state)]

    def _each_cell(self) -> TextTable:
        running = ("running at epoch",) if "running" in self._used else ()
        rows = tuple(
            (cell.name, *(str(cell.states.get(state, 0)) for state in self._used), *(_epochs(cell) for _ in running))
            for cell in self.cells
        )
        return TextTable("Cells", ("cell", *self._used, *running), rows)

    def _cells_alike(self) -> TextTable:
        """How many cells have how many trials in which state: the commonest first."""
        alike: dict[tuple[int, ...], list[str]] = {}
        for cell in self.cells:
            alike.setdefault(tuple(cell.states.get(state, 0) for state in self._used), []).append(cell.name)
        groups = sorted(alike.items(), key=lambda group: -len(group[1]))[:MOST_ROWS]
        rows = tuple((f"{len(names):,}", *map(str, counts), names[0]) for counts, names in groups)
        left_out = f"{len(self.cells):,} cells; --all lists each"
        return TextTable("Cells alike, trials of each", ("cells", *self._used, "the first"), rows, left_out=left_out)


def progress(results: pa.Table, study: str, stopped: str | None = None) -> Progress:
    """Count the results table of a study. `stopped`: see `Progress`."""
    columns = ("trial_id", "name", "cell", "state", "reason", "attempt", "seconds", "epoch", "epochs")
    return progress_of(
        results.select([name for name in columns if name in results.column_names]).to_pylist(), study, stopped
    )


def progress_of(rows: list[dict[str, Any]], study: str, stopped: str | None = None) -> Progress:
    """`progress` of rows with trial_id, name, cell, state, reason, attempt, seconds, epochs and perhaps epoch."""
    cells: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        cells.setdefault(row["cell"], []).append(row)
    return Progress(
        study,
        states=_states(rows),
        cells=tuple(
            CellProgress(name, _states(members), _mean_epoch(members), members[0]["epochs"])
            for name, members in cells.items()
        ),
        broken=tuple(
            {key: row[key] for key in ("trial_id", "name", "cell", "state", "reason", "attempt")}
            for row in rows
            if row["state"] in BROKEN
        ),
        seconds=sum(row["seconds"] or 0.0 for row in rows),
        stopped=stopped,
    )


def _left_out(more: int) -> str:
    return f"... and {more:,} more; --all lists them" if more else ""


def _states(rows: list[dict[str, Any]]) -> dict[str, int]:
    counts = Counter(row["state"] for row in rows)
    return {state: counts[state] for state in STATES if counts[state]}


def _mean_epoch(rows: list[dict[str, Any]]) -> float | None:
    epochs = [row.get("epoch") or 0.0 for row in rows if row["state"] == "running"]
    return sum(epochs) / len(epochs) if epochs else None


def _epochs(cell: CellProgress) -> str:
    return NOTHING if cell.epoch is None else f"{cell.epoch:.0f} of {cell.epochs}"
