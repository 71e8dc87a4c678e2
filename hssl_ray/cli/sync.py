"""`hssl-ray sync STUDY`: give MLflow what the disk has and it lacks."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hssl_ray.cli.codes import NOT_SYNCED
from hssl_ray.cli.compare import SET

if TYPE_CHECKING:
    from hssl_ray.study.ledger import History
    from hssl_ray.study.spec import Study
    from hssl_ray.study.tracker.tracked import Provenance
    from hssl_ray.study.tracking import MlflowTracker

STUDY = Annotated[Path | None, typer.Argument(metavar="STUDY", help="Study file.")]
EVERY = Annotated[bool, typer.Option("--all", help="Every study that was ever run in this home.")]


def sync(study: STUDY = None, every: EVERY = False, overrides: SET = None) -> None:
    """Send MLflow what the ledger and the journals hold and it lacks: runs, points, outcomes, checkpoints, verdict.

    Nothing is trained and nothing is written twice, so it may be called at any time. A study that is being run is left
    to its driver.

    Exit codes: 0 MLflow has everything, 2 the study is invalid, 5 it still lacks some, 6 the study is being run.
    """
    if (study is None) != every:
        raise typer.BadParameter("name a study file, or --all")
    # Imported here: MLflow takes two seconds.
    from hssl_ray.cli.provenance import provenance
    from hssl_ray.data.home import home
    from hssl_ray.machine.adoption import STORE, use_services
    from hssl_ray.study.lease import StudyLocked
    from hssl_ray.study.ledger import running_driver
    from hssl_ray.study.run import studies_run
    from hssl_ray.study.spec import load_study
    from hssl_ray.study.tracker.tracked import Provenance

    root, lacking = home(), 0
    use_services(os.environ, root, STORE)
    if study is not None:
        name = load_study(study, overrides or (), large=True).study
        if (driver := running_driver(root, name)) is not None:
            raise StudyLocked(f"study {name} is being run by {driver}, which sends its results itself")
        # The code that is here now need not be what trained.
        lacking = _send(name, root, replace(provenance(study, overrides or ()), git_commit="", submission_id=""))
    for name in studies_run(root) if every else ():
        driver = running_driver(root, name)
        if driver is None:
            lacking += _send(name, root, Provenance())
        else:
            typer.echo(f"{name}: being run by {driver}, which sends its results itself")
    if lacking:
        raise typer.Exit(NOT_SYNCED)


def _send(name: str, root: Path, origin: Provenance) -> int:
    """Send one study; how many writes MLflow still lacks."""
    from hssl_ray.cli.conclusion import tell_mlflow
    from hssl_ray.data.manifest import parquet_directory, read_manifest
    from hssl_ray.study.engine import Summary
    from hssl_ray.study.ledger import read_history
    from hssl_ray.study.results import table_of
    from hssl_ray.study.run import begun
    from hssl_ray.study.tracker.tracked import tracking_uri
    from hssl_ray.study.tracking import PATIENCE_SECONDS, MlflowTracker

    history = read_history(root, name)
    if history.digest is None:
        typer.echo(f"{name}: never run here, so there is nothing to send")
        return 0
    study = _as_planned(name, history)
    tracker = MlflowTracker(
        tracking_uri(root),
        root,
        provenance=origin,
        datasets=lambda dataset: read_manifest(dataset, parquet_directory(dataset)),
    )
    tracker.study_opened(study, study.trial_count)
    for trial, records, outcome in begun(history, root):
        tracker.replay(trial, records, outcome)
    results = table_of(history, root, name)
    tracker.study_closed(Summary(dict(Counter(results["state"].to_pylist()))))
    if tracker.drain(PATIENCE_SECONDS):
        tell_mlflow(tracker, study, results, root)
        tracker.drain(PATIENCE_SECONDS)
    tracker.close(0.0)
    typer.echo(f"{name}: {_report(tracker)}")
    return tracker.unsynced


def _as_planned(name: str, history: History) -> Study:
    """The study as its last run read it, whatever became of its file.

    Raises:
        NewerFormat: another version ran it, whose study files this one does not read.
    """
    from pydantic import ValidationError

    from hssl_ray.study.spec import Study
    from hssl_ray.trial.durable import NewerFormat

    try:
        return Study.model_validate_json(json.dumps(history.study))
    except ValidationError as error:
        first = str(error).splitlines()[1]
        raise NewerFormat(
            f"study {name}: another version of hssl-ray ran it, and this one cannot read its plan ({first}); "
            "run it again to plan it anew"
        ) from error


def _report(tracker: MlflowTracker) -> str:
    sent = [f"{count:,} {kind}" for kind, count in tracker.sent.items() if count]
    said = f"sent {', '.join(sent)}" if sent else "nothing was missing"
    return said if tracker.synced else f"{said}; MLflow at {tracker.address} still lacks {tracker.unsynced:,} writes"
