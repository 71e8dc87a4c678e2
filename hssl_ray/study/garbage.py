"""When no thread may collect garbage."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collected() -> Iterator[None]:
    """All garbage is collected before the block, and none inside it, whatever other threads allocate."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        garbage = weakref.ref(_Cycle())
        while garbage() is not None:  # `gc.collect` does nothing while another thread is in the middle of it
            gc.collect()
        yield
    finally:
        if enabled:
            gc.enable()


class _Cycle:
    def __init__(self) -> None:
        self.itself = self
