"""Memory that a process has freed and still holds."""

from __future__ import annotations

import ctypes
import sys


def give_back_freed() -> None:
    """Return freed pages to the system, where the C library can (glibc).

    A trial's processes keep what they free, so that the next step need not page it in again (`TRIALS` in
    `study.ray.settings`).
    Between two kinds of work that is a loss: holes that feature maps leave do not fit what the probes hold. So it is in
    a driver, which stays while trials come and go.
    """
    if not sys.platform.startswith("linux"):
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
