"""A table of plain text: what the terminal, the pages and the tracking server all show."""

from __future__ import annotations

from dataclasses import dataclass

NOTHING = "–"
MOST_ROWS = 50
"""Rows that a table has on a terminal unless all are asked for."""


@dataclass(frozen=True)
class TextTable:
    """A table whose cells are plain text. `strong` are the cells (row, column) to stand out, where there is a way."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    strong: frozenset[tuple[int, int]] = frozenset()
    left_out: str = ""
    """What stands below instead of more rows; empty where these are all."""

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.header) for row in self.rows), self.title
