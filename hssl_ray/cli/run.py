"""`hssl-ray run STUDY`: train what is left of a study, then answer its question."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hssl_ray.cli.codes import BUDGET_SPENT, NOT_SYNCED, SOME_FAILED
from hssl_ray.cli.plan import SET, STUDY

if TYPE_CHECKING:
    from rich.console import Console

    from hssl_ray.study.mirroring import Mirroring
    from hssl_ray.study.spec import Study

MIRROR_SECONDS = 60.0


class EngineName(StrEnum):
    """Where trials run."""

    RAY = "ray"
    INLINE = "inline"


ENGINE = Annotated[
    EngineName,
    typer.Option(
        help="`ray`: the cluster at RAY_ADDRESS, else that of `up`, else a local one; `inline`: here, one by one."
    ),
]
YES = Annotated[bool, typer.Option("--yes", help="Run a study of more than 10,000 trials.")]


def run(study: STUDY, overrides: SET = None, engine: ENGINE = EngineName.RAY, yes: YES = False) -> None:
    """Train what is left of a study and print its comparison; the same command again continues where it stopped.

    Exit codes: 0 all trials ended well, 2 the study is invalid or no cluster holds a trial, 3 data is missing,
    4 some trials failed, 5 MLflow or the mirror lacks some results, 6 another driver or a newer version runs the study,
    7 its budget is used up and trials are left, 130 or 143 after a signal.
    """
    # Imported here: torch, Ray and MLflow take seconds, for which no other command and no mistake should wait.
    from hssl_ray.data.manifest import parquet_directory, read_manifest
    from hssl_ray.data.mapped import ensure_mapped, open_whole
    from hssl_ray.data.pixels import SPLITS
    from hssl_ray.study.spec import load_study

    loaded = load_study(study, overrides or (), large=yes)
    for name in loaded.datasets:
        manifest = read_manifest(name, parquet_directory(name))
        ensure_mapped(manifest)
        for split in SPLITS:
            open_whole(manifest, split)  # a damaged file is found here, not by the trials

    from hssl_ray.cli.printed import console
    from hssl_ray.cli.programs import again
    from hssl_ray.cli.progress import StudyProgress
    from hssl_ray.cli.provenance import provenance
    from hssl_ray.cli.while_training import WhileTraining
    from hssl_ray.data.home import home
    from hssl_ray.machine.adoption import BOTH, STORE, use_services
    from hssl_ray.study.engine import Observer
    from hssl_ray.study.inline_engine import InlineEngine
    from hssl_ray.study.live import Live
    from hssl_ray.study.program import PROGRAM
    from hssl_ray.study.ray.settings import build_ray_engine
    from hssl_ray.study.run import run_study
    from hssl_ray.study.tracker.tracked import tracking_uri
    from hssl_ray.study.tracking import INTERRUPTED_SECONDS, PATIENCE_SECONDS, MlflowTracker

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    changes = overrides or ()
    to, root = console(), home()
    use_services(os.environ, root, STORE if engine is EngineName.INLINE else BOTH)
    _check_store(tracking_uri(root), root)
    chosen = "" if engine is EngineName.RAY else f" --engine {engine.value}"
    to.print(f"Resume with: {again('run', study, changes)}{chosen}", soft_wrap=True)
    tracker = MlflowTracker(
        tracking_uri(root),
        root,
        provenance=provenance(study, changes),
        datasets=lambda name: read_manifest(name, parquet_directory(name)),
    )

    def announce(dashboard: str) -> None:
        to.print(f"Ray dashboard while the study runs: {dashboard}")

    live = Live(lambda: tracker.unsynced)
    runs = InlineEngine(PROGRAM) if engine is EngineName.INLINE else build_ray_engine(PROGRAM, announce, live.samples)
    conclusion = WhileTraining(lambda: _load_conclusion(loaded))
    mirroring = _mirroring(root, loaded.study, to)
    observers: list[Observer] = [StudyProgress(to, loaded.compare.metric), tracker, live, *mirroring, conclusion]
    summary = run_study(loaded, home=root, engine=runs, observers=observers, outbox=lambda: tracker.unsynced)
    deadline = time.monotonic() + INTERRUPTED_SECONDS

    def settle() -> bool:
        if summary.interrupted is None:
            return tracker.drain(PATIENCE_SECONDS)
        return tracker.flush(max(0.0, deadline - time.monotonic()))

    if summary.interrupted is not None:
        settle()  # before the report: `ray job stop` waits a few seconds only, then kills
    conclusion.result()(study, changes, root, tracker, to, settle)
    settle()
    synced = tracker.close(0.0)
    if not synced:
        lacking = f"MLflow at {tracker.address} lacks {tracker.unsynced} writes; nothing is lost."
        to.print(f"{lacking} Send them when it answers: {again('sync', study, changes)}", soft_wrap=True)
    for mirror in mirroring:
        if not mirror.close(MIRROR_SECONDS if summary.interrupted is None else max(1.0, deadline - time.monotonic())):
            synced = False
            lacking = f"The mirror lacks {mirror.unsynced} trials or studies; run the study again to send them."
            to.print(mirror.refused or lacking, soft_wrap=True)
    if summary.stopped is not None:
        to.print(f"Stopped by {summary.stopped}. With a larger budget the study goes on where it is.", soft_wrap=True)
    if summary.interrupted is not None:
        raise typer.Exit(128 + summary.interrupted)
    if summary.counts.get("failed") or summary.counts.get("diverged"):
        raise typer.Exit(SOME_FAILED)
    if not synced:
        raise typer.Exit(NOT_SYNCED)
    if summary.stopped is not None:
        raise typer.Exit(BUDGET_SPENT)


def _mirroring(home: Path, study: str, to: Console) -> list[Mirroring]:
    """The mirror at `$HSSL_MIRROR`, if there is one, after the study was brought from it."""
    address = os.environ.get("HSSL_MIRROR")
    if not address:
        return []
    from hssl_ray.study.mirror import Mirror  # and pyarrow's file systems
    from hssl_ray.study.mirroring import Mirroring, restore_study

    mirror = Mirror.at(address)
    brought = restore_study(mirror, home, study)
    if brought:
        to.print(f"Brought {brought} trials from the mirror.")
    return [Mirroring(mirror, home, study)]


def _check_store(uri: str, home: Path) -> None:
    """Refuse another version's database before the first trial; one that does not answer is told and not waited for.

    Raises:
        StoreVersionError: see `tracker.mlflow_store.initialise`.
    """
    from hssl_ray.study.file.problems import StoreUnavailable
    from hssl_ray.study.tracker.store_schema import is_known

    if is_known(uri):
        return
    from hssl_ray.study.tracker.mlflow_store import initialise  # MLflow takes two seconds to import

    try:
        initialise(uri, home)
    except StoreUnavailable as error:
        logging.getLogger(__name__).warning("%s; the study runs without it", error)


def _load_conclusion(study: Study) -> Callable[..., None]:
    """What a run ends with, its imports and what it draws of the study alone: three seconds, while trials train."""
    from functools import partial

    from hssl_ray.cli.conclusion import conclude
    from hssl_ray.cli.pages import page_bases

    return partial(conclude, bases=[drawing.drawn_now() for drawing in page_bases(study)])
