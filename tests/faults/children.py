"""Child processes that end themselves by SIGKILL at a chosen call into the operating system.

The product has no hooks: its own `os.write`, `os.fsync`, `os.replace` and so on are replaced in the child.
"""

import itertools
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

STEPS = ("open", "mkdir", "write", "fsync", "ftruncate", "replace", "rename", "unlink", "rmdir")
Acknowledge = Callable[[int], None]


@dataclass(frozen=True)
class Ended:
    """What a child got acknowledged, in order, and whether a signal ended it."""

    acknowledged: list[int]
    killed: bool


def _die_at(step: int) -> None:
    """Replace the calls: the `step`-th of them does not return; a write has written half by then."""
    count = itertools.count(1)

    def replaced(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if next(count) == step:
                if name == "write":
                    real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **named)

        return call

    for name in STEPS:
        setattr(os, name, replaced(name, getattr(os, name)))


def child(work: Callable[[Acknowledge], None], *, die_at: int | None = None, longest_file: int | None = None) -> Ended:
    """Run `work` in a fork of this process.

    Args:
        work: calls its argument with a number for whatever it was told is done.
        die_at: the call, from 1, at which it is killed.
        longest_file: bytes; the kernel kills it in the middle of the write that makes any file longer.
    """
    told, telling = os.pipe()
    process = os.fork()
    if process == 0:
        status = 1
        try:
            os.close(told)
            write = os.write
            if longest_file is not None:
                signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                resource.setrlimit(resource.RLIMIT_FSIZE, (longest_file, longest_file))
            if die_at is not None:
                _die_at(die_at)

            def acknowledge(number: int) -> None:
                write(telling, b"%d\n" % number)

            work(acknowledge)
            status = 0
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(status)
    os.close(telling)
    with os.fdopen(told) as stream:
        acknowledged = [int(line) for line in stream]
    _, status = os.waitpid(process, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the child failed by itself"
    return Ended(acknowledged, os.WIFSIGNALED(status))
