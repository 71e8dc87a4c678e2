"""What a comparison prints: all of it, or of hundreds of settings the best ones and how many of each kind there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hssl_ray.report import wording
from hssl_ray.report.comparison import Comparison, Pair
from hssl_ray.report.text_table import MOST_ROWS, TextTable
from hssl_ray.study.metrics import LESS_IS_BETTER

LONGEST_NOTE = 400
"""Characters of a note that lists settings, where settings are many."""


@dataclass(frozen=True)
class Shown:
    """The answer in a sentence, the tables and the notes that go with it."""

    headline: str
    tables: Sequence[TextTable]
    notes: Sequence[str]

    def markdown(self) -> str:
        return wording.markdown_page(self.headline, self.tables, self.notes)


def shown(comparison: Comparison, *, everything: bool = False) -> Shown:
    """What a comparison says; of more than `MOST_ROWS` settings or gaps only so many, unless everything is asked for.

    Settings come in the study's order as long as all are shown, else the best first: by the better side's mean.
    """
    pairs, gaps = comparison.pairs, comparison.gaps
    if everything or max(len(pairs), len(gaps)) <= MOST_ROWS:
        return Shown(wording.headline(comparison), wording.tables(comparison), wording.notes(comparison))
    named = len(pairs) <= MOST_ROWS
    best = pairs if named else _best(comparison)
    top = replace(comparison, pairs=tuple(best))
    hidden = len(pairs) - len(best)
    below = f"the best {len(best)} of {len(pairs):,} settings; --all prints the other {hidden:,}" if hidden else ""
    tables = [replace(table, left_out=below) for table in (wording.pair_table(top), wording.cell_table(top))]
    if gaps:
        more = len(gaps) - MOST_ROWS
        left_out = f"... and {more:,} more; --all prints them" if more > 0 else ""
        tables.append(replace(wording.gap_table(gaps[:MOST_ROWS]), left_out=left_out))
    notes = [_shortened(note) for note in wording.notes(comparison, about=best)]
    if hidden:
        unsaid = len(wording.notes(comparison)) - len(notes)
        notes += [f"{unsaid:,} more notes on the other settings; --all prints them"] if unsaid else []
    return Shown(wording.headline(comparison, named=named), tables, notes)


def _best(comparison: Comparison) -> list[Pair]:
    """The best settings, best first; those without a value last, equal ones in the study's order."""
    sign = -1 if comparison.question.metric in LESS_IS_BETTER else 1

    def mean(pair: Pair) -> float:
        means = [sign * side.summary.mean for side in (pair.baseline, pair.against) if side and side.summary]
        return max(means, default=float("-inf"))

    return sorted(comparison.pairs, key=mean, reverse=True)[:MOST_ROWS]


def _shortened(note: str) -> str:
    """A note that lists hundreds of settings up to the first ones."""
    if len(note) <= LONGEST_NOTE:
        return note
    kept, _, _ = note[:LONGEST_NOTE].rpartition(", ")
    return f"{kept or note[:LONGEST_NOTE]}, ... (--all prints all of it)"
