"""Text tables on a terminal, or in a pipe, where no line is folded to a width that nobody has."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from hssl_ray.report.text_table import TextTable

WIDE = 1000  # columns of a pipe
GAP = 2


def console() -> Console:
    """The terminal at its width; a pipe or a file at none."""
    here = Console(highlight=False, markup=False)
    return here if here.is_terminal else Console(highlight=False, markup=False, width=WIDE)


def print_tables(to: Console, tables: Sequence[TextTable]) -> None:
    """Titles, headers and rows; every cell as it is, brackets included. On a narrow terminal headers fold first."""
    for table in tables:
        to.print(*as_rich(to, table), "", sep="\n")


def as_rich(to: Console, table: TextTable) -> list[RenderableType]:
    """A table's title, the table, and what is left out of it, for the width of a terminal."""
    widths = [max(map(len, column), default=0) for column in zip(*table.rows, strict=True)] or [0]
    fits = sum(max(w, len(h)) + GAP for w, h in zip(widths, table.header, strict=False)) <= to.width
    shown = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    for name, width in zip(table.header, widths, strict=False):
        shown.add_column(Text(name if fits else textwrap.fill(name, max(width, 7))), overflow="fold")
    for row in table.rows:
        shown.add_row(*(Text(cell) for cell in row))
    below = (Text(table.left_out),) if table.left_out else ()
    return [Text(table.title, style="bold"), shown, *below]


def print_notes(to: Console, notes: Sequence[str]) -> None:
    """One line a note."""
    for note in notes:
        to.print(Text(f"- {note}"))
