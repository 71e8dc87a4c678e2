"""A head of our own that starts in two thirds of the time, by two of Ray's private names."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

from ray._private import node, parameter

NEEDLESS: dict[str, Any] = {
    "no_monitor": True,  # asks clouds for machines, and sleeps through the SIGTERM at its end
    "include_log_monitor": False,  # reads out to drivers what workers print; ours do not listen
}

NICENESS = 10
"""Of the dashboard: what brings up trials goes first, and what trains."""


class LeanHead:
    """Starts a head without what a study never asks, and its dashboard beside the rest.

    Ray would wait for the dashboard, about two seconds, before it starts the part that workers come from.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hssl-dashboard")
        self._dashboard: Future[str] | None = None

    @contextmanager
    def starting(self) -> Iterator[None]:
        """The block in which `ray.init` starts the head."""
        parameters, start = parameter.RayParams, node.Node.start_api_server

        def start_aside(started: Any, **arguments: Any) -> None:
            def work() -> str:
                if sys.platform == "linux":  # there it is the thread's alone, and of what the thread starts
                    os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
                start(started, **arguments)
                return str(started.webui_url)

            self._dashboard = self._thread.submit(work)

        parameter.RayParams = lambda **given: parameters(**given, **NEEDLESS)  # type: ignore[assignment, misc]
        node.Node.start_api_server = start_aside  # type: ignore[assignment, method-assign]
        try:
            yield
        finally:
            parameter.RayParams, node.Node.start_api_server = parameters, start  # type: ignore[method-assign, misc]

    @property
    def dashboard(self) -> Future[str]:
        """The dashboard's host and port once it answers, or why it does not."""
        assert self._dashboard is not None, "the head is started first"
        return self._dashboard

    def settle(self) -> None:
        """Wait until the dashboard has started, well or not: Ray ends what has started, and that alone."""
        if self._dashboard is not None:
            wait([self._dashboard])

    def close(self) -> None:
        """After Ray's end: the dashboard would end with the thread that started it."""
        self._thread.shutdown()
