"""The engine on Ray: Tune schedules the trials that a sweep hands out, on one machine or on a cluster.

Made by `ray.settings.build_ray_engine`, which sets Ray's environment before this module is imported.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import AuthenticationError

from hssl_ray.study.engine import ClusterError, TrialOptions, TrialProgram
from hssl_ray.study.file.sections import Resources
from hssl_ray.study.live import Sample
from hssl_ray.study.ray.garbage import uncollected
from hssl_ray.study.ray.lean_head import LeanHead
from hssl_ray.study.ray.lean_workers import enter_quickly, inherited_variables
from hssl_ray.study.ray.machines import living_nodes
from hssl_ray.study.ray.metrics import exported
from hssl_ray.study.ray.nodes import check_home
from hssl_ray.study.ray.placement import concurrent_trials
from hssl_ray.study.ray.settings import (
    OBJECT_STORE_BYTES,
    PASSED_ON,
    TRIALS,
    check_address,
    check_authentication,
    own_address,
    preloading,
)
from hssl_ray.study.sweep import Sweep

log = logging.getLogger(__name__)

TUNE_LOOP = "hssl_ray.study.ray.tune_loop"
_TEMPORARY = re.compile(r"hssl-ray-\w{8}")
LAST_WRITES_SECONDS = 5.0
TOO_SLOW = "timed out during startup"  # what Ray says when its head takes more than 30 seconds


class RayEngine:
    """Runs a sweep's trials on Ray.

    Args:
        program: what to run for each trial; found by import in the cluster's processes.
        announce: told the address of the dashboard once it answers, on another thread.
        samples: the study in numbers; see `ray_metrics.exported`.
    """

    def __init__(
        self,
        program: TrialProgram,
        announce: Callable[[str], None] | None = None,
        samples: Callable[[], Mapping[Sample, float]] | None = None,
    ) -> None:
        self._program = program
        self._announce = announce
        self._samples = samples

    def run(self, sweep: Sweep, resources: Resources, options: TrialOptions) -> None:
        """See `Engine.run`.

        Raises:
            ClusterError: nothing answers at `RAY_ADDRESS`, it refuses us, it can never hold one trial, or one of its
                nodes does not share the home.
        """
        scratch = options.scratch
        _remove_leftovers(scratch)
        scratch.mkdir(parents=True)
        mark = scratch / f"home-{secrets.token_hex(8)}"  # a name that no host remembers as absent
        mark.touch()
        address = os.environ.get("RAY_ADDRESS")
        with self._cluster_at(address, options.home) if address else self._own_cluster(scratch, resources) as dashboard:
            concurrent_trials(living_nodes(), resources)
            check_home(options.home, scratch, resources)
            if resources.workers > 1:
                _check_started(dashboard)
            dashboard.add_done_callback(self._tell_dashboard)
            tune_sweep = _load_tune()
            sweep.end_if_interrupted()
            with (
                contextlib.nullcontext() if address else inherited_variables(),
                contextlib.nullcontext() if self._samples is None else exported(self._samples),
            ):
                tune_sweep(sweep, self._program, resources, replace(options, mark=mark))
        _remove_leftovers(scratch)

    def _tell_dashboard(self, dashboard: Future[str]) -> None:
        error = dashboard.exception()
        if error is not None:
            log.warning("Ray's dashboard did not start, the study goes on without it: %s", error)
        elif dashboard.result() and self._announce is not None:
            self._announce(f"http://{dashboard.result()}")

    @contextmanager
    def _cluster_at(self, address: str, home: Path) -> Iterator[Future[str]]:
        """Connected to a cluster that is there; yields its dashboard's host and port, empty where it has none."""
        check_address(address)
        threading.Thread(target=_load_tune, name="hssl-tune").start()
        # Its processes do not inherit this environment.
        variables = {name: os.environ[name] for name in (*TRIALS, *PASSED_ON) if name in os.environ}
        variables |= {"HSSL_HOME": str(home), "RAY_ADDRESS": _resolved(address)}
        try:
            context = _connect(address=address, runtime_env={"env_vars": variables})
            if context.dashboard_url:
                check_authentication(context.dashboard_url, os.environ["RAY_AUTH_MODE"])
            there: Future[str] = Future()
            there.set_result(context.dashboard_url or "")
            yield there
        finally:
            disconnect()

    @contextmanager
    def _own_cluster(self, scratch: Path, resources: Resources) -> Iterator[Future[str]]:
        """Connected to a cluster of our own, which ends with the block; yields its dashboard's host and port, once it
        answers.
        """
        temporary = tempfile.mkdtemp(prefix="hssl-ray-")  # short: sockets below it may have 107 characters
        (scratch / "head").write_text(temporary)
        enter_quickly()
        head = LeanHead()
        with contextlib.ExitStack() as stack:
            stack.callback(head.close)
            stack.enter_context(own_address(os.environ))
            ahead = [TUNE_LOOP, *self._program.modules] if resources.workers == 1 else []
            stack.enter_context(preloading(os.environ, ahead))
            stack.callback(disconnect)
            stack.callback(head.settle)
            threading.Thread(target=_load_tune, name="hssl-tune").start()
            with head.starting():
                _connect(
                    address="local",
                    include_dashboard=True,  # its State API is what nested Train needs, see `own_address`
                    dashboard_host="127.0.0.1",
                    object_store_memory=OBJECT_STORE_BYTES,
                    _temp_dir=temporary,
                )
            yield head.dashboard


def _load_tune() -> Callable[[Sweep, TrialProgram, Resources, TrialOptions], None]:
    # Here, because Tune takes as long to import as a head to start: a thread does the one while the other happens.
    from hssl_ray.study.ray.tune_loop import tune_sweep

    return tune_sweep


def _check_started(dashboard: Future[str]) -> None:
    """Nested Train asks the dashboard which workers are left of a dead trial.

    Raises:
        ClusterError: it did not start.
    """
    error = dashboard.exception()
    if error is not None:
        raise ClusterError(f"Ray's dashboard, which trials of several workers need, did not start: {error}") from error


def _connect(**arguments: Any) -> Any:
    """`ray.init`, quiet, and without its taking SIGTERM for itself.

    Raises:
        ClusterError: the cluster does not let us in, or a head of our own does not start.
    """
    handler = signal.getsignal(signal.SIGTERM)
    try:
        return ray.init(log_to_driver=False, logging_level=logging.WARNING, **arguments)
    except (AuthenticationError, ConnectionError) as error:
        raise ClusterError(
            f"RAY_ADDRESS: {str(error).rstrip('. ')}. If that cluster has no authentication, set RAY_AUTH_MODE=disabled"
        ) from error
    except Exception as error:
        if TOO_SLOW not in str(error):  # Ray has no type of its own for it
            raise
        raise ClusterError(
            "Ray did not start within its 30 seconds: this machine is too busy. Run the study again when it is less so,"
            " or without Ray: --engine inline"
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
    with uncollected():
        ray.shutdown()


def _resolved(address: str) -> str:
    """`auto` as host and port: the State API, which nested Train needs, cannot tell several Rays on a machine apart."""
    if address != "auto":
        return address
    _connect(address=address)
    found = str(ray.get_runtime_context().gcs_address)
    disconnect()
    return found


def _remove_leftovers(scratch: Path) -> None:
    """Remove what a run, perhaps one that was killed, left of its cluster."""
    head = scratch / "head"
    if head.exists():
        left = Path(head.read_text(errors="replace"))
        if _TEMPORARY.fullmatch(left.name):  # a note cut short would name a folder above
            _remove(left)
    _remove(scratch)


def _remove(folder: Path) -> None:
    """Remove a folder in which a head's last processes may still write for a moment."""
    deadline = time.monotonic() + LAST_WRITES_SECONDS
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists() or time.monotonic() > deadline:
            return
        time.sleep(0.05)
