"""When garbage is collected: seldom, and at times by no thread at all."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

OFTEN_ENOUGH = (50_000, 20, 100)


def collect_seldom() -> None:
    """From now on garbage is looked for after 50,000 new objects instead of 700.

    Imports make hundreds of thousands of objects and no garbage; a worker's take 2.0 processor seconds instead of 2.6.
    """
    gc.set_threshold(*OFTEN_ENOUGH)


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage is collected inside the block, whatever other threads allocate; what was there before it never is."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        gc.freeze()  # else the wait below would search all that was ever imported, for up to half a second
        garbage = weakref.ref(_Cycle())
        # One that had begun ends first: until then `gc.collect` does nothing, and this garbage stays.
        while garbage() is not None:
            gc.collect()
        yield
    finally:
        if enabled:
            gc.enable()


class _Cycle:
    def __init__(self) -> None:
        self.itself = self
