"""Every setting of Ray that decides between working and hanging, each with its reason, and the door to the Ray engine.

They are environment variables, because Ray's own processes must inherit them and Ray reads some of them while it is
imported. So this module imports no Ray, and `build_ray_engine` sets them before anything does.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hssl_ray.study.engine import ClusterError, Engine, TrialProgram

if TYPE_CHECKING:
    from hssl_ray.study.live import Sample
    from hssl_ray.study.ray.jobs import Jobs

log = logging.getLogger(__name__)

EVERYWHERE = {
    # A head writes a token and then refuses drivers whose mode is unset, after 20 s of retries.
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    # A raylet asks for its object store before that listens, and again after a second, while all else waits.
    "RAY_raylet_client_connect_timeout_milliseconds": "20",
    "RAY_raylet_client_num_connect_attempts": "500",
}
"""For every process of Ray, the head's too."""

TRIALS = {
    # Trials keep the working directory of the driver, so that relative paths in a config stay true.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Train looks at its workers so often; its 2 s default adds seconds to the end of every nested trial.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    # A process that would say that a node is about to go. No trial asks, and it starts beside the first step.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # Freed feature maps stay with the process instead of going back to the system and being paged in again at the next
    # step: 5 to 27 % of a step's time on a CPU (benchmarks/training_step.py). A worker lives no longer than its study.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    # Tune runs a trial in a thread, whose freed memory would be kept apart from the main thread's: a full-MNIST trial
    # then holds half as much again at its peak (benchmarks/memory.py).
    "MALLOC_ARENA_MAX": "1",
    # A stopped trial may take so long to leave `report` before its process is given up instead of reused.
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "60",
}
"""For the processes of trials."""

PASSED_ON = ("HSSL_NATIVE",)
"""For the processes of trials, where the user has set it."""

DRIVER = {
    # Under `ray job submit --runtime-env-json` Ray would refuse a driver that names a variable of the job's once more.
    "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",
    # The journal and the ledger hold the results; Tune's CSV, JSON and TensorBoard copies would be written for nobody.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Tune would keep SIGINT for itself; `run_study` records running trials first.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Tracebacks are kept in the trials' folders; the new output engine prints failed trials even at verbosity 0.
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    # Tune's snapshot of itself is never read, since a study resumes from its ledger.
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    # A stopped trial whose process does not leave by itself is killed after so long; 600 s would hold its CPUs.
    "TUNE_FORCE_TRIAL_CLEANUP_S": "30",
}
"""For the driver alone."""

LOCAL = {
    # A head of our own then binds GCS and raylet to loopback; without it they listen on every interface. A driver must
    # have it to reach such a head: Ray would turn 127.0.0.1 into the machine's own address, where nothing listens, and
    # wait for minutes.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
"""For a driver whose cluster, its own or one it finds, has a head on this machine."""

FIRST_IMPORT = "hssl_ray.study.ray.first_import"
OBJECT_STORE_BYTES = 200_000_000
"""Of a head on this machine: only settings and records pass through it; data sets are memory-mapped files."""


def prepare(environment: MutableMapping[str, str]) -> None:
    """Set what the user has not set."""
    address = environment.get("RAY_ADDRESS") or "auto"
    here = address == "auto" or address.startswith(("127.", "localhost:"))
    for name, value in (EVERYWHERE | TRIALS | DRIVER | (LOCAL if here else {})).items():
        environment.setdefault(name, value)


def check_address(address: str) -> None:
    """Whether something listens where `RAY_ADDRESS` points; Ray itself would only find out after minutes.

    Raises:
        ClusterError: nothing does, or the address is of a kind that studies cannot run on.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise ClusterError(f"RAY_ADDRESS: must be HOST:PORT or auto, got {address}")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise ClusterError(
            f"RAY_ADDRESS: no Ray answers at {address} ({error.strerror or error}); without RAY_ADDRESS a study starts "
            "its own"
        ) from error


def check_authentication(dashboard: str, mode: str) -> None:
    """Whether a cluster authenticates as we do; where it does not, every trial's process would die without a reason.

    Args:
        dashboard: host and port; nothing is checked where none answers.
        mode: ours, `RAY_AUTH_MODE`.

    Raises:
        ClusterError: it does not.
    """
    try:
        with urllib.request.urlopen(f"http://{dashboard}/api/authentication_mode", timeout=10) as answer:
            theirs = json.load(answer)["authentication_mode"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("the dashboard at %s does not say how its cluster authenticates (%s)", dashboard, error)
        return
    if theirs != mode:
        raise ClusterError(
            f"RAY_AUTH_MODE: must be that of the cluster at RAY_ADDRESS, {theirs}, got {mode}; set it so, or start the"
            f" cluster with RAY_AUTH_MODE={mode}"
        )


@contextmanager
def own_address(environment: MutableMapping[str, str]) -> Iterator[None]:
    """Choose where a head of our own will listen, while it lives.

    Nested Train runs give back the workers of a dead trial through the State API, which finds its cluster by
    `RAY_ADDRESS` alone where several Rays run on a machine. The head's processes must inherit it, so it has to be
    known before the head starts.
    """
    port = str(_free_port())
    chosen = {"RAY_ADDRESS": f"127.0.0.1:{port}", "RAY_GCS_SERVER_PORT": port}
    environment.update(chosen)
    try:
        yield
    finally:
        for name in chosen:
            del environment[name]


@contextmanager
def preloading(environment: MutableMapping[str, str], modules: Iterable[str] = ()) -> Iterator[None]:
    """Have the worker processes of a head that starts meanwhile import modules before they are given anything to do.

    They do so while the driver still prepares itself. More than the first is for trials of one worker, which need all
    of it; the small processes around a nested Train would each wait seconds for what they never use.
    """
    name = "RAY_preload_python_modules"
    if name in environment:  # as the user has it
        yield
        return
    environment[name] = ",".join((FIRST_IMPORT, *modules))
    try:
        yield
    finally:
        del environment[name]


def _free_port() -> int:
    """A free port; the system's own range lies above 10002-19999, which Ray gives to its workers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def build_ray_engine(
    program: TrialProgram,
    announce: Callable[[str], None] | None = None,
    samples: Callable[[], Mapping[Sample, float]] | None = None,
) -> Engine:
    """The engine on the cluster that `RAY_ADDRESS` names, or on a local one of its own that ends with the run.

    Args:
        program: what to run for each trial.
        announce: told the address of the dashboard once it answers, on another thread.
        samples: the study in numbers, exported as the cluster's metrics while it runs.
    """
    prepare(os.environ)
    from hssl_ray.study.ray_engine import RayEngine  # here, because Ray reads part of the environment when imported

    return RayEngine(program, announce, samples)


def open_jobs(address: str) -> Jobs:
    """The jobs of the cluster whose dashboard is at an address; see `ray_jobs.Jobs`."""
    prepare(os.environ)
    from hssl_ray.study.ray.jobs import Jobs  # as above

    return Jobs(address)
