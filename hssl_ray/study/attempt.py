"""One attempt at a trial, in the process that trains it: journal, resume, train, and say how it ended."""

from __future__ import annotations

import contextlib
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hssl_ray.study.engine import TrialOptions, TrialProgram
from hssl_ray.study.failures import cause_of, keep_traceback, reason
from hssl_ray.study.layout import trial_folder
from hssl_ray.study.ledger import State, shared_outcome
from hssl_ray.trial.checkpoint_files import retain
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.durable import NewerFormat, NoLocks
from hssl_ray.trial.endings import TrialDiverged, TrialStopped
from hssl_ray.trial.journal import JOURNAL, Journal, Record
from hssl_ray.trial.pulse import Pulse

Decision = Literal["continue", "stop"]
LOOK_SECONDS = 5.0
"""How long a shared file system may take to show one host what another one wrote."""


@dataclass(frozen=True)
class Ending:
    """How an attempt ended, as the process that ran it saw it."""

    state: State
    reason: str = ""


def run_attempt(
    config: TrialConfig,
    attempt: int,
    program: TrialProgram,
    options: TrialOptions,
    tell: Callable[[Record], Decision],
    node: str = "",
) -> Ending:
    """Train a trial from its newest usable checkpoint to its end.

    Args:
        tell: called after every epoch, once its record is on the disk; "stop" ends the attempt.
        node: the machine this is, as the engine calls it.

    Returns:
        How it ended. An error of the trial's own code is a failed ending; its traceback is kept in the trial's folder.
    """
    if foreign := foreign_home(options, node):
        return foreign
    workdir = trial_folder(options.home, config.trial_id)
    try:
        opened = Journal(workdir / JOURNAL)
    except (OSError, NewerFormat, NoLocks) as error:
        return Ending("failed", reason(cause_of(error), error))
    with opened as journal:
        # Another study may have trained the trial while this one waited for the journal.
        ended = shared_outcome(options.home, config.trial_id)
        if ended is not None:
            return Ending(ended.state, ended.reason)

        def report(metrics: dict[str, float], checkpoint: Path | None) -> None:
            folder = None if checkpoint is None else checkpoint.relative_to(workdir).as_posix()
            record = Record(int(metrics["epoch"]), metrics, folder, attempt)
            journal.append(record)
            if checkpoint is not None:
                retain(workdir, options.keep)  # not before: a checkpoint without its record is not gone on from
            if tell(record) == "stop":
                raise TrialStopped(f"after epoch {record.epoch}")

        try:
            with Pulse(workdir, attempt, node=node) as pulse:
                program.train(
                    config,
                    report,
                    resume_point(workdir, journal.records(), program.latest_checkpoint),
                    workdir=workdir,
                    checkpoint_every=options.checkpoint_every,
                    beat=pulse.beat,
                )
        except TrialStopped as stopped:
            return Ending("pruned", f"pruned: stopped early {stopped}")
        except TrialDiverged as error:
            return Ending("diverged", reason("diverged", error))
        except Exception as error:
            with contextlib.suppress(OSError):  # on a full disk the one-line reason has to do
                keep_traceback(workdir, attempt, error)
            return Ending("failed", reason(cause_of(error), error))
        return Ending("finished")


def foreign_home(options: TrialOptions, node: str) -> Ending | None:
    """The end of an attempt on a machine whose home is another folder than the driver's, which joined after all others
    were asked: its journal and checkpoints would lie where nobody looks.
    """
    if options.mark is None or _comes(options.mark):
        return None
    return Ending(
        "failed", f"foreign_home: {options.home} on node {node} of {socket.gethostname()} is not the driver's folder"
    )


def _comes(path: Path) -> bool:
    """Whether a file is there, or comes within the time that a shared file system may take to show it."""
    deadline = time.monotonic() + LOOK_SECONDS
    while not path.exists():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.1)
    return True


def resume_point(workdir: Path, records: list[Record], latest_checkpoint: Callable[[Path], Path | None]) -> Path | None:
    """The newest valid checkpoint whose every epoch is in the journal.

    A kill between the commit of a checkpoint and the record of its epoch leaves one that is ahead: going on from it
    would leave that epoch without a record for ever, so it is removed and its epoch trained again.
    """
    recorded = 0
    while recorded < len(records) and records[recorded].epoch == recorded + 1:
        recorded += 1
    path = latest_checkpoint(workdir)
    while path is not None and int(path.name.rpartition("-")[2]) > recorded:
        shutil.rmtree(path)
        path = latest_checkpoint(workdir)
    return path
