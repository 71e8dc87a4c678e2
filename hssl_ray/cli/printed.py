"""Text tables on a terminal, or in a pipe, where no line is folded to a width that nobody has."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hssl_ray.report.wording import TextTable

WIDE = 1000  # columns of a pipe


def console() -> Console:
    """The terminal at its width; a pipe or a file at none."""
    here = Console(highlight=False, markup=False)
    return here if here.is_terminal else Console(highlight=False, markup=False, width=WIDE)


def print_tables(to: Console, tables: Sequence[TextTable]) -> None:
    """Titles, headers and rows; every cell as it is, brackets included."""
    for table in tables:
        shown = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        for name in table.header:
            shown.add_column(Text(name), overflow="fold")
        for row in table.rows:
            shown.add_row(*(Text(cell) for cell in row))
        to.print(Text(table.title, style="bold"), shown, "", sep="\n")


def print_notes(to: Console, notes: Sequence[str]) -> None:
    """One line a note."""
    for note in notes:
        to.print(Text(f"- {note}"))
