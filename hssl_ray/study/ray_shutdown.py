"""Leaving Ray without its ending the process."""

from __future__ import annotations

import gc
import weakref

import ray


def shut_down_ray() -> None:
    """`ray.shutdown`, while no thread collects garbage.

    Ray's handles lie in reference cycles. Where another thread, such as the tracking outbox, happens to collect them
    while the core worker goes down, Ray ends the process at once with exit code 1 (core_worker_process.cc: "The core
    worker has already been shutdown").
    """
    collected_before = gc.isenabled()
    gc.disable()
    try:
        _collect_all()
        _end_autoscaler()
        ray.shutdown()
    finally:
        if collected_before:
            gc.enable()


def _end_autoscaler() -> None:
    """End the process of a head of our own that asks clouds for machines: it sleeps through SIGTERM, and `ray.shutdown`
    would wait for it for a second."""
    node = getattr(ray._private.worker, "_global_node", None)
    for started in getattr(node, "all_processes", {}).get("monitor", ()):
        started.process.kill()


class _Cycle:
    def __init__(self) -> None:
        self.itself = self


def _collect_all() -> None:
    """Collect what is garbage now; `gc.collect` alone does nothing while another thread is in the middle of it."""
    garbage = weakref.ref(_Cycle())
    while garbage() is not None:
        gc.collect()
