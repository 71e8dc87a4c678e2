"""`hssl-ray reconcile [STUDY]`: which runs does MLflow take for running that nobody runs?"""

from __future__ import annotations

import json as json_text
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hssl_ray.cli.compare import JSON, SET

STUDY = Annotated[Path | None, typer.Argument(metavar="[STUDY]", help="Study file; absent means all studies.")]


def reconcile(study: STUDY = None, overrides: SET = None, json: JSON = False) -> None:
    """Close the runs that MLflow shows as running and no driver runs, and name each of them.

    A trial that the study's ledger saw end gets that status, all else becomes KILLED; `hssl.reconciled_at` says when.

    Exit codes: 0 whether or not there was one, 2 the study is invalid, 3 MLflow does not answer.
    """
    # Imported here: MLflow takes two seconds.
    from hssl_ray.data.home import home
    from hssl_ray.machine.adoption import STORE, use_services
    from hssl_ray.study.spec import load_study
    from hssl_ray.study.tracker.mlflow_store import MlflowStore
    from hssl_ray.study.tracker.reconcile import reconcile as reconciled
    from hssl_ray.study.tracker.tracked import tracking_uri

    use_services(os.environ, home(), STORE)
    name = None if study is None else load_study(study, overrides or (), large=True).study
    store = MlflowStore(tracking_uri(home()), home())
    found = reconciled(store, home(), name)
    if json:
        typer.echo(json_text.dumps([asdict(one) for one in found], indent=1))
        return
    for one in found:
        done = "left alone" if one.status == "RUNNING" else one.status
        typer.echo(f"{one.study}: {one.name}: {done} ({one.why})")
    closed = sum(one.status != "RUNNING" for one in found)
    typer.echo(f"{closed} closed, {len(found) - closed} left alone" if found else "MLflow shows no run as running")
