"""Python imports this module as a process starts, if its folder is on `PYTHONPATH`: the process then says where it is.

Every process appends lines of JSON to `$HSSL_TRACE/<pid>`: what happened, when, and how many processor seconds it had
used by then. What is traced is named here, so that the product knows nothing of it.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import json
import os
import sys
import time
from collections.abc import Sequence
from types import ModuleType
from typing import Any

CALLS = {
    "ray.train.v2._internal.execution.controller.controller": {"TrainController.__init__": "controller"},
    "ray.train.v2._internal.execution.controller.placement_group_cleaner": {
        "PlacementGroupCleaner.__init__": "cleaner"
    },
    "ray.train.v2._internal.execution.preemption": {"PreemptionWatcher.__init__": "watcher"},
    "ray.train.v2._internal.execution.worker_group.worker": {
        "RayTrainWorker.__init__": "rank",
        "RayTrainWorker.init_train_context": "context",
        "RayTrainWorker.run_train_fn": "told to train",
    },
    "hssl_ray.study.ray.trials": {"train_group": "trial process"},
    "hssl_ray.study.ray.rank_group": {"_join": "group joined"},
    "hssl_ray.trial.train": {"train_trial": "training called", "measure_start": "untrained network measured"},
    "hssl_ray.trial.data": {"open_trial_data": "data open"},
    "hssl_ray.method.networks": {"build_network": "network built"},
    "torch.nn.parallel.distributed": {"DistributedDataParallel.__init__": "DDP wrapped"},
    "hssl_ray.method.native": {"_load": "kernels loaded"},
    "hssl_ray.trial.optim": {"build_optimizer": "optimiser built"},
    "hssl_ray.trial.task": {"Task.forward": "first forward"},
}
"""By module, what is told when a call of it returns."""
IMPORTS = {"ray": "ray imported", "ray.train": "ray.train imported", "torch": "torch imported"}
AT_CALL = ("trial process", "training called")
"""Told when the call begins."""


def tell(what: str, seconds: float = 0.0) -> None:
    line = {"what": what, "at": time.time(), "processor": time.process_time(), "seconds": seconds}
    with open(os.path.join(os.environ["HSSL_TRACE"], str(os.getpid())), "a") as file:
        file.write(json.dumps(line) + "\n")


class Tracer(importlib.abc.MetaPathFinder):
    """Finds traced modules as all others are found, and wraps what they define."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in CALLS and fullname not in IMPORTS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            began = time.time()
            run(module)
            for name, what in CALLS.get(fullname, {}).items():
                wrap(module, name, what)
            if fullname in IMPORTS:
                tell(IMPORTS[fullname], time.time() - began)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def wrap(module: ModuleType, name: str, what: str) -> None:
    *owners, last = name.split(".")
    owner: Any = module
    for part in owners:
        owner = getattr(owner, part)
    call = getattr(owner, last)
    times = 0

    @functools.wraps(call)
    def traced(*arguments: Any, **named: Any) -> Any:
        nonlocal times
        times += 1
        if times > 1:
            return call(*arguments, **named)
        if what in AT_CALL:
            tell(what)
            return call(*arguments, **named)
        began = time.time()
        result = call(*arguments, **named)
        tell(what, time.time() - began)
        return result

    setattr(owner, last, traced)


if "HSSL_TRACE" in os.environ:
    tell("process started")
    sys.meta_path.insert(0, Tracer())
