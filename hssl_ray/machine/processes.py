"""Processes that are ours beyond doubt: each carries a mark in its environment, and its children inherit it.

A number alone is given out again; a process group is left by whoever wants to. So a process is ended only after its
mark was read through a handle that stays with the process.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from hssl_ray.machine.problems import ServiceError

MARK = "HSSL_SERVICE_MARK"
_LOOK_SECONDS = 0.1


def check_system() -> None:
    """Whether this system says what processes are.

    Raises:
        ServiceError: it does not.
    """
    if not Path("/proc/self/environ").exists() or not hasattr(os, "pidfd_open"):
        raise ServiceError("up: needs Linux's /proc and process handles, to end only what it started")


def launch(command: Sequence[str], environment: Mapping[str, str], mark: str, log: Path) -> int:
    """Start a process that outlives this one, deaf to this terminal's Ctrl-C; its number.

    Args:
        command: the first word is a path.
    """
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    try:
        # Not subprocess, which holds on to its children: nobody here waits for this one.
        return os.posix_spawn(
            command[0],
            list(command),
            {**environment, MARK: mark},
            file_actions=[(os.POSIX_SPAWN_DUP2, nothing, 0), *((os.POSIX_SPAWN_DUP2, output, to) for to in (1, 2))],
            setsid=True,
        )
    finally:
        os.close(output)
        os.close(nothing)


def marked(mark: str) -> list[int]:
    """The processes that carry a mark, but for this one; those that have ended carry nothing."""
    folders = Path("/proc").glob("[0-9]*")
    return sorted(int(folder.name) for folder in folders if int(folder.name) != os.getpid() and carries(folder, mark))


def carries(folder: Path, mark: str) -> bool:
    """Whether the process of a folder in /proc carries a mark."""
    try:
        return f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0")
    except OSError:  # it has ended, or is somebody else's
        return False


def end(mark: str, first: int | None, patience: float) -> int:
    """End all that carries a mark.

    Args:
        first: the process that is asked to end the others, by SIGTERM; what is left after `patience` seconds is killed.

    Returns:
        How many processes there were.
    """
    found = marked(mark)
    if first in found:
        _send(first, mark, signal.SIGTERM)
        wait_for_end(first, mark, patience)
    deadline = time.monotonic() + patience
    while left := marked(mark):
        for process in left:
            _send(process, mark, signal.SIGKILL)
        if time.monotonic() > deadline + 30:
            raise ServiceError(f"processes {', '.join(map(str, left))} do not end, though they were killed")
        time.sleep(_LOOK_SECONDS)
    return len(found)


def wait_for_end(process: int, mark: str, seconds: float) -> bool:
    """Wait until a process that carries a mark has ended; whether it did in time."""
    with _handle(process, mark) as handle:
        return handle is None or bool(select.select([handle], [], [], seconds)[0])


def _send(process: int, mark: str, signal_number: int) -> None:
    with _handle(process, mark) as handle:
        if handle is not None:
            try:
                signal.pidfd_send_signal(handle, signal_number)
            except ProcessLookupError:
                return


def ask_to_end(process: int, mark: str) -> None:
    """SIGTERM to a process, if it carries the mark."""
    _send(process, mark, signal.SIGTERM)


@contextmanager
def _handle(process: int, mark: str) -> Iterator[int | None]:
    """A handle of the process that has this number now, if it carries the mark."""
    try:
        handle = os.pidfd_open(process)
    except ProcessLookupError:
        yield None
        return
    try:
        yield handle if carries(Path(f"/proc/{process}"), mark) else None
    finally:
        os.close(handle)
