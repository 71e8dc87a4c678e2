"""What a run ends with: the comparison on screen, the page, MLflow's cells and verdict, and what to type next."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from hssl_ray.cli.pages import write_page
from hssl_ray.cli.printed import print_notes, print_tables
from hssl_ray.cli.programs import again, program
from hssl_ray.cli.questions import question_of
from hssl_ray.cli.readers import leading_comment, read_study
from hssl_ray.report.abridged import shown
from hssl_ray.report.compare import cell_curves, compare
from hssl_ray.study.results import history_table
from hssl_ray.study.tracked import Provenance
from hssl_ray.study.tracking import MlflowTracker

FLUSH_SECONDS = 60.0


def conclude(path: Path, overrides: Sequence[str], home: Path, tracker: MlflowTracker, to: Console) -> None:
    """Compare what the study has found so far; print it, write the page, and give both to MLflow."""
    reading = read_study(path, overrides, home)
    comparison = compare(reading.results, question_of(reading.study))
    to.print()
    said = shown(comparison)
    print_tables(to, said.tables)
    to.print(said.headline, style="bold")
    print_notes(to, [*said.notes, *reading.notes()])

    tracker.flush(FLUSH_SECONDS)  # so that it knows the addresses below
    commands = _next_commands(path, overrides, tracker)
    page = write_page(path, overrides, home, commands=commands)
    history = history_table(home, reading.study.study)
    tracker.write_cells(cell_curves(history, reading.study.compare.confidence), comparison.verdicts())
    tracker.write_summary(
        said.markdown(),
        {"report.html": page.read_bytes(), "comparison.json": comparison.to_json().encode()},
    )
    to.print(f"\nPage: {page}", soft_wrap=True)
    for purpose, command in commands.items():
        to.print(f"{purpose[0].upper()}{purpose[1:]}: {command}", soft_wrap=True)


def _next_commands(path: Path, overrides: Sequence[str], tracker: MlflowTracker) -> dict[str, str]:
    """How to look at the study in MLflow, and how to run it on a Ray whose dashboard stays."""
    commands = {}
    if tracker.database:
        commands["open the MLflow UI"] = (
            f"{program('mlflow')} server --backend-store-uri {tracker.address} --host 127.0.0.1"
        )
    if tracker.view_url:
        commands["charts by method"] = tracker.view_url
    head = f"{program('ray')} start --head --node-ip-address=127.0.0.1 --dashboard-host=127.0.0.1"
    commands["open the Ray dashboard"] = f"RAY_AUTH_MODE=token {head}; then http://127.0.0.1:8265"
    commands["its token"] = f"{program('ray')} get-auth-token"
    commands["run on that Ray"] = f"RAY_ADDRESS=127.0.0.1:6379 {again('run', path, overrides)}"
    return commands


def provenance(path: Path, overrides: Sequence[str]) -> Provenance:
    """Where a study is started from, for the tracking store."""
    return Provenance(
        question=leading_comment(path),
        commands={"resume": again("run", path, overrides), "compare": again("compare", path, overrides)},
        git_commit=_git_commit(),
        submission_id=_submission_id(),
    )


def _git_commit() -> str:
    """The commit of the checkout this package runs from; empty where it is installed from a wheel."""
    found = subprocess.run(  # noqa: S603
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() if found.returncode == 0 else ""


def _submission_id() -> str:
    """The Ray job this process is the entry point of; empty outside of one."""
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")
    return str(job.get("metadata", {}).get("job_submission_id", ""))
