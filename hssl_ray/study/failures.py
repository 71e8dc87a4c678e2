"""Why an attempt failed, in one word and one line: the word decides whether trying again can help."""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Iterator
from pathlib import Path

from hssl_ray.study.ledger import Cause
from hssl_ray.study.redaction import redact
from hssl_ray.trial.checkpoint_files import CheckpointError

TRACEBACK = "failure.txt"

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_LONGEST = 300
_NO_MEMORY = "DefaultCPUAllocator: can't allocate memory"
_PEER_ERRORS = frozenset({"DistBackendError", "DistNetworkError"})
_PEER_TEXTS = ("Connection closed by peer", "Connection reset by peer")


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what caused it, outermost first."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def cause_of(error: BaseException) -> Cause:
    """The cause of an error raised by a trial's own code."""
    for link in chain(error):
        # Accelerator libraries have their own class of this name and do not derive it from MemoryError.
        # Torch on a processor says it in a RuntimeError's text.
        if isinstance(link, MemoryError) or type(link).__name__ == "OutOfMemoryError" or _NO_MEMORY in str(link):
            return "oom"
        # Some libraries write files by themselves and pass the system's message on as text.
        if (isinstance(link, OSError) and link.errno in _FULL) or "No space left on device" in str(link):
            return "disk_full"
        # It was whole when the attempt chose it; the next one sets it aside and goes on from an older one.
        if isinstance(link, CheckpointError):
            return "damaged_checkpoint"
        # What a rank sees when another one is gone.
        if type(link).__name__ in _PEER_ERRORS or any(text in str(link) for text in _PEER_TEXTS):
            return "worker_lost"
    return "error"


def lost(message: str) -> str:
    """`cause: one line` for a process that died, from what Ray says of it; it may quote what the process said last."""
    said = message.lower()
    cause: Cause = "worker_lost"
    if "low on memory" in said or "memory pressure" in said or "outofmemoryerror" in said:
        cause = "oom"
    elif "preempted" in said:
        cause = "preempted"
    elif "node has died" in said or "nodediederror" in said or "raylet died" in said:
        cause = "node_lost"
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    telling = next((line for line in lines if "died" in line or "killed" in line), lines[0] if lines else "")
    return f"{cause}: {redact(telling)}"[:_LONGEST]


def largest_killed(message: str) -> str | None:
    """The actor, by its id, that held the most memory of those Ray says it killed for memory.

    Ray takes several at once, and the others are no reason for the shortage.
    """
    killed = re.findall(r"Actor\((\w+)\)[^\n]*actual memory used=([\d.]+)GB", message)
    return max(killed, key=lambda one: float(one[1]))[0] if killed else None


def reason(cause: Cause, error: BaseException) -> str:
    """`cause: Error: first line of its message`."""
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{cause}: {type(error).__name__}: {redact(first)}"[:_LONGEST].rstrip(": ")


def keep_traceback(folder: Path, attempt: int, error: BaseException) -> None:
    """Add the traceback to the trial's folder, below those of earlier attempts.

    Raises:
        OSError: the disk is full or gone.
    """
    text = redact("".join(traceback.format_exception(error)))
    with (folder / TRACEBACK).open("a", encoding="utf-8") as file:
        file.write(f"--- attempt {attempt}\n{text}\n")
