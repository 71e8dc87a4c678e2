"""What a run needs at its end, got ready while its trials train and not before."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from hssl_ray.study.engine import NoObserver
from hssl_ray.study.spec import PlannedTrial

T = TypeVar("T")


class WhileTraining(NoObserver, Generic[T]):
    """Works something out on a thread of its own from the first trial's start on; an `Observer`.

    Before that, every core brings up what trains.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hssl-aside")
        self._done: Future[T] | None = None

    def trial_started(self, planned: PlannedTrial, attempt: int) -> None:
        self._begin()

    def result(self) -> T:
        """What was worked out, now if no trial has started; raises what the work raised."""
        return self._begin().result()

    def _begin(self) -> Future[T]:
        if self._done is None:
            self._done = self._thread.submit(self._work)
        return self._done
