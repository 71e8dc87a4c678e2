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
        ray.shutdown()
    finally:
        if collected_before:
            gc.enable()


class _Cycle:
    def __init__(self) -> None:
        self.itself = self


def _collect_all() -> None:
    """Collect what is garbage now; `gc.collect` alone does nothing while another thread is in the middle of it."""
    garbage = weakref.ref(_Cycle())
    while garbage() is not None:
        gc.collect()
