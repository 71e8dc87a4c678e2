"""What the tracking server is told of a study: names, tags, params, points, in plain Python.

Metric names have slashes (`train/loss`), the step is the epoch, and times are those of the journal. So the same record
told twice is the same point twice, which the server keeps once.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from hssl_ray.study.ledger import Outcome
from hssl_ray.study.redaction import redact
from hssl_ray.study.results import results_schema
from hssl_ray.study.spec import PlannedTrial
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.journal import Record

STATUS = {"finished": "FINISHED", "pruned": "FINISHED", "diverged": "FAILED", "failed": "FAILED", "killed": "KILLED"}
CURVE_COLUMNS = ("mean", "std", "n", "low", "high")
COMPARED = "compared"
MEMBER = "hssl.in."
"""Tag `hssl.in.<study>` = cell: a study that plans a trial whose run lies in another study's experiment."""


@dataclass(frozen=True)
class Point:
    """One value of one metric at one epoch. `time` is in milliseconds since 1970."""

    key: str
    value: float
    time: int
    step: int

    def at(self, time: int) -> Point:
        """The same point at another time."""
        return replace(self, time=time)


@dataclass(frozen=True)
class RunFacts:
    """A run as the store has it; metrics are the last ones."""

    run_id: str
    experiment_id: str
    name: str
    status: str
    start_time: int
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]


@dataclass(frozen=True)
class TrackedModel:
    """A checkpoint as the store is to have it."""

    data: Path
    """A folder of its files."""
    step: int
    """Its epoch."""
    points: tuple[Point, ...]
    """Metrics of that epoch."""
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Provenance:
    """Where a study was started from; written on its experiment and its runs."""

    question: str = ""
    """What the study asks, in Markdown."""
    commands: Mapping[str, str] = field(default_factory=dict)
    """What to type, by purpose; `resume` first."""
    git_commit: str = ""
    submission_id: str = ""
    """Of the Ray job, if the driver is one."""

    def tags(self) -> dict[str, str]:
        tags = {
            "hssl.git_commit": self.git_commit,
            "mlflow.source.git.commit": self.git_commit,
            "ray.submission_id": self.submission_id,
        }
        return {"mlflow.source.name": "hssl-ray", **{key: value for key, value in tags.items() if value}}


def tracking_uri(home: Path) -> str:
    """`$MLFLOW_TRACKING_URI`, else a SQLite file under the home."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}"


def is_server(uri: str) -> bool:
    """Whether a tracking URI names a server rather than a database."""
    return uri.startswith(("http://", "https://"))


def params(config: TrialConfig) -> dict[str, str]:
    """Every field of a trial under its own name; text as it is, all else as JSON."""
    values = config.model_dump(mode="json")
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}


def config_of(run_params: Mapping[str, str]) -> TrialConfig:
    """The trial whose `params` these are.

    Raises:
        ValueError: they are not a trial's.
    """
    known = {name: text for name, text in run_params.items() if name in TrialConfig.model_fields}
    values: dict[str, Any] = {}
    for name, text in known.items():
        try:
            values[name] = json.loads(text)
        except json.JSONDecodeError:
            values[name] = text
    return TrialConfig.model_validate(values)


def trial_tags(study: str, planned: PlannedTrial) -> dict[str, str]:
    """What a trial's run is found, filtered and grouped by."""
    return {
        "hssl.kind": "trial",
        "hssl.study": study,
        "hssl.trial_id": planned.trial_id,
        "hssl.cell": planned.cell,
        "hssl.method": planned.config.method,
        "hssl.group": planned.config.group,
        "hssl.seed": str(planned.config.seed),
    }


def outcome_tags(outcome: Outcome) -> dict[str, str]:
    """How the last attempt at a trial ended."""
    return {
        "hssl.outcome": outcome.state,
        "hssl.reason": outcome.reason,
        "hssl.attempt": str(outcome.attempt),
        "hssl.seconds": f"{outcome.seconds:.3f}",
    }


def points(record: Record) -> list[Point]:
    """The metrics of one epoch. What is not a finite number is kept as NaN."""
    time = round(record.time * 1000)
    return [Point(key, _number(value), time, record.epoch) for key, value in record.metrics.items() if key != "epoch"]


def _number(value: float) -> float:
    return value if math.isfinite(value) else math.nan


@dataclass(frozen=True)
class CellFacts:
    """What a cell's run holds: curves over seeds, and the verdicts on it."""

    cell: str
    points: tuple[Point, ...]
    tags: dict[str, str]

    @property
    def digest(self) -> str:
        """Of the content, so that a cell that did not change is not written again."""
        content = [[point.key, repr(point.value), point.step] for point in self.points]
        return hashlib.sha256(json.dumps([self.cell, content, self.tags], sort_keys=True).encode()).hexdigest()


def cell_facts(curves: pa.Table, verdicts: pa.Table, compared: pa.Table | None = None) -> list[CellFacts]:
    """What the cells' runs hold.

    `probe/top1` of a cell becomes `probe/top1/mean`, `/std`, `/n`, `/low`, `/high` by epoch: one section of charts for
    a metric, and no name that a trial's run has, so that cells never mix with trials in an average.

    Args:
        curves: columns cell, epoch, metric, mean, std, n, low, high.
        verdicts: a column `cell`; of the others, numbers become metrics `verdict/<column>`, all else tags
            `hssl.verdict.<column>`; empty ones are left out. Several rows for a cell are numbered from the second.
        compared: columns cell, mean, std, n, low, high of the metric that the study compares. The mean becomes the
            metric `compared`, the first that a run is told, because the UI's compare page opens with the first.
    """
    found: dict[str, list[Point]] = {}
    tags: dict[str, dict[str, str]] = {}
    for row in compared.to_pylist() if compared is not None else ():
        series = found.setdefault(row["cell"], [])
        for column in CURVE_COLUMNS:
            if row[column] is not None:
                key = COMPARED if column == "mean" else f"{COMPARED}/{column}"
                series.append(Point(key, _number(float(row[column])), 0, 0))
    for row in curves.to_pylist():
        series = found.setdefault(row["cell"], [])
        series += [
            Point(f"{row['metric']}/{column}", _number(float(row[column])), 0, int(row["epoch"]))
            for column in CURVE_COLUMNS
            if row[column] is not None and row["metric"] != "epoch"
        ]
    seen: dict[str, int] = {}
    for row in verdicts.to_pylist():
        cell = row.pop("cell")
        seen[cell] = seen.get(cell, 0) + 1
        suffix = f".{seen[cell]}" if seen[cell] > 1 else ""
        series, cell_tags = found.setdefault(cell, []), tags.setdefault(cell, {})
        for column, value in row.items():
            if value is None:
                continue
            if isinstance(value, int | float) and not isinstance(value, bool):
                series.append(Point(f"verdict/{column}{suffix}", _number(float(value)), 0, 0))
            else:
                cell_tags[f"hssl.verdict.{column}{suffix}"] = str(value)
    return [CellFacts(cell, tuple(series), tags.get(cell, {})) for cell, series in found.items()]


def experiment_note(
    study: str, provenance: Provenance, verdict: str = "", links: Mapping[str, str] | None = None
) -> str:
    """The Markdown that opens a study's page: what came out, what it asks, what to type.

    The UI folds a note down to its first line, so that is the verdict's own.

    Args:
        links: pages of the UI to go to, by what they show.
    """
    answer, _, tables = verdict.strip().partition("\n\n")
    parts = [f"## {answer or study}"]
    if links:
        parts.append(" · ".join(f"[{name}]({address})" for name, address in links.items()))
    parts += [provenance.question, tables]
    if provenance.commands:
        lines = [f"# {purpose}\n{command}" for purpose, command in provenance.commands.items()]
        parts.append("```sh\n" + "\n".join(lines) + "\n```")
    return redact("\n\n".join(part for part in parts if part))


def cell_of(run: RunFacts, study: str) -> str:
    """The cell of a trial's run in a study that plans the trial, whichever study made the run."""
    return run.tags.get(MEMBER + study, run.tags["hssl.cell"])


def common_params(runs: Iterable[RunFacts]) -> dict[str, str]:
    """The params that all of the runs share: of a cell's trials, all but the seed."""
    shared: dict[str, str] | None = None
    for run in runs:
        shared = dict(run.params) if shared is None else dict(shared.items() & run.params.items())
    return {key: value for key, value in sorted((shared or {}).items()) if key != "seed"}


def studies_of(run: RunFacts) -> list[str]:
    """Every study that has planned the run's trial, that which made the run first."""
    others = sorted(tag.removeprefix(MEMBER) for tag in run.tags if tag.startswith(MEMBER))
    return [run.tags["hssl.study"], *others]


def is_trial(run: RunFacts) -> bool:
    """Whether a run's params are those of its trial; not if a driver died before it wrote them, or if the trial has
    fields that this version does not know."""
    try:
        return config_of(run.params).trial_id == run.tags["hssl.trial_id"]
    except ValueError:
        return False


def runs_table(runs: Iterable[tuple[RunFacts, str]]) -> pa.Table:
    """Trial runs, each as of a study that has it, in the columns of `study.results.results_table`.

    Trials that never started have no run, and so no row.
    """
    rows, measured = [], []
    for run, study in runs:
        tags = run.tags
        rows.append(
            config_of(run.params).model_dump(mode="json")
            | {
                "trial_id": tags["hssl.trial_id"],
                "name": run.name,
                "study": study,
                "cell": cell_of(run, study),
                "state": tags.get("hssl.outcome", "planned"),
                "reason": tags.get("hssl.reason", ""),
                "attempt": int(tags.get("hssl.attempt", 0)),
                "seconds": float(tags["hssl.seconds"]) if "hssl.seconds" in tags else None,
            }
        )
        measured.append(run.metrics)
    schema = results_schema()
    table = pa.table({name: [row[name] for row in rows] for name in schema.names}, schema=schema)
    for metric in sorted(set[str]().union(*measured)):
        table = table.append_column(metric, pa.array([metrics.get(metric) for metrics in measured], pa.float64()))
    return table
