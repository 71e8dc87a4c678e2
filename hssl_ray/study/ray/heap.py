"""What the allocator keeps of memory that was freed; a driver stays for days while trials come and go."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

LARGE = 128 * 1024
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # as malloc.h numbers them
LARGEST = 32 * 1024 * 1024  # what glibc's own limit may grow to, on machines of 64 bits


@contextmanager
def large_blocks_returned() -> Iterator[None]:
    """As long as the block runs, memory that was allocated in 128 KiB or more goes back to the system when freed.

    So it is when a process starts. But glibc raises that limit to the largest block that was ever freed, and what is
    smaller then lies between blocks that stay, where the holes it leaves are not given back. Other allocators are left
    alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        yield
        return
    _limit(mallopt, LARGE)
    try:
        yield
    finally:
        _limit(mallopt, LARGEST)


def _limit(mallopt: ctypes._NamedFuncPointer, size: int) -> None:
    """Map blocks of that size on their own; shrink the heap once twice as much is free at its end."""
    mallopt(MMAP_THRESHOLD, size)
    mallopt(TRIM_THRESHOLD, 2 * size)
