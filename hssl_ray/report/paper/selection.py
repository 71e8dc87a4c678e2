"""From every trial of a store to those that one table is made of; where several candidates remain, a refusal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hssl_ray.report.paper.printed import RowKey, structure_of
from hssl_ray.report.paper.readings import FIELDS, Role, TableError, concerns, fields_of, names_of
from hssl_ray.report.paper.where import matches
from hssl_ray.study.file.problems import did_you_mean
from hssl_ray.study.results import results_schema

Trial = Mapping[str, Any]
"""The columns of `study.results.results_table`, and under `studies` the names of all studies that have the trial."""

SHOWN = 6  # values of a field that a refusal lists
NAMED = 3  # studies that it names for each


@dataclass(frozen=True)
class Query:
    """What a table is asked of a store: a metric, its margin and level, and which candidates."""

    metric: str = "probe/top1"
    margin: float = 0.02
    confidence: float = 0.95
    studies: tuple[str, ...] = ()
    """Empty means all."""
    where: Mapping[str, Any] = field(default_factory=dict)
    """As `where.read_where` gives it."""


def trials_of(store: pa.Table, query: Query) -> list[Trial]:
    """The trials that a query speaks of, each once however many studies share it.

    Args:
        store: one row for each trial and study that has it.

    Raises:
        TableError: no study of a wanted name, or no such metric.
    """
    names = store["study"].unique().to_pylist()
    for study in query.studies:
        if study not in names:
            held = f" (it holds {', '.join(sorted(names))})" if names else ""
            raise TableError(f"--study {study}: the store has no such study{did_you_mean(study, names) or held}")
    metrics = [name for name in store.column_names if name not in results_schema().names]
    if metrics and query.metric not in metrics:
        near = did_you_mean(query.metric, metrics) or f" (it has {', '.join(metrics)})"
        raise TableError(f"--metric {query.metric}: no trial of the store has this metric{near}")
    if query.studies:
        store = store.filter(pc.is_in(store["study"], pa.array(query.studies, pa.string())))
    trials: dict[str, dict[str, Any]] = {}
    for row in store.to_pylist():
        trial = trials.setdefault(row["trial_id"], {query.metric: None, **row, "studies": ()})
        trial["studies"] = (*trial["studies"], row["study"])
    return [trial for trial in trials.values() if matches(trial, query.where)]


def key_of(trial: Trial) -> RowKey:
    """The row a trial belongs to."""
    return RowKey(trial["dataset"], trial["group"], trial["backbone"], structure_of(trial))


def has_value(trial: Trial, metric: str) -> bool:
    """Whether a trial finished with a finite value of the metric."""
    value = trial.get(metric)
    return trial["state"] == "finished" and value is not None and math.isfinite(value)


@dataclass(frozen=True)
class Chosen:
    """The trials of a table by row, and the reading that all of them share."""

    rows: dict[RowKey, list[Trial]]
    readings: dict[str, Any]


def choose(table: str, trials: Iterable[Trial], metric: str, varied: Sequence[str] = ()) -> Chosen:
    """The one candidate of every row, with its unfinished trials.

    A row has one value of every field, a table one value of every field that reads the paper, as far as a field can
    change the result of a trial that has one. Trials of a method and seed that differ in nothing that concerns the
    method are one, that with the row's own settings first.

    Args:
        table: its name, for the refusal.
        varied: fields whose values may differ.

    Raises:
        TableError: the store holds several candidates; says which fields, values and studies, and what chooses.
    """
    by_row: dict[RowKey, list[Trial]] = {}
    for trial in trials:
        by_row.setdefault(key_of(trial), []).append(trial)
    fixed = [name for name in FIELDS if FIELDS[name].role is not Role.KEY and name not in varied]
    held: dict[RowKey, dict[str, _Held]] = {
        key: {name: _Held.of(name, (t for t in own if has_value(t, metric)), _itself) for name in fixed}
        for key, own in by_row.items()
    }
    shared = {
        name: _Held.of(name, (t for own in by_row.values() for t in own if has_value(t, metric)), names_of)
        for name in fields_of(Role.READING)
    }
    clashes = [f"{name}: one value in a table, {values}" for name, values in shared.items() if values.clash]
    told = {name for name, values in shared.items() if values.clash}
    clashes += [
        f"{key.label}: {name}: one value in a row, {values}"
        for key, row in held.items()
        for name, values in row.items()
        if values.clash and name not in told
    ]
    if clashes:
        lines = [f"{table}: {clash}" for clash in clashes]
        raise TableError("\n".join([*lines, "`--study NAME` makes it of that study's trials alone"]))
    rows = {key: list(_one_a_seed(own, held[key], metric, varied)) for key, own in by_row.items()}
    return Chosen(rows, {name: values.common[0] for name, values in shared.items() if values.studies})


@dataclass(frozen=True)
class _Held:
    """The names of one field's values, each with the studies that hold it, and those that all trials have."""

    field: str
    studies: dict[Any, set[str]]
    common: list[Any]

    @classmethod
    def of(cls, name: str, trials: Iterable[Trial], names: Callable[[str, Trial], tuple[Any, ...]]) -> _Held:
        studies: dict[Any, set[str]] = {}
        counts: Counter[Any] = Counter()
        concerned = [trial for trial in trials if name in trial and concerns(name, trial)]
        for trial in concerned:
            for value in names(name, trial):
                studies.setdefault(value, set()).update(trial["studies"])
                counts[value] += 1
        return cls(name, studies, [value for value, count in counts.items() if count == len(concerned)])

    @property
    def clash(self) -> bool:
        return bool(self.studies) and not self.common

    def __str__(self) -> str:
        shown = list(self.studies.items())[:SHOWN]
        got = [f"{as_yaml(value)} ({', '.join(_first(sorted(studies), NAMED))})" for value, studies in shown]
        got += [f"{len(self.studies) - SHOWN} more"] if len(self.studies) > SHOWN else []
        options = " or ".join(f"--where {self.field}={as_yaml(value)}" for value, _ in shown)
        return f"got {', '.join(got)}; choose with {options}"


def _first(names: list[str], count: int) -> list[str]:
    return names if len(names) <= count else [*names[:count], f"{len(names) - count} more"]


def _itself(name: str, trial: Trial) -> tuple[Any, ...]:
    return (trial[name],)


def as_yaml(value: Any) -> str:
    """A field's value as a study file has it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _one_a_seed(trials: list[Trial], held: Mapping[str, _Held], metric: str, varied: Sequence[str]) -> Iterator[Trial]:
    """Of a row's trials those with its values, one for each method, varied value and seed."""
    values = {name: field.common[0] for name, field in held.items() if field.studies}
    best: dict[tuple[Any, ...], tuple[tuple[Any, ...], Trial]] = {}
    for trial in trials:
        if any(trial[name] != value for name, value in values.items() if concerns(name, trial)):
            continue  # an unfinished trial of another candidate
        alike = sum(trial[name] == value for name, value in values.items())
        rank = (has_value(trial, metric), alike, trial["trial_id"])
        slot = (trial["method"], trial["seed"], *(trial[name] for name in varied))
        if slot not in best or rank > best[slot][0]:
            best[slot] = (rank, trial)
    yield from (trial for _, trial in best.values())
