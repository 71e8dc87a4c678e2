"""Tune as a scheduler and no more: it keeps no checkpoints, logs nothing, restores nothing; the driver's side."""

from __future__ import annotations

import gc
import itertools
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ray import tune
from ray.air._internal import usage
from ray.exceptions import RayError
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.util import debug

from hssl_ray.study.engine import ClusterError, TrialOptions, TrialProgram
from hssl_ray.study.file.sections import Resources
from hssl_ray.study.ray.machines import RayMachines, living_nodes
from hssl_ray.study.ray.placement import HEAD, concurrent_trials
from hssl_ray.study.ray.trials import train_alone, train_group
from hssl_ray.study.ray.tune_bridge import TuneBridge
from hssl_ray.study.ray.vigil import Vigil
from hssl_ray.study.sweep import Assignment, Sweep, Wait
from hssl_ray.trial.freed import give_back_freed

log = logging.getLogger(__name__)

SECRETS = frozenset({"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN"})
LOOK_SECONDS = 1.0
GIVE_BACK_SECONDS = 1.0
"""Between two times that freed pages are given back, which takes half a millisecond. Of itself glibc gives back what is
free at its heap's end; of the holes between what stays a driver would keep 1 KB for every trial it has seen.
"""
LAP = 500
"""Trials of one loop. Tune keeps every trial it ever had, 37 KB each, and looks through all of them at every turn; what
a loop kept goes when it ends. Between two loops slots wait for the last trial, and for new processes.
"""


def tune_sweep(sweep: Sweep, program: TrialProgram, resources: Resources, options: TrialOptions) -> None:
    """Run Tune's loop, lap after lap of so many trials, until the sweep has nothing left.

    The loop breaks when Ray kills a trial's process for memory: Tune expects other errors only. The trial that took the
    memory has failed; the others were cut short and go on in the next loop.
    """
    # Tune would copy these into every trial's runtime environment, which Ray keeps, logs and shows in its API.
    class_cache.ENV_VARS_TO_PROPAGATE.difference_update(SECRETS)
    without_telemetry()
    for lap in itertools.count(1):
        bridge = TuneBridge(sweep, Vigil(options.home, options.hang_seconds), RayMachines())
        try:
            _loop(sweep, bridge, program, resources, options, f"tune-{lap}")
        except (RuntimeError, RayError) as error:
            if not bridge.cut_short(error):
                raise
            log.warning("Tune's loop broke and is started again: %s", str(error).partition("\n")[0])
        else:
            sweep.end_if_interrupted()
            if not sweep.has_work():
                return
            _forget_told()
            gc.collect()  # Tune's objects hold one another; the next lap's are to lie in their place, not beside them


def without_telemetry() -> None:
    """Tune would import MLflow, for more than a second, to count callbacks of that kind for its telemetry."""
    usage.tag_callbacks = lambda callbacks: False


def _forget_told() -> None:
    """Ray keeps, for ever, some 2 KB a trial of what it has said once and does not say again of that trial."""
    for key in [key for key in debug._logged if key.startswith("tune_func_encode:")]:
        debug.reset_log_once(key)


def _loop(
    sweep: Sweep,
    bridge: TuneBridge,
    program: TrialProgram,
    resources: Resources,
    options: TrialOptions,
    name: str,
) -> None:
    alone = resources.workers == 1
    # One trial more than can run waits for a process, so that a process that ends a trial is kept for it.
    room = _Room(resources, spare=1 if alone else 0)
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(room.trials())
    train: Callable[..., None] = train_alone if alone else train_group
    demand = {"cpu": resources.cpus_per_worker, "gpu": resources.gpus_per_worker} if alone else {HEAD: 0.001}

    def trainable(settings: dict[str, Any]) -> None:
        train(settings, program, options, resources)

    with _quiet():
        tune.run(
            trainable,
            name=name,
            storage_path=str(options.scratch),
            num_samples=-1,
            search_alg=_Searcher(sweep, room),
            scheduler=_Scheduler(bridge),
            callbacks=[_Callback(bridge)],
            resources_per_trial=demand,
            reuse_actors=alone,  # with nested Train, the trial after an early stop would never start
            raise_on_failed_trial=False,
            verbose=0,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Tune complains at the end of trials that failed, which the sweep has told, and of loggers that are off."""
    loggers = [logging.getLogger(name) for name in ("ray.tune.tune", "ray.tune.analysis.experiment_analysis")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _name(trial: Any) -> str:
    return f"{trial.config['trial_id']}-{trial.config['attempt']}"


class _Room:
    """How many trials may be open; nodes come and go while a study runs."""

    def __init__(self, resources: Resources, spare: int) -> None:
        self._resources, self._spare = resources, spare
        self._known, self._looked = 0, -math.inf

    def trials(self) -> int:
        """Those that the living nodes hold and `spare` more; none while they hold none."""
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._looked = time.monotonic()
            try:
                self._known = concurrent_trials(living_nodes(), self._resources) + self._spare
            except ClusterError as error:
                if self._known:
                    log.warning("the study waits for nodes: %s", error)
                self._known = 0
        return self._known


class _Searcher(Searcher):
    """Hands Tune what the sweep hands out, as long as there is room, and a lap's worth in all."""

    def __init__(self, sweep: Sweep, room: _Room) -> None:
        super().__init__()
        self._sweep = sweep
        self._room = room
        self._open: set[str] = set()
        self._left = LAP

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        if not self._left:
            return Searcher.FINISHED  # type: ignore[return-value]  # a string, in spite of its signature
        if len(self._open) >= self._room.trials() and self._sweep.interrupted is None:
            return None
        match self._sweep.next():
            case None:
                return Searcher.FINISHED  # type: ignore[return-value]
            case Wait():
                return None
            case Assignment(trial, attempt):
                self._open.add(trial_id)
                self._left -= 1
                config = json.dumps(trial.config.model_dump(mode="json"))
                return {"trial_id": trial.trial_id, "attempt": attempt, "config": config}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self._open.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger has it."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a study is resumed from its ledger")


class _Scheduler(FIFOScheduler):
    """Asks the sweep after every epoch whether a trial goes on."""

    def __init__(self, bridge: TuneBridge) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._bridge = bridge

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        stop = self._bridge.result(trial, result) == "stop"
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self._bridge.complete(trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        self._bridge.error(trial)
        for waiting in tune_controller.get_trials():  # for the process that has just become free
            if waiting.status == Trial.PENDING and self._bridge.make_way(waiting):
                tune_controller.stop_trial(waiting)


class _Callback(TrialProgressCallback):
    """Hears when a trial starts, and on every turn of Tune's loop looks for signals and gives freed memory back.

    Of this kind so that Tune adds none of its own, which prints a line for every process that is lost.
    """

    def __init__(self, bridge: TuneBridge) -> None:
        super().__init__()
        self._bridge = bridge
        self._given_back = -math.inf

    def log_result(self, trial: Any, result: dict[str, Any], error: bool = False) -> None:
        """The sweep tells what there is to tell."""

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """As above."""

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._bridge.step()
        if time.monotonic() - self._given_back >= GIVE_BACK_SECONDS:
            give_back_freed()
            self._given_back = time.monotonic()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._bridge.start(trial)
