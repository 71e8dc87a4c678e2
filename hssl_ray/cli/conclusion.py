"""What a run ends with: the comparison on screen, the page, MLflow's cells and verdict, and what to type next."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
from rich.console import Console

from hssl_ray.cli.pages import page_files, page_path, write_page
from hssl_ray.cli.printed import print_notes, print_tables
from hssl_ray.cli.programs import again, program
from hssl_ray.cli.questions import question_of
from hssl_ray.cli.readers import read_study
from hssl_ray.report.abridged import shown
from hssl_ray.report.compare import cell_curves, compare
from hssl_ray.report.comparison import Comparison
from hssl_ray.report.drawing import Drawing
from hssl_ray.study.results import history_table
from hssl_ray.study.spec import Study
from hssl_ray.study.tracking import MlflowTracker


def conclude(
    path: Path,
    overrides: Sequence[str],
    home: Path,
    tracker: MlflowTracker,
    to: Console,
    settle: Callable[[], object],
    *,
    bases: Sequence[Drawing],
) -> None:
    """Compare what the study has found so far; print it, write the page, and give both to MLflow.

    Args:
        settle: waits for MLflow, as long as there is time for that.
        bases: see `page_bases`.
    """
    reading = read_study(path, overrides, home)
    comparison = compare(reading.results, question_of(reading.study))
    to.print()
    said = shown(comparison)
    print_tables(to, said.tables)
    to.print(said.headline, style="bold")
    print_notes(to, [*said.notes, *reading.notes()])

    settle()  # so that it knows the addresses below
    commands = _next_commands(path, overrides, tracker)
    page = write_page(path, overrides, home, commands=commands, bases=bases)
    _tell(tracker, reading.study, comparison, home)
    to.print(f"\nPage: {page}", soft_wrap=True)
    for purpose, command in commands.items():
        to.print(f"{purpose[0].upper()}{purpose[1:]}: {command}", soft_wrap=True)


def tell_mlflow(tracker: MlflowTracker, study: Study, results: pa.Table, home: Path) -> None:
    """Give MLflow the cells and the verdict of what a study has found so far, and the page that its last run made.

    Args:
        results: see `study.results.results_table`.
    """
    _tell(tracker, study, compare(results, question_of(study)), home)


def _tell(tracker: MlflowTracker, study: Study, comparison: Comparison, home: Path) -> None:
    curves = cell_curves(history_table(home, study.study), study.compare.confidence)
    tracker.write_cells(curves, comparison.verdicts(), comparison.compared())
    files = {"comparison.json": comparison.to_json().encode(), **page_files(page_path(home, study.study))}
    tracker.write_summary(shown(comparison).markdown(), files)


def _next_commands(path: Path, overrides: Sequence[str], tracker: MlflowTracker) -> dict[str, str]:
    """How to look at the study in MLflow, and how to run it where MLflow and Ray's dashboard stay."""
    commands = {}
    if tracker.database:
        commands["open the MLflow UI"] = (
            f"{program('mlflow')} server --backend-store-uri {tracker.address} --host 127.0.0.1"
        )
    if tracker.experiment_url and tracker.view_url:
        # By links, because MLflow 3.17 opens on its side for language models, where an experiment shows no runs.
        commands["the answer there"] = tracker.experiment_url
        commands["charts by cell"] = tracker.view_url
    if not os.environ.get("RAY_ADDRESS"):
        commands["start a Ray with a dashboard, MLflow and Prometheus"] = f"{program('hssl-ray')} up"
        commands["run it there"] = again("submit", path, overrides)
    return commands
