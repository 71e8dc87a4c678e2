"""How others see that a worker of a trial moves: a file that is touched after every batch."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

FOLDER = "pulse"
REST_SECONDS = 0.5
"""A file is touched at most so often; a batch may take a millisecond, and a shared disk longer than that."""


class Pulse:
    """The pulse of one worker of a running attempt, `pulse/<rank>` in the trial's folder; it ends with the block.

    Args:
        workdir: the trial's folder.
        attempt: at the trial.
        rank: of this worker.
        node: the machine it runs on, as the engine calls it; empty where there is but one.
    """

    def __init__(self, workdir: Path, attempt: int, *, rank: int = 0, node: str = "") -> None:
        self._path = workdir / FOLDER / str(rank)
        self._path.parent.mkdir(exist_ok=True)
        building = self._path.with_name(f".{rank}.{os.getpid()}")
        worker = {"attempt": attempt, "rank": rank, "node": node, "pid": os.getpid(), "born": born(os.getpid())}
        building.write_text(json.dumps(worker))
        building.replace(self._path)
        self._beaten = time.monotonic()

    def beat(self) -> None:
        """Something was done."""
        now = time.monotonic()
        if now - self._beaten >= REST_SECONDS:
            self._beaten = now
            os.utime(self._path)

    def __enter__(self) -> Pulse:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Seen:
    """A pulse as somebody else reads it."""

    attempt: int
    rank: int
    node: str
    pid: int
    born: str
    """See `born`: numbers of processes are given out again."""
    beaten: int
    """When it last beat, nanoseconds of the file system's clock: to be compared with itself, never with a clock."""


def born(pid: int) -> str:
    """When a process on this machine started, in the kernel's words; empty if there is none or the kernel says none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except FileNotFoundError:
        return ""


def read_pulses(workdir: Path, attempt: int) -> list[Seen]:
    """The pulses of an attempt's workers, by rank; those of workers that died are among them."""
    found = []
    for path in (workdir / FOLDER).glob("[0-9]*"):
        try:
            seen = Seen(**json.loads(path.read_text()), beaten=path.stat().st_mtime_ns)
        except FileNotFoundError:
            continue  # it ended meanwhile
        if seen.attempt == attempt:
            found.append(seen)
    return sorted(found, key=lambda seen: seen.rank)
