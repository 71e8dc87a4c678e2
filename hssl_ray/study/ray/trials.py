"""Trials in the processes of a Ray cluster.

A trial with one worker trains inside a Tune worker process that is reused for the next trial. A trial with more is a
nested run of Ray Train (V2, with a process group of our own, DDP) that a Tune process watches over.
"""

from __future__ import annotations

import json
import threading
from concurrent.futures import Future
from dataclasses import asdict, replace
from pathlib import Path
from queue import Empty
from typing import Any

import ray
from ray import tune
from ray.util import get_node_ip_address

from hssl_ray.study.attempt import Decision, Ending, foreign_home, run_attempt
from hssl_ray.study.engine import Report, TrialOptions, TrialProgram
from hssl_ray.study.failures import cause_of, lost, reason
from hssl_ray.study.file.sections import Resources
from hssl_ray.study.layout import trial_folder
from hssl_ray.study.ray.machines import living_nodes
from hssl_ray.study.ray.placement import workers_now
from hssl_ray.study.ray.record_line import RecordLine, Sender
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.endings import TrialDiverged, TrialStopped
from hssl_ray.trial.journal import Record
from hssl_ray.trial.pulse import Pulse


class RankFailed(RuntimeError):
    """One rank of a trial failed; the message is `cause: one line`."""


def _set_threads(resources: Resources) -> None:
    """Torch would take every core of the machine, whatever else runs there."""
    import torch  # here, so that the driver, which imports this module too, does without it

    torch.set_num_threads(max(1, int(resources.cpus_per_worker)))


def _node() -> str:
    return str(ray.get_runtime_context().get_node_id())


def train_alone(settings: dict[str, Any], program: TrialProgram, options: TrialOptions, resources: Resources) -> None:
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
    ending = run_attempt(config, settings["attempt"], program, options, tell, _node())
    if stopped:
        # The driver knows, and has left: another report would wait for it and keep this process from its next trial.
        raise SystemExit(0)
    _finish(ending)


def _finish(ending: Ending) -> None:
    """Report how the attempt ended; after a failure also raise, so that Tune does not use this process again."""
    tune.report({"ending": json.dumps(asdict(ending))})
    if ending.state == "failed":
        raise RankFailed(ending.reason)


def train_group(settings: dict[str, Any], program: TrialProgram, options: TrialOptions, resources: Resources) -> None:
    """A trial with several workers: starts them and passes on what the first one reports."""
    # Here, because trials with one worker never use it.
    from ray.train import FailureConfig, RunConfig, ScalingConfig

    from hssl_ray.study.ray.group_trainer import GroupTrainer
    from hssl_ray.study.ray.rank_group import ProcessGroup

    batch_size = TrialConfig.model_validate_json(settings["config"]).batch_size
    records = RecordLine(str(get_node_ip_address()))  # type: ignore[no-untyped-call]
    trainer = GroupTrainer(
        _rank,  # what the first rank returns is read below
        train_loop_config={
            "settings": settings,
            "program": program,
            "options": options,
            "resources": resources,
            "records": records.sender,
        },
        backend_config=ProcessGroup(resources.gpus_per_worker > 0, options.hang_seconds),
        scaling_config=ScalingConfig(
            num_workers=workers_now(living_nodes(), resources, batch_size),
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
    _finish(group_ending(outcome))


def group_ending(outcome: Future[Any]) -> Ending:
    """How the first rank says it ended, or the failure that explains the others."""
    from ray.train import ControllerError, WorkerGroupError  # as in `train_group`

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
    import ray.train  # as in `train_group`
    from ray.train.collective import broadcast_from_rank_zero

    program: TrialProgram = loop["program"]
    options: TrialOptions = loop["options"]
    records: Sender = loop["records"]
    resources: Resources = loop["resources"]
    _set_threads(resources)
    if resources.gpus_per_worker:
        import torch
        from ray.train.torch import get_device

        torch.cuda.set_device(get_device())
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
        ending = run_attempt(config, loop["settings"]["attempt"], together, options, tell, _node())
        if not shared:
            broadcast_from_rank_zero(None)  # nothing to train; the other ranks wait to hear where to start
        if ending.state == "failed":
            raise RankFailed(ending.reason)
        return json.dumps(asdict(ending))

    start = broadcast_from_rank_zero(None)
    if start is not None:
        rank = ray.train.get_context().get_world_rank()
        if foreign := foreign_home(options, _node()):
            raise RankFailed(foreign.reason)
        try:
            with Pulse(workdir, loop["settings"]["attempt"], rank=rank, node=_node()) as pulse:
                program.train(
                    config,
                    lambda metrics, checkpoint: None,
                    start["resume"],
                    workdir=workdir,
                    checkpoint_every=options.checkpoint_every,
                    beat=pulse.beat,
                )
        except (TrialDiverged, TrialStopped):
            pass  # the first rank says so too
        except Exception as error:
            raise RankFailed(reason(cause_of(error), error)) from error
    return None
