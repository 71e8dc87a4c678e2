"""What the allocator keeps of memory that was freed; a driver stays for days while trials come and go."""

from __future__ import annotations

import ctypes
import math
import time

SECONDS = 1.0


class Heap:
    """The heap of this process.

    glibc gives back what is free at its end only. Of a large block that lies before small ones that stay, and of the
    next one that does not fit into its hole, a driver would keep 1 KB for every trial it has seen.
    """

    def __init__(self) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._trimmed = -math.inf

    def give_back(self) -> None:
        """Give every free page back to the system, once a second at most (it takes half a millisecond).

        Allocators other than glibc's do so themselves and are left alone.
        """
        if self._trim is not None and time.monotonic() - self._trimmed >= SECONDS:
            self._trim(0)
            self._trimmed = time.monotonic()
