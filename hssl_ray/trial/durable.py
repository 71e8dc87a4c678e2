"""Writes that survive a kill: whole files that appear at once, and logs whose every line carries its checksum."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from hssl_ray.data.files import flush

log = logging.getLogger(__name__)

_PREFIX, _MIDDLE, _SUFFIX = b'{"crc":"', b'","record":', b"}"
_CRC = slice(len(_PREFIX), len(_PREFIX) + 8)
_RECORD = slice(len(_PREFIX) + 8 + len(_MIDDLE), -len(_SUFFIX))


class Locked(RuntimeError):
    """Another process holds the file."""


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replace a JSON file at once: readers see the old one or the new one, never a half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    building = path.with_name(f".{path.name}.{os.getpid()}")  # its own, because two studies may write a shared trial's
    building.write_text(json.dumps(value, sort_keys=True, indent=1), encoding="utf-8")
    flush(building)
    building.replace(path)
    flush(path.parent)


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where there is none that can be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("%s: cannot be read and is ignored (%s)", path, error)
        return None
    return value if isinstance(value, dict) else None


def encode(record: dict[str, Any]) -> bytes:
    """One line: a JSON object that holds the record and the CRC-32 of the record's bytes. NaN and infinity pass."""
    body = json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()
    return b"".join((_PREFIX, b"%08x" % zlib.crc32(body), _MIDDLE, body, _SUFFIX, b"\n"))


def decode(line: bytes) -> dict[str, Any] | None:
    """The record of a line without its newline; None where a byte differs from what was written."""
    body = line[_RECORD]
    if line != b"".join((_PREFIX, b"%08x" % zlib.crc32(body), _MIDDLE, body, _SUFFIX)):
        return None
    value = json.loads(body.decode())  # as text, or json guesses the encoding of every line
    return value if isinstance(value, dict) else None


def read_log(path: Path) -> list[dict[str, Any]]:
    """The records of a log, written or being written; a torn tail is left out, a damaged line is named and left out."""
    return list(iterate_log(path))


def iterate_log(path: Path) -> Iterator[dict[str, Any]]:
    """As `read_log`, one record after the other: a long ledger's never lie in memory together."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            record = decode(line[:-1])
            if record is None:
                log.warning("%s:%d: damaged line, left out", path, number)
            else:
                yield record


class RecordLog:
    """An append-only log with one writer. `append` returns when the record is on the disk.

    Args:
        path: the file; its folder is made.
        wait: wait for another writer to end instead of raising.

    Raises:
        Locked: another process has it open and `wait` is false.
    """

    def __init__(self, path: Path, *, wait: bool = False) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            # The kernel drops this lock with the process that holds it, however it dies.
            fcntl.flock(self._descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise Locked(f"{path}: is being written by another process") from None
        self._drop_torn_tail()
        flush(path.parent)

    def _drop_torn_tail(self) -> None:
        whole = self.path.read_bytes().rfind(b"\n") + 1
        if whole < os.fstat(self._descriptor).st_size:
            log.warning("%s: the last line was cut short and is dropped", self.path)
            os.ftruncate(self._descriptor, whole)

    def append(self, record: dict[str, Any]) -> None:
        """Add a record, durably. A line that could not be written whole is taken back.

        Raises:
            OSError: the disk is full or gone.
        """
        line = encode(record)
        start = os.fstat(self._descriptor).st_size
        try:
            written = 0
            while written < len(line):
                written += os.write(self._descriptor, line[written:])
            os.fsync(self._descriptor)
        except BaseException:
            os.ftruncate(self._descriptor, start)
            raise

    def close(self) -> None:
        """Let the next writer in."""
        os.close(self._descriptor)

    def __enter__(self) -> RecordLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
