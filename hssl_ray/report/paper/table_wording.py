"""Tables 1 and 2 in words: what a reader of the paper looks for, then every cell, then what must be known."""

from __future__ import annotations

from hssl_ray.report import wording
from hssl_ray.report.paper.notes import mark_of, numbered, reading_note
from hssl_ray.report.paper.printed import RUNS, RowKey, printed_number
from hssl_ray.report.paper.tables import COLUMNS, PaperTable, TableRow
from hssl_ray.report.text_table import NOTHING, TextTable
from hssl_ray.report.wording import Scale, method_name

TITLES = {
    "table1": "Table 1: A-SSL and H-SSL on equivariant backbones, beside frozen and supervised ones",
    "table2": "Table 2: the same without structure, each row above its structured counterpart",
}


def headline(table: PaperTable) -> str:
    """What the rows with results say about H-SSL against A-SSL."""
    known = table.comparison
    return wording.headline(known) if known.pairs else "The store has no trial of this table yet."


def tables(table: PaperTable) -> list[TextTable]:
    """The table, its cells, and the trials without a result (the last two only if any)."""
    shown = [main_table(table)]
    if table.comparison.pairs:
        shown.append(wording.cell_table(table.comparison, paper_intervals=True))
    if table.comparison.gaps:
        shown.append(wording.gap_table(table.comparison.gaps))
    return shown


def main_table(table: PaperTable) -> TextTable:
    """The paper's table with the difference and its verdict; `note` is the number of a row's footnote."""
    question, scale = table.question, Scale(table.question.metric)
    baseline, against = method_name(question.baseline), method_name(question.against)
    header = (
        *("data set", "group", "backbone", *(["structure"] if table.name == "table2" else [])),
        *map(method_name, COLUMNS),
        f"{against} − {baseline}",
        f"verdict at ±{scale.margin(question.margin)}",
        "note",
    )
    listed = footnotes(table)
    rows, strong = [], set()
    for number, row in enumerate(table.rows):
        answer = row.pair.answer
        key = list(row.key if table.name == "table2" else row.key[:3])
        change = (
            f"{scale.change(answer.difference.estimate)} {scale.change_interval(answer.interval)}" if answer else ""
        )
        rows.append(
            (
                *key,
                *(_cell(row, method, scale) for method in COLUMNS),
                change or NOTHING,
                answer.verdict if answer else "no answer",
                mark_of(row.departures, listed),
            )
        )
        strong |= {(number, len(key) + COLUMNS.index(method)) for method in winners(row)}
    unit = " in percent" if scale.percent else ""
    title = f"{TITLES[table.name]}; {question.metric}{unit}, mean ± std (n), {100 * question.confidence:g} % intervals"
    return TextTable(title, header, tuple(rows), frozenset(strong))


def winners(row: TableRow) -> tuple[str, ...]:
    """The self-supervised methods in bold: the better one where they differ, both where no gap beyond the margin is
    left, none where the seeds do not decide."""
    answer = row.pair.answer
    match answer.verdict if answer else None:
        case "equivalent" | "both":
            return ("a_ssl", "h_ssl")
        case "different":
            assert answer
            return ("h_ssl",) if answer.difference.estimate > 0 else ("a_ssl",)
        case _:
            return ()


def footnotes(table: PaperTable) -> dict[str, str]:
    """The numbered notes of rows: in which settings a row departs from the paper's."""
    return numbered(row.departures for row in table.rows)


def notes(table: PaperTable) -> list[str]:
    """Everything a reader must know beside the tables, without the footnotes."""
    several = len(table.comparison.pairs) > 1
    said = _missing(table)
    said += [f"{row.key.label}: {note}" if several else note for row in table.rows for note in row.pair.notes]
    said += [
        f"{row.key.label}: undecided; seeds still needed per method: {wording.seeds_needed_text(answer)}"
        for row in table.rows
        if (answer := row.pair.answer) and answer.verdict == "undecided"
    ]
    said += [*reading_note(table.readings), *table.notes]
    said += [
        "bold, by verdict: the better of A-SSL and H-SSL where they are different; both where they are equivalent or "
        "differ by less than the margin",
        f"the paper prints mean ± std over {RUNS} runs; Δ is the distance to its mean, with Welch's interval",
    ]
    return said + frozen_notes([row.key for row in table.rows])


def frozen_notes(keys: list[RowKey]) -> list[str]:
    """Where the paper's own self-supervised backbones lie below its random frozen ones, and why on rotated digits."""
    below = []
    for key in keys:
        numbers = {method: printed_number(key, method) for method in ("a_ssl", "h_ssl", "frozen")}
        a, h, frozen = (100 * n.mean if n else None for n in numbers.values())
        if a is not None and h is not None and frozen is not None and max(a, h) < frozen:
            below.append(f"{key.label} ({a:.1f} and {h:.1f} against {frozen:.1f})")
    said = []
    if below:
        said.append(f"in the paper, too, A-SSL and H-SSL are below the random frozen backbone on {', '.join(below)}")
    if any("mnist" in key.dataset and key.group == "rotation" and key.structure != "none" for key in keys):
        said.append(
            "on rotated digits that is to be expected: what a turn does not change cannot tell 6 from 9, and "
            "orientation is a cue to the class, which a random backbone keeps"
        )
    return said


def _cell(row: TableRow, method: str, scale: Scale) -> str:
    """`81.0 ± 1.0 (3)`; what is missing has the paper's number, if there is one."""
    cell, printed = row.cell(method), printed_number(row.key, method) if row.in_paper else None
    if cell and cell.summary:
        return f"{scale.summary(cell.summary)} ({cell.summary.n})"
    return f"missing (paper {scale.value(printed.mean)})" if printed and scale.percent else "missing"


def _missing(table: PaperTable) -> list[str]:
    """The cells without a value, rows of which the store has no trial at all in one line."""
    said = [
        f"missing: {row.key.label}, {', '.join(map(method_name, row.missing))}"
        for row in table.rows
        if row.missing and row.pair.cells
    ]
    absent = [row.key.label for row in table.rows if not row.pair.cells]
    return said + ([f"missing altogether: {', '.join(absent)}"] if absent else [])
