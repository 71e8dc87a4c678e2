"""What a study has found so far, as Arrow tables, from the ledger and the journals alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from hssl_ray.study import columns
from hssl_ray.study.layout import trial_folder
from hssl_ray.study.ledger import History, Outcome, read_history, running_driver
from hssl_ray.study.spec import PlannedTrial
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.journal import JOURNAL, Record, last_metrics, read_records

HISTORY_SCHEMA = pa.schema(
    [
        ("trial_id", pa.string()),
        ("cell", pa.string()),
        ("method", pa.string()),
        ("seed", pa.int64()),
        ("epoch", pa.int64()),
        ("metric", pa.string()),
        ("value", pa.float64()),
    ]
)


def results_table(home: Path, study: str, metrics: Collection[str] | None = None) -> pa.Table:
    """One row per trial of the study as last planned.

    Columns: trial_id, name, study, cell, method, seed, state, reason, attempt, seconds, every other field of
    `TrialConfig` under its own name, then every metric under its own name at the last epoch that has it (float64,
    null where a trial lacks it). `state` is one of planned, running, finished, pruned, diverged, failed, killed;
    `attempt` is 0 for a trial not yet tried.

    Args:
        metrics: the only ones wanted; None for all. Of thousands of trials all are most of the work.
    """
    return table_of(read_history(home, study, metrics), home, study)


def table_of(history: History, home: Path, study: str) -> pa.Table:
    """`results_table` from a history that was read before, with the metrics that it keeps."""
    alive = running_driver(home, study) is not None
    trials = list(history.trials().values())
    outcomes = [history.outcomes.get(trial.trial_id) for trial in trials]
    states = [state_of(trial, history, outcome, alive) for trial, outcome in zip(trials, outcomes, strict=True)]
    values: dict[str, list[Any]] = {
        "trial_id": [trial.trial_id for trial in trials],
        "name": [trial.name for trial in trials],
        "study": [study] * len(trials),
        "cell": [trial.cell for trial in trials],
        "state": [state for state, _ in states],
        "reason": [reason for _, reason in states],
        "attempt": [
            history.attempts.get(trial.trial_id, 0) if outcome is None else outcome.attempt
            for trial, outcome in zip(trials, outcomes, strict=True)
        ],
        "seconds": [None if outcome is None else outcome.seconds for outcome in outcomes],
    }
    schema = results_schema()
    for name in schema.names:
        if name not in values:
            values[name] = [getattr(trial.config, name) for trial in trials]
    table = columns.table(values, schema)
    measured = [_metrics(home, trial, history, outcome) for trial, outcome in zip(trials, outcomes, strict=True)]
    for metric in sorted(set().union(*measured)):
        found = columns.column([metrics.get(metric) for metrics in measured], pa.float64())
        table = table.append_column(pa.field(metric, pa.float64()), found)
    return table


def history_table(home: Path, study: str, cells: Collection[str] | None = None) -> pa.Table:
    """One row per trial, epoch and metric: trial_id, cell, method, seed, epoch, metric, value.

    Args:
        cells: the only ones wanted; None for all. Every trial's journal has to be read.
    """
    columns: dict[str, list[Any]] = {name: [] for name in HISTORY_SCHEMA.names}
    for trial in read_history(home, study, metrics=()).trials().values():
        if cells is not None and trial.cell not in cells:
            continue
        for record in _records(home, trial):
            count = len(record.metrics)
            columns["trial_id"] += [trial.trial_id] * count
            columns["cell"] += [trial.cell] * count
            columns["method"] += [trial.config.method] * count
            columns["seed"] += [trial.config.seed] * count
            columns["epoch"] += [record.epoch] * count
            columns["metric"] += list(record.metrics)
            columns["value"] += list(record.metrics.values())
    return pa.table(columns, schema=HISTORY_SCHEMA)


def results_schema() -> pa.Schema:
    """Columns of `results_table` before the metrics."""
    first = [
        ("trial_id", pa.string()),
        ("name", pa.string()),
        ("study", pa.string()),
        ("cell", pa.string()),
        ("method", pa.string()),
        ("seed", pa.int64()),
        ("state", pa.string()),
        ("reason", pa.string()),
        ("attempt", pa.int64()),
        ("seconds", pa.float64()),
    ]
    taken = {name for name, _ in first}
    return pa.schema(first + [(name, kind) for name, kind in _config_types().items() if name not in taken])


def _config_types() -> dict[str, pa.DataType]:
    """Arrow types of the fields of `TrialConfig`, from the JSON types they are written as."""
    kinds = {"integer": pa.int64(), "number": pa.float64(), "string": pa.string(), "boolean": pa.bool_()}
    types = {}
    for name, field in TrialConfig.model_json_schema()["properties"].items():
        options = [option for option in field.get("anyOf", [field]) if option.get("type") != "null"]
        types[name] = kinds[options[0]["type"]]
    return types


def state_of(trial: PlannedTrial, history: History, outcome: Outcome | None, alive: bool) -> tuple[str, str]:
    """State and reason of a trial; `alive`: whether a driver runs the study."""
    if outcome is not None:
        return outcome.state, outcome.reason
    if trial.trial_id not in history.started:
        return "planned", ""
    return ("running", "") if alive else ("killed", "interrupted: the driver is gone")


def _metrics(home: Path, trial: PlannedTrial, history: History, outcome: Outcome | None) -> Mapping[str, float]:
    if outcome is not None:
        return outcome.metrics
    if trial.trial_id not in history.started:
        return {}
    found = last_metrics(_records(home, trial))
    return {name: value for name, value in found.items() if history.metrics is None or name in history.metrics}


def _records(home: Path, trial: PlannedTrial) -> list[Record]:
    return read_records(trial_folder(home, trial.trial_id) / JOURNAL)
