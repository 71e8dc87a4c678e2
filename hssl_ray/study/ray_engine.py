"""The engine on Ray: Tune schedules the trials that a sweep hands out, on one machine or on a cluster.

Tune is used as a scheduler and no more: it keeps no checkpoints, logs nothing, restores nothing. A trial with one
worker trains inside a Tune worker process that is reused for the next trial. A trial with more is a `TorchTrainer`
(Train V2, DDP) that a Tune process watches over.

Made by `ray_settings.build_ray_engine`, which sets Ray's environment before this module is imported.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune
from ray.exceptions import AuthenticationError, RayError
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.util.queue import Empty, Queue

from hssl_ray.study.attempt import Decision, Ending, run_attempt
from hssl_ray.study.engine import ClusterError, Report, TrialOptions, TrialProgram
from hssl_ray.study.failures import cause_of, lost, reason
from hssl_ray.study.garbage import collected
from hssl_ray.study.layout import trial_folder
from hssl_ray.study.placement import concurrent_trials
from hssl_ray.study.ray_settings import TRIALS, check_address, check_authentication, own_address
from hssl_ray.study.sections import Resources
from hssl_ray.study.sweep import Assignment, Sweep, Wait
from hssl_ray.study.tune_bridge import TuneBridge
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.endings import TrialDiverged, TrialStopped
from hssl_ray.trial.journal import Record

log = logging.getLogger(__name__)

OBJECT_STORE_BYTES = 200_000_000  # only settings and records pass through it; data sets are memory-mapped files
HEAD = "node:__internal_head__"


class RankFailed(RuntimeError):
    """One rank of a trial failed; the message is `cause: one line`."""


class RayEngine:
    """Runs a sweep's trials on Ray.

    Args:
        program: what to run for each trial; found by import in the cluster's processes.
        announce: told the address of the dashboard once there is one.
    """

    def __init__(self, program: TrialProgram, announce: Callable[[str], None] | None = None) -> None:
        self._program = program
        self._announce = announce

    def run(self, sweep: Sweep, resources: Resources, options: TrialOptions) -> None:
        """See `Engine.run`.

        Raises:
            ClusterError: nothing answers at `RAY_ADDRESS`, it refuses us, or it can never hold one trial.
        """
        scratch = options.scratch
        _remove_leftovers(scratch)
        scratch.mkdir(parents=True)
        with self._cluster(scratch) as dashboard:
            if self._announce is not None and dashboard:
                self._announce(f"http://{dashboard}")
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
            concurrency = concurrent_trials(nodes, resources)
            sweep.end_if_interrupted()
            self._tune(sweep, resources, options, concurrency)
        _remove_leftovers(scratch)

    def _tune(self, sweep: Sweep, resources: Resources, options: TrialOptions, concurrency: int) -> None:
        """Run Tune's loop until the sweep has nothing left.

        The loop breaks when Ray kills a trial's process for memory: Tune expects other errors only. The trial that took
        the memory has failed; the others were cut short and go on in the next loop.
        """
        for lap in itertools.count(1):
            bridge = TuneBridge(sweep)
            try:
                self._loop(sweep, bridge, resources, options, concurrency, f"tune-{lap}")
            except (RuntimeError, RayError) as error:
                if not bridge.cut_short(error):
                    raise
                log.warning("Tune's loop broke and is started again: %s", str(error).partition("\n")[0])
            else:
                sweep.end_if_interrupted()
                return

    def _loop(
        self, sweep: Sweep, bridge: TuneBridge, resources: Resources, options: TrialOptions, concurrency: int, name: str
    ) -> None:
        alone = resources.workers == 1
        # One trial more than can run waits for a process, so that a process that ends a trial is kept for it.
        limit = concurrency + 1 if alone else concurrency
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(limit)
        train = _train_alone if alone else _train_group
        demand = {"cpu": resources.cpus_per_worker, "gpu": resources.gpus_per_worker} if alone else {HEAD: 0.001}
        with _tune_quiet():
            tune.run(
                tune.with_parameters(train, program=self._program, options=options, resources=resources),
                name=name,
                storage_path=str(options.scratch),
                num_samples=-1,
                search_alg=_Searcher(sweep, limit),
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
    def _cluster(self, scratch: Path) -> Iterator[str]:
        """Connected to the cluster at `RAY_ADDRESS`, else to one of its own; yields the dashboard's host and port."""
        address = os.environ.get("RAY_ADDRESS")
        with contextlib.ExitStack() as stack:
            stack.callback(disconnect)
            if address:
                check_address(address)
                # The processes of a cluster that is already there do not inherit this environment.
                inherited = {name: os.environ[name] for name in TRIALS} | {"RAY_ADDRESS": _resolved(address)}
                context = _connect(address=address, runtime_env={"env_vars": inherited})
                if context.dashboard_url:
                    check_authentication(context.dashboard_url, os.environ["RAY_AUTH_MODE"])
            else:
                temporary = tempfile.mkdtemp(prefix="hssl-ray-")  # short: sockets below it may have 107 characters
                (scratch / "head").write_text(temporary)
                stack.enter_context(own_address(os.environ))
                context = _connect(
                    address="local",
                    include_dashboard=True,  # its State API is what nested Train needs, see `own_address`
                    dashboard_host="127.0.0.1",
                    object_store_memory=OBJECT_STORE_BYTES,
                    _temp_dir=temporary,
                )
            yield context.dashboard_url or ""


def _connect(**arguments: Any) -> Any:
    """`ray.init`, quiet, and without its taking SIGTERM for itself.

    Raises:
        ClusterError: the cluster does not let us in.
    """
    handler = signal.getsignal(signal.SIGTERM)
    try:
        return ray.init(log_to_driver=False, logging_level=logging.WARNING, **arguments)
    except (AuthenticationError, ConnectionError) as error:
        raise ClusterError(
            f"RAY_ADDRESS: {str(error).rstrip('. ')}. If that cluster has no authentication, set RAY_AUTH_MODE=disabled"
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def disconnect() -> None:
    """`ray.shutdown`, while no thread collects garbage.

    Ray's handles lie in reference cycles. Where another thread, such as the tracking outbox, happens to collect them
    while the core worker goes down, Ray ends the process at once with exit code 1 (core_worker_process.cc: "The core
    worker has already been shutdown").
    """
    with collected():
        ray.shutdown()


def _resolved(address: str) -> str:
    """`auto` as host and port: the State API, which nested Train needs, cannot tell several Rays on a machine apart."""
    if address != "auto":
        return address
    _connect(address=address)
    found = str(ray.get_runtime_context().gcs_address)
    disconnect()
    return found


@contextmanager
def _tune_quiet() -> Iterator[None]:
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


def _remove_leftovers(scratch: Path) -> None:
    """Remove what a run, perhaps one that was killed, left of its cluster."""
    head = scratch / "head"
    if head.exists():
        shutil.rmtree(head.read_text(), ignore_errors=True)
    shutil.rmtree(scratch, ignore_errors=True)


def _name(trial: Any) -> str:
    return f"{trial.config['trial_id']}-{trial.config['attempt']}"


# ---- in the driver: what Tune asks for


class _Searcher(Searcher):
    """Hands Tune what the sweep hands out, at most `limit` at a time."""

    def __init__(self, sweep: Sweep, limit: int) -> None:
        super().__init__()
        self._sweep = sweep
        self._limit = limit
        self._open: set[str] = set()

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        if len(self._open) >= self._limit:
            return None
        match self._sweep.next():
            case None:
                return Searcher.FINISHED  # type: ignore[return-value]  # a string, in spite of its signature
            case Wait():
                return None
            case Assignment(trial, attempt):
                self._open.add(trial_id)
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


class _Callback(tune.Callback):
    """Hears when a trial starts, and looks for signals on every turn of Tune's loop."""

    def __init__(self, bridge: TuneBridge) -> None:
        self._bridge = bridge

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._bridge.step()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._bridge.start(trial)


# ---- in Tune's worker processes


def _set_threads(resources: Resources) -> None:
    """Torch would take every core of the machine, whatever else runs there."""
    torch.set_num_threads(max(1, int(resources.cpus_per_worker)))


def _train_alone(settings: dict[str, Any], program: TrialProgram, options: TrialOptions, resources: Resources) -> None:
    """A trial with one worker, trained right here."""
    _set_threads(resources)
    stopped = False

    def tell(record: Record) -> Decision:
        nonlocal stopped
        try:
            tune.report({"record": json.dumps(asdict(record))})
        except SystemExit:  # how Tune ends a trial from inside `report`
            stopped = True
            return "stop"
        return "continue"

    config = TrialConfig.model_validate_json(settings["config"])
    ending = run_attempt(config, settings["attempt"], program, options, tell)
    if stopped:
        # The driver knows, and has left: another report would wait for it and keep this process from its next trial.
        raise SystemExit(0)
    _finish(ending)


def _finish(ending: Ending) -> None:
    """Report how the attempt ended; after a failure also raise, so that Tune does not use this process again."""
    tune.report({"ending": json.dumps(asdict(ending))})
    if ending.state == "failed":
        raise RankFailed(ending.reason)


def _train_group(settings: dict[str, Any], program: TrialProgram, options: TrialOptions, resources: Resources) -> None:
    """A trial with several workers: starts them and passes on what the first one reports."""
    # Here, because it costs every process seconds that imports it, and trials with one worker never use it.
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    records = Queue(actor_options={"num_cpus": 0})
    trainer = TorchTrainer(
        _rank,  # type: ignore[arg-type]  # what the first rank returns is read below
        train_loop_config={
            "settings": settings,
            "program": program,
            "options": options,
            "resources": resources,
            "records": records,
        },
        scaling_config=ScalingConfig(
            num_workers=resources.workers,
            use_gpu=resources.gpus_per_worker > 0,
            resources_per_worker={"CPU": resources.cpus_per_worker}
            | ({"GPU": resources.gpus_per_worker} if resources.gpus_per_worker else {}),
        ),
        run_config=RunConfig(
            name=f"train_{settings['trial_id']}",
            storage_path=str(options.scratch),
            # Retries are the sweep's: it knows which failures can end well, and the checkpoint to go on from is ours.
            failure_config=FailureConfig(max_failures=0, max_preemption_failures=0, controller_failure_limit=10),  # type: ignore[call-arg]  # V2's
        ),
    )
    outcome: Future[Any] = Future()

    def fit() -> None:
        try:
            outcome.set_result(trainer.fit())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=fit, daemon=True).start()  # a daemon, so that Tune can end this process in the middle
    while not outcome.done() or not records.empty():
        try:
            tune.report({"record": records.get(timeout=0.5)})
        except Empty:
            continue
    _finish(_group_ending(outcome))


def _group_ending(outcome: Future[Any]) -> Ending:
    """How the first rank says it ended, or the failure that explains the others."""
    from ray.train import ControllerError, WorkerGroupError  # as in `_train_group`

    error = outcome.exception()
    if error is None:
        return Ending(**json.loads(outcome.result().return_value))
    if isinstance(error, WorkerGroupError):
        reasons = [
            str(failure) if isinstance(failure, RankFailed) else lost(str(failure))
            for _, failure in sorted(error.worker_failures.items())
        ]
        # When one rank fails, the others only see it vanish.
        telling = [text for text in reasons if not text.startswith("worker_lost")]
        return Ending("failed", (telling or reasons)[0])
    if isinstance(error, ControllerError):
        return Ending("failed", reason("node_lost", error.controller_failure))
    assert isinstance(error, Exception)
    return Ending("failed", reason(cause_of(error), error))


def _rank(loop: dict[str, Any]) -> str | None:
    """One rank of a trial. The first one keeps the journal and returns how the attempt ended."""
    import ray.train  # as in `_train_group`
    from ray.train.collective import broadcast_from_rank_zero

    program: TrialProgram = loop["program"]
    options: TrialOptions = loop["options"]
    records: Any = loop["records"]
    _set_threads(loop["resources"])
    config = TrialConfig.model_validate_json(loop["settings"]["config"])
    workdir = trial_folder(options.home, config.trial_id)
    shared = False

    def train(config: TrialConfig, report: Report, resume: Path | None = None, **arguments: Any) -> None:
        nonlocal shared
        shared = True
        broadcast_from_rank_zero({"resume": resume})
        program.train(config, report, resume, **arguments)

    def tell(record: Record) -> Decision:
        records.put(json.dumps(asdict(record)))
        return "continue"

    if ray.train.get_context().get_world_rank() == 0:
        together = replace(program, train=train)
        ending = run_attempt(config, loop["settings"]["attempt"], together, options, tell)
        if not shared:
            broadcast_from_rank_zero(None)  # nothing to train; the other ranks wait to hear where to start
        if ending.state == "failed":
            raise RankFailed(ending.reason)
        return json.dumps(asdict(ending))

    start = broadcast_from_rank_zero(None)
    if start is not None:
        try:
            program.train(
                config,
                lambda metrics, checkpoint: None,
                start["resume"],
                workdir=workdir,
                checkpoint_every=options.checkpoint_every,
                keep=options.keep,
            )
        except (TrialDiverged, TrialStopped):
            pass  # the first rank says so too
        except Exception as error:
            raise RankFailed(reason(cause_of(error), error)) from error
    return None
