"""Worker processes of a Ray that we start, which start with half the work, by two of Ray's private names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hssl_ray.study.ray import setup_worker

# Imports of Ray are inside the functions: the head is about to start, and Tune is imported while it does.


def enter_quickly() -> None:
    """Have workers with variables of their own set them by `setup_worker`. Call before the head starts."""
    from ray._private import ray_constants

    ray_constants.SETUP_WORKER_FILENAME = setup_worker.__file__


@contextmanager
def inherited_variables() -> Iterator[None]:
    """Meanwhile Tune's processes inherit the driver's variables from the head instead of being given some of them.

    The head starts two workers for whoever comes first, and they import what trials need. But to Ray a process with
    variables of its own is of another kind, so the two were never used.
    """
    from ray.tune.execution import class_cache

    given, passed_on = class_cache.DEFAULT_ENV_VARS.copy(), class_cache.ENV_VARS_TO_PROPAGATE.copy()
    class_cache.DEFAULT_ENV_VARS.clear()
    class_cache.ENV_VARS_TO_PROPAGATE.clear()
    try:
        yield
    finally:
        class_cache.DEFAULT_ENV_VARS.update(given)
        class_cache.ENV_VARS_TO_PROPAGATE.update(passed_on)
