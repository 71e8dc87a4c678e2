"""The paper's Tables 1 and 2, filled from a tracking store: the paper's rows first, then what else the store has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pyarrow as pa

from hssl_ray.report.compare import holm_notes, pair_of, with_holm
from hssl_ray.report.comparison import Cell, Comparison, Pair, Question
from hssl_ray.report.paper.printed import BASE_SETTINGS, RowKey, departures, paper_backbone, paper_rows, structure_of
from hssl_ray.report.paper.readings import Role, concerns, fields_of
from hssl_ray.report.paper.selection import Query, Trial, as_yaml, choose, has_value, key_of, trials_of
from hssl_ray.trial.config import TrialConfig

TableName = Literal["table1", "table2"]
COLUMNS = ("a_ssl", "h_ssl", "frozen", "supervised")


@dataclass(frozen=True)
class TableRow:
    """A row and its cells, those of them that the store has trials of.

    `settings` are the fields that its trials share, `departures` those of them that are not the paper's; `studies` the
    studies that its trials stand in.
    """

    key: RowKey
    in_paper: bool
    pair: Pair
    settings: Mapping[str, Any]
    departures: tuple[str, ...]
    studies: tuple[str, ...]

    def cell(self, method: str) -> Cell | None:
        """The cell of a method; None where nothing of it was ever started."""
        return next((cell for cell in self.pair.cells if cell.method == method), None)

    @property
    def missing(self) -> list[str]:
        """The methods without a single value."""
        return [method for method in COLUMNS if (cell := self.cell(method)) is None or cell.summary is None]


@dataclass(frozen=True)
class PaperTable:
    """Table 1 or 2 as the store has it. `readings` are the values all trials share; `notes` are about the whole."""

    name: TableName
    question: Question
    rows: tuple[TableRow, ...]
    readings: Mapping[str, Any]
    notes: tuple[str, ...]

    @property
    def comparison(self) -> Comparison:
        """The rows that the store knows, as the comparison whose words, figure and numbers the table shares."""
        return Comparison(self.question, tuple(row.pair for row in self.rows if row.pair.cells), self.notes)


def paper_table(name: TableName, store: pa.Table, query: Query) -> PaperTable:
    """Fill a table.

    Table 1 has a row for each data set, group and equivariant backbone; Table 2 one for each unstructured twin, and
    after it the structured row of the same data set and group. Base size and distances are the paper's where a row has
    trials of those.

    Args:
        name: which of the two.
        store: one row for each trial and study that has it, as `study.tracking.read_store` gives it.
        query: metric, margin, confidence, and which candidates.

    Raises:
        TableError: no such study or metric, or several candidates for the table or for one row.
    """
    found = trials_of(store, query)
    keys = [key for key in _row_keys(name, found) if _wanted(key, query.where)]
    left_out: Counter[str] = Counter()
    by_row: dict[RowKey, list[Trial]] = {}
    for trial in found:
        if reason := _why_not(trial, keys):
            left_out[reason] += 1
        else:
            by_row.setdefault(key_of(trial), []).append(trial)
    trials = [trial for own in by_row.values() for trial in _at_the_papers_place(own, query, left_out)]
    chosen = choose(name, trials, query.metric)
    question = Question(name, metric=query.metric, margin=query.margin, confidence=query.confidence)
    rows = [_row(key, chosen.rows.get(key, ()), question) for key in keys]
    judged = iter(with_holm([row.pair for row in rows], question))
    rows = [replace(row, pair=next(judged)) for row in rows]
    notes = [f"left out: {n} trial{'s' * (n > 1)} {reason}" for reason, n in sorted(left_out.items())]
    notes += holm_notes([row.pair for row in rows]) + (_twin_notes(rows) if name == "table2" else [])
    return PaperTable(name, question, tuple(rows), chosen.readings, tuple(notes))


def _row_keys(name: TableName, trials: Iterable[Trial]) -> list[RowKey]:
    """The rows in the order they are shown: the paper's, then those of the store alone, by name."""
    held = sorted({key_of(trial) for trial in trials if trial["method"] in COLUMNS})
    plain = [key for key in held if key.structure != "none"]
    if name == "table1":
        return list(dict.fromkeys([*paper_rows("equivariant"), *plain]))
    twins = dict.fromkeys([*paper_rows("none"), *(key for key in held if key.structure == "none")])
    return [key for twin in twins for key in (twin, *_counterparts(twin, plain))]


def _wanted(key: RowKey, where: Mapping[str, Any]) -> bool:
    """Whether a row has the wanted data set, group, backbone and structure."""
    return all(where.get(field, value) == value for field, value in key._asdict().items())


def _counterparts(twin: RowKey, held: Sequence[RowKey]) -> list[RowKey]:
    """The structured rows of a twin's data set and group; the paper's network where the store has none."""
    found = [key for key in held if key[:2] == twin[:2] and (key.backbone == twin.backbone or twin.backbone == "mlp")]
    return found or [RowKey(twin.dataset, twin.group, paper_backbone(twin.dataset, twin.group, "equivariant"))]


def _why_not(trial: Trial, keys: Sequence[RowKey]) -> str | None:
    """Why a trial has no place in the table; None where it has one."""
    if trial["method"] not in COLUMNS:
        return f"of {trial['method']}, which is no column of the paper's"
    if key_of(trial) not in keys:
        return "without structure, which Table 2 has" if structure_of(trial) == "none" else "with no twin in the table"
    return None


def _at_the_papers_place(trials: Sequence[Trial], query: Query, left_out: Counter[str]) -> list[Trial]:
    """A row's trials with the paper's base size and distances; with its own, where it has none with the paper's."""
    for field in fields_of(Role.AXIS):
        concerned = [trial for trial in trials if concerns(field, trial)]
        wanted = query.where.get(field, BASE_SETTINGS[field])
        if not any(trial[field] == wanted and has_value(trial, query.metric) for trial in concerned):
            continue
        apart = {trial["trial_id"] for trial in concerned if trial[field] != wanted}
        if apart:
            left_out[f"with another {field} than {as_yaml(wanted)}"] += len(apart)
        trials = [trial for trial in trials if trial["trial_id"] not in apart]
    return list(trials)


def _row(key: RowKey, trials: Sequence[Trial], question: Question) -> TableRow:
    methods: dict[str, list[Trial]] = {method: [] for method in COLUMNS}
    for trial in trials:
        methods[trial["method"]].append(trial)
    in_paper = key in paper_rows(key.structure)
    pair = pair_of(key.label, key._asdict(), {m: own for m, own in methods.items() if own}, question)
    if not in_paper:  # a subset of the paper's images, or another network, is no reproduction
        pair = _without_paper(pair)
    named = {name for trial in trials for name in departures(trial["method"], trial, question.metric)}
    return TableRow(
        key,
        in_paper,
        pair,
        settings=_shared(trials),
        departures=tuple(sorted(named)),
        studies=tuple(sorted({study for trial in trials for study in trial["studies"]})),
    )


def _shared(trials: Sequence[Trial]) -> dict[str, Any]:
    """The fields that have one value in all trials they concern."""
    values: dict[str, set[Any]] = {}
    for trial in trials:
        for name in TrialConfig.model_fields:
            if concerns(name, trial):
                values.setdefault(name, set()).add(trial[name])
    return {name: found.pop() for name, found in values.items() if len(found) == 1}


def _without_paper(pair: Pair) -> Pair:
    def bare(cell: Cell | None) -> Cell | None:
        return cell and replace(cell, paper=None, paper_interval=None)

    references = tuple(replace(cell, paper=None, paper_interval=None) for cell in pair.references)
    return replace(pair, baseline=bare(pair.baseline), against=bare(pair.against), references=references)


def _twin_notes(rows: Sequence[TableRow]) -> list[str]:
    """In what a twin and its structured row differ besides the structure."""
    notes = []
    for row in rows:
        for other in rows:
            if row.key.structure == "none" and other.key.structure != "none" and row.key[:2] == other.key[:2]:
                fields = [name for name in fields_of(Role.ROW) if name in row.settings and name in other.settings]
                apart = [f for f in fields if row.settings[f] != other.settings[f]]
                if apart:
                    said = ", ".join(f"{f} {as_yaml(row.settings[f])} and {as_yaml(other.settings[f])}" for f in apart)
                    notes.append(f"{row.key.label}: its structured row differs in more than the structure: {said}")
    return notes
