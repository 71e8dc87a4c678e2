"""A comparison in words: numbers as people write them, one sentence for the answer, tables of text.

The terminal, the page and the tracking server show these same tables.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hssl_ray.report.comparison import Answer, Cell, Comparison, Gap, Pair, Question
from hssl_ray.report.text_table import NOTHING, TextTable
from hssl_ray.study.statistics import Interval, Summary

METHOD_NAMES = {"a_ssl": "A-SSL", "f_ssl": "F-SSL", "h_ssl": "H-SSL", "frozen": "frozen", "supervised": "supervised"}
KINDS = {
    "equivalent": "equivalent",
    "both": "different, but by less than the margin,",
    "different": "different",
    "undecided": "undecided",
    "unanswered": "without an answer",
}


@dataclass(frozen=True)
class Scale:
    """How values of a metric are written: accuracies in percent and their differences in points, others as they are."""

    metric: str

    @property
    def percent(self) -> bool:
        return self.metric.startswith("probe/")

    @property
    def unit(self) -> str:
        return " %" if self.percent else ""

    @property
    def points(self) -> str:
        return " points" if self.percent else ""

    def value(self, value: float) -> str:
        return _minus(f"{100 * value:.1f}" if self.percent else f"{value:.4g}")

    def change(self, value: float) -> str:
        """With its sign."""
        return _minus(f"{100 * value:+.1f}" if self.percent else f"{value:+.3g}")

    def margin(self, value: float) -> str:
        """As the study gives it: 2, not 2.0."""
        return f"{100 * value:.10g}" if self.percent else f"{value:.10g}"

    def summary(self, summary: Summary | None) -> str:
        """`81.0 ± 1.0`; a single seed has no deviation."""
        if summary is None:
            return NOTHING
        return self.value(summary.mean) + ("" if summary.std is None else f" ± {self.value(summary.std)}")

    def interval(self, interval: Interval | None) -> str:
        return f"[{self.value(interval.low)}, {self.value(interval.high)}]" if interval else NOTHING

    def change_interval(self, interval: Interval) -> str:
        return f"[{self.change(interval.low)}, {self.change(interval.high)}]"


def method_name(method: str) -> str:
    """`a_ssl` as the paper writes it."""
    return METHOD_NAMES.get(method, method)


def headline(comparison: Comparison, *, named: bool = True) -> str:
    """The answer in one sentence. Of several settings it counts each verdict's, and names them if `named`."""
    question = comparison.question
    answered = [pair for pair in comparison.pairs if pair.answer]
    if not answered:
        notes = [*comparison.notes, *(f"{pair.label}: {note}" for pair in comparison.pairs for note in pair.notes)]
        return f"No answer yet: {notes[0] if notes else 'there is no pair of cells to compare'}."
    if len(comparison.pairs) == 1:
        return _sentence(answered[0], question)
    labels: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for pair in comparison.pairs:
        labels[pair.answer.verdict if pair.answer else "unanswered"].append(pair.label)
    count = len(comparison.pairs) if named else f"{len(comparison.pairs):,}"
    parts = [
        f"{KINDS[kind]} in {len(own)} ({', '.join(own)})" if named else f"{KINDS[kind]} in {len(own):,}"
        for kind, own in labels.items()
        if own
    ]
    baseline, against = method_name(question.baseline), method_name(question.against)
    scale = Scale(question.metric)
    margin = f"{scale.margin(question.margin)}{scale.points}"
    return f"{against} against {baseline} in {count} settings, at ±{margin}: {'; '.join(parts)}."


def tables(comparison: Comparison) -> list[TextTable]:
    """What there is to show: pairs, cells, and trials without a result (the last two only if any)."""
    shown = [pair_table(comparison), cell_table(comparison)]
    if comparison.gaps:
        shown.append(gap_table(comparison.gaps))
    return shown


def pair_table(comparison: Comparison) -> TextTable:
    """One row per pair: both sides, the difference with its interval, the verdict, the seeds still needed."""
    question = comparison.question
    scale = Scale(question.metric)
    baseline, against = method_name(question.baseline), method_name(question.against)
    header = (
        "setting",
        f"{baseline} (n)",
        f"{against} (n)",
        f"{against} − {baseline}",
        f"{100 * question.confidence:g} % interval",
        f"verdict at ±{scale.margin(question.margin)}",
        "seeds still needed",
    )
    rows = []
    for pair in comparison.pairs:
        answer = pair.answer
        rows.append(
            (
                pair.label,
                _counted(pair.baseline, scale),
                _counted(pair.against, scale),
                scale.change(answer.difference.estimate) if answer else NOTHING,
                scale.change_interval(answer.interval) if answer else "no interval",
                answer.verdict if answer else "no answer",
                seeds_needed_text(answer),
            )
        )
    return TextTable(f"{question.metric}{' in percent' if scale.percent else ''}, mean ± std", header, tuple(rows))


def cell_table(comparison: Comparison, *, paper_intervals: bool = False) -> TextTable:
    """One row per cell, baselines without pairs beside the others.

    Args:
        paper_intervals: give the distance to the printed number with its interval.
    """
    question = comparison.question
    scale = Scale(question.metric)
    interval = f"{100 * question.confidence:g} % interval"
    header = ("cell", "mean ± std", "n", interval, "over frozen", "paper")
    rows = tuple(
        (
            f"{pair.label}: {method_name(cell.method)}",
            scale.summary(cell.summary),
            f"{len(cell.values)} of {len(cell.seeds)}",
            scale.interval(cell.interval),
            _gain(cell, scale),
            _paper(cell, scale, with_interval=paper_intervals),
        )
        for pair in comparison.pairs
        for cell in pair.cells
    )
    return TextTable("Cells: gain over a random frozen backbone, and the paper's tables", header, rows)


def gap_table(gaps: Sequence[Gap]) -> TextTable:
    """Trials without a result, by name."""
    rows = tuple((g.name, g.state, g.reason or NOTHING, g.trial_id) for g in gaps)
    return TextTable("Trials without a result", ("trial", "state", "reason", "id"), rows)


def notes(comparison: Comparison, about: Sequence[Pair] | None = None) -> list[str]:
    """Everything a reader must know beside the tables.

    Args:
        about: the pairs whose own notes are wanted; None for all.
    """
    pairs = comparison.pairs if about is None else about
    several = len(comparison.pairs) > 1
    said = list(comparison.notes)
    said += [f"{pair.label}: {note}" if several else note for pair in pairs for note in pair.notes]
    departures = {cell.paper.departures for cell in comparison.cells if cell.paper and cell.paper.departures}
    if departures:
        common = sorted(set.intersection(*map(set, departures)))
        own = sorted(set.union(*map(set, departures)) - set(common))
        listed = ", ".join(common) + (f"; in some cells {', '.join(own)}" if own else "")
        said.append(f"the paper's numbers were made with other settings; here {listed}")
    for pair in pairs:
        if pair.answer and pair.answer.other_design and pair.answer.other_design[1] != pair.answer.verdict:
            said.append(f"{pair.label}: taken as independent seeds, the verdict would be {pair.answer.other_design[1]}")
    return said


def markdown_page(headline: str, tables: Sequence[TextTable], notes: Sequence[str]) -> str:
    """A sentence, tables with their titles, and a list of notes; aligned, for those who read it as text."""
    parts = [_escaped(headline), *(f"**{_escaped(table.title)}**\n\n{markdown_table(table)}" for table in tables)]
    parts += ["\n".join(f"- {_escaped(note)}" for note in notes)] if notes else []
    return "\n\n".join(part for part in parts if part) + "\n"


def markdown_table(table: TextTable) -> str:
    """A table's lines without its title, strong cells bold."""
    rows = [list(map(_escaped, table.header))]
    for r, row in enumerate(table.rows):
        cells = enumerate(map(_escaped, row))
        rows.append([f"**{cell}**" if (r, column) in table.strong else cell for column, cell in cells])
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines + (["", _escaped(table.left_out)] if table.left_out else []))


def seeds_needed_text(answer: Answer | None) -> str:
    """`0`, `about 8`, or `2 or more` where there is no interval to judge by; `–` where more seeds do not help."""
    if answer is None:
        return "2 or more"
    missing = answer.seeds_missing
    if missing is None:
        return NOTHING
    return f"about {missing}" if missing else "0"


def p_value(p: float) -> str:
    """`0.03`; `<0.001` where more digits would claim more than a few seeds can tell."""
    return "<0.001" if p < 0.001 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def _sentence(pair: Pair, question: Question) -> str:
    answer = pair.answer
    assert answer is not None and pair.baseline and pair.against
    scale = Scale(question.metric)
    baseline, against = method_name(question.baseline), method_name(question.against)
    margin = f"{scale.margin(question.margin)}{scale.points}"
    n = answer.difference.n
    match answer.verdict:
        case "equivalent":
            said = f"{against} matches {baseline} within ±{margin}"
        case "both":
            said = f"{against} and {baseline} differ, but by less than {margin}"
        case "different":
            better = "above" if answer.difference.estimate > 0 else "below"
            beyond = answer.interval.low > question.margin or answer.interval.high < -question.margin
            said = f"{against} is {better} {baseline}"
            said += f" by more than {margin}" if beyond else f", and not shown to be within ±{margin}"
        case _:
            more = answer.seeds_missing
            said = f"{n} seeds do not decide whether {against} matches {baseline} within ±{margin}"
            said += f" (about {more} more per method would)" if more else ""
    return (
        f"On {pair.label}, {said}: difference {scale.change(answer.difference.estimate)}{scale.points}, "
        f"{100 * question.confidence:g} % interval {scale.change_interval(answer.interval)}, "
        f"{n} {'pairs of seeds' if answer.difference.design == 'paired' else 'seeds per method'}."
    )


def _counted(cell: Cell | None, scale: Scale) -> str:
    if cell is None:
        return "not in the study"
    return f"{scale.summary(cell.summary)} ({len(cell.values)})" if cell.summary else NOTHING


def _gain(cell: Cell, scale: Scale) -> str:
    if cell.gain is None:
        return NOTHING
    return f"{scale.change(cell.gain.difference.estimate)} {scale.change_interval(cell.gain.interval)}"


def _paper(cell: Cell, scale: Scale, *, with_interval: bool) -> str:
    """The printed number, and how far above it this cell is."""
    if cell.paper is None:
        return NOTHING
    printed = scale.summary(cell.paper.printed)
    if cell.summary is None:
        return printed
    delta = scale.change(cell.summary.mean - cell.paper.printed.mean)
    if with_interval:
        delta += f" {scale.change_interval(cell.paper_interval)}" if cell.paper_interval else ", no interval"
    return f"{printed} (Δ {delta})"


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is. Only what would be markup is escaped: an interval's brackets are not."""
    text = re.sub(r"[\\`*<>|]|^#|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\\g<0>", text.replace("\n", " "))
    return re.sub(r"[\[\]]", r"\\\g<0>", text) if re.search(r"\][(\[:]", text) else text


def _minus(text: str) -> str:
    return text.replace("-", "−")
