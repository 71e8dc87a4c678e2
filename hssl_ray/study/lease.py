"""Who runs a study: a file that names the driver, with a count that goes up for as long as it lives.

On one machine the ledger's lock decides, and falls with its process. A driver on another machine cannot be asked; it is
taken for dead when its count stands still for `SILENT_SECONDS` of the watcher's own monotonic clock. No clock of one
machine is ever set against that of another, so clocks that jump change nothing.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hssl_ray.study.born import born
from hssl_ray.trial.durable import read_json

log = logging.getLogger(__name__)

BEAT_SECONDS = 5.0
SILENT_SECONDS = 30.0


class StudyLocked(RuntimeError):
    """Another driver is running the study; running it twice at once would train everything twice."""


@dataclass(frozen=True)
class Driver:
    """Who holds a lease, as it says itself."""

    name: str
    """`process 123 on host`."""
    pid: int
    here: bool
    """Whether it is on this machine."""
    ended: bool
    """Whether it is known to be gone; one on another machine is taken at its word."""
    since: float
    """When it took the lease, seconds since 1970 by its own clock."""
    beats: int
    """Goes up while it lives."""
    unsynced: int | None
    """Writes that MLflow had not got from it at its last sign of life; None if it does not say."""


def driver_at(path: Path) -> Driver | None:
    """Who holds the lease at `path`, dead or alive; None where nobody does."""
    held = read_json(path)
    if held is None:
        return None
    return Driver(
        name=_name(held),
        pid=held["pid"],
        here=held["host"] == socket.gethostname(),
        ended=_has_ended(held),
        since=held.get("since", 0.0),
        beats=held.get("beats", 0),
        unsynced=held.get("unsynced"),
    )


def running_driver(path: Path) -> str | None:
    """`process 123 on host` that holds the lease at `path`, or None. A driver on another host is taken at its word."""
    held = read_json(path)
    return None if held is None or _has_ended(held) else _name(held)


def _name(held: dict[str, Any]) -> str:
    return f"process {held['pid']} on {held['host']}"


def _has_ended(held: dict[str, Any]) -> bool:
    """Whether a driver is known to be gone. Its number may by now be another process's, after a reboot for one."""
    if held["host"] != socket.gethostname():
        return False
    if held.get("born") is not None:
        return bool(born(held["pid"]) != held["born"])
    try:
        os.kill(held["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


class Lease:
    """A study's lease, kept alive by a thread until `release`. Taken while the ledger's lock is held.

    Args:
        path: the file.
        study: the study's name, for messages.
        beat: seconds between two signs of life.
        silent: seconds without one after which a driver on another host counts as dead.
        outbox: how many writes MLflow has not got yet; told with every sign of life.

    Raises:
        StudyLocked: another driver is alive.
    """

    def __init__(
        self,
        path: Path,
        study: str,
        *,
        beat: float = BEAT_SECONDS,
        silent: float = SILENT_SECONDS,
        outbox: Callable[[], int] | None = None,
    ) -> None:
        self._path, self._study, self._beat, self._silent = path, study, beat, silent
        self._outbox = outbox
        self._take_over()
        self._mine: dict[str, Any] = {
            "driver": secrets.token_hex(8),
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "born": born(os.getpid()),
            "since": time.time(),
            "beats": 0,
        }
        self._writing = threading.Lock()
        self._shown = time.monotonic()
        self._taken_by: str | None = None
        self._write()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._live, name="hssl-lease", daemon=True)
        self._thread.start()

    def _take_over(self) -> None:
        held = read_json(self._path)
        if held is None or (held["pid"] == os.getpid() and held["host"] == socket.gethostname()):
            return
        if held["host"] == socket.gethostname():
            if not _has_ended(held):  # it has the lock of a ledger that is no longer in this folder
                raise StudyLocked(self._refusal(held))
        else:
            log.warning("study %s: watching for %.0f s whether %s lives", self._study, self._silent, _name(held))
            deadline = time.monotonic() + self._silent
            while time.monotonic() < deadline:
                time.sleep(min(self._beat, self._silent) / 5)
                if (read_json(self._path) or held) != held:
                    raise StudyLocked(self._refusal(held))
        log.warning("study %s: taken over from %s, which has ended", self._study, _name(held))

    def _refusal(self, held: dict[str, Any]) -> str:
        return f"study {self._study} is being run by {_name(held)}; wait for it or stop it first"

    def check(self) -> None:
        """Make sure that the study is still ours; call before anything is written.

        Raises:
            StudyLocked: this process stood still for so long that another driver took the study over.
        """
        if time.monotonic() - self._shown > self._silent / 2:
            self._sign()
        if self._taken_by is not None:
            raise StudyLocked(
                f"study {self._study}: taken over by {self._taken_by}, because this driver gave no sign of life for "
                f"{self._silent:.0f} s; nothing more is written here"
            )

    def _sign(self) -> None:
        with self._writing:
            held = read_json(self._path)
            if held is not None and held.get("driver") != self._mine["driver"]:
                self._taken_by = _name(held)
            else:
                self._mine["beats"] += 1
                self._write()

    def _write(self) -> None:
        # Not flushed: a sign of life that does not outlive a power cut is none, and so it should be.
        if self._outbox is not None:
            self._mine["unsynced"] = self._outbox()
        building = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        building.write_text(json.dumps(self._mine), encoding="utf-8")
        building.replace(self._path)
        self._shown = time.monotonic()

    def _live(self) -> None:
        while not self._ended.wait(self._beat) and self._taken_by is None:
            with contextlib.suppress(OSError):  # a full disk, or one that is away: what is written next will say so
                self._sign()

    def release(self) -> None:
        """Let the next driver in at once."""
        self._ended.set()
        self._thread.join()
        held = read_json(self._path)
        if held is not None and held.get("driver") == self._mine["driver"]:
            self._path.unlink(missing_ok=True)
