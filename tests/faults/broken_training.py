"""The real training, with a fault put into one of its steps from outside; see `broken_program`.

`faults.json` in the home says for a trial what strikes it, each as `{"kind": ..., "rank": ..., "step": ...}`; steps
count from 1 in an attempt. A fault strikes once in the life of a trial, unless it is one that would strike again by its
nature, and only after those before it in the list.
"""

import json
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from hssl_ray.study.engine import Report
from hssl_ray.trial import train as training
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.ranks import Ranks
from hssl_ray.trial.task import StepLosses, Task
from tests.faults.broken_program import FAULTS

LASTING = ("nan", "inf", "oom")


def train(
    config: TrialConfig,
    report: Report,
    resume: Path | None = None,
    *,
    workdir: Path,
    **settings: Any,
) -> None:
    """Trains, and measures nothing but the loss. Every step of a rank is a line in `steps-<rank>`: the time and pid."""
    rank = Ranks.here().rank
    faults = json.loads((workdir.parents[1] / FAULTS).read_text()).get(config.trial_id, [])
    left = [fault for fault in faults if fault["kind"] in LASTING or not _marker(workdir, fault["kind"]).exists()]
    mine = left[0] if left and left[0].get("rank", 0) == rank else {}
    with (
        (workdir / f"steps-{rank}").open("a", buffering=1) as steps,
        patch.object(Task, "forward", _counted(Task.forward, steps, workdir, mine)),
        patch.object(training, "evaluate", lambda *arguments: {}),
        patch.object(training, "measure_start", lambda *arguments: {}),
    ):
        training.train_trial(config, report, resume, workdir=workdir, **settings)


def _counted(forward: Callable[..., StepLosses], steps: Any, workdir: Path, fault: dict[str, Any]) -> Any:
    count = 0

    def counted(task: Task, *arguments: Any) -> StepLosses:
        nonlocal count
        count += 1
        steps.write(f"{time.time()} {os.getpid()}\n")
        losses = forward(task, *arguments)
        if count == fault.get("step"):
            return _strike(fault["kind"], workdir, losses)
        return losses

    return counted


def _marker(workdir: Path, kind: str) -> Path:
    """Holds the time at which a fault struck the trial."""
    return workdir / f"struck-{kind}"


def _strike(kind: str, workdir: Path, losses: StepLosses) -> StepLosses:
    _marker(workdir, kind).write_text(str(time.time()))
    match kind:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "sleep":
            time.sleep(3600)
        case "oom":
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, used + 2**26))
            torch.zeros(2**30)
        case "nan" | "inf":
            return StepLosses(losses.total * float(kind), losses.method, losses.probe, losses.stages)
    return losses
