"""Writes that survive a kill: whole files that appear at once, and logs whose every line carries its checksum."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from hssl_ray.data.files import flush, make_folder

log = logging.getLogger(__name__)

_PREFIX, _MIDDLE, _SUFFIX = b'{"crc":"', b'","record":', b"}"
_CRC = slice(len(_PREFIX), len(_PREFIX) + 8)
_RECORD = slice(len(_PREFIX) + 8 + len(_MIDDLE), -len(_SUFFIX))
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})


class Locked(RuntimeError):
    """Another process holds the file."""


class NoLocks(ValueError):
    """The file system cannot lock files, so nothing on it keeps two writers apart."""


class NewerFormat(ValueError):
    """A file was written by a newer version of this program; reading it as if it were ours could misread it."""


def check_format(path: Path | str, found: Any, known: int) -> None:
    """Refuse what a newer version wrote.

    Raises:
        NewerFormat: `found` is not one of 1 to `known`.
    """
    if not isinstance(found, int) or not 1 <= found <= known:
        raise NewerFormat(
            f"{path}: format {found} was written by a newer hssl-ray, this one reads up to {known}; "
            "upgrade hssl-ray, or set HSSL_HOME to a folder of its own"
        )


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file at once: readers see the old one or the new one, never a half."""
    make_folder(path.parent)
    building = path.with_name(f".{path.name}.{os.getpid()}")  # its own, because two studies may write a shared trial's
    try:
        building.write_bytes(content)
        flush(building)
        building.replace(path)
    except BaseException:
        building.unlink(missing_ok=True)  # on a full disk it would take the room of what comes next
        raise
    flush(path.parent)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """`write_whole` of a JSON object."""
    write_whole(path, json.dumps(value, sort_keys=True, indent=1).encode())


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
    """The records of a log, written or being written; a torn tail is left out, a damaged line is named and left out.

    Records on one line, because what parted them is damaged, are read all the same.
    """
    return list(iterate_log(path))


def iterate_log(path: Path) -> Iterator[dict[str, Any]]:
    """As `read_log`, one record after the other: a long ledger's never lie in memory together."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        for number, line in enumerate(file, start=1):
            yield from _records_of(line, f"{path}:{number}")


class LogTail:
    """What is added to a log that another process writes, or is yet to make; only what is new is read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0  # bytes
        self._last = b""  # line, to know the log again by

    def new(self) -> list[dict[str, Any]] | None:
        """The whole records since the last call, all of them at the first one; an unfinished line waits.

        Returns:
            None where the log is another one than at the last call: taken back in part, or replaced. The next call
            reads it from its beginning.
        """
        try:
            with self._path.open("rb") as file:
                file.seek(self._read - len(self._last))
                data = file.read()
        except FileNotFoundError:
            data = b""
        if not data.startswith(self._last):
            self._read, self._last = 0, b""
            return None
        *whole, _ = data[len(self._last) :].split(b"\n")
        lines = [line + b"\n" for line in whole]
        if lines:
            self._read, self._last = self._read + sum(map(len, lines)), lines[-1]
        return [record for line in lines for record in _records_of(line, str(self._path))]


def _records_of(line: bytes, where: str) -> Iterator[dict[str, Any]]:
    """The record of a line; of a damaged one, which is named, and of a last one without its newline, what is whole."""
    record = decode(line[:-1]) if line.endswith(b"\n") else None
    if record is not None:
        yield record
        return
    found = list(_whole_records(line))
    if line.endswith(b"\n"):
        log.warning("%s: damaged line, left out; records read from it: %d", where, len(found))
    for start, end in found:
        whole = decode(line[start:end])
        assert whole is not None
        yield whole


def _whole_records(line: bytes) -> Iterator[tuple[int, int]]:
    """Where whole records stand in a line that is not one record: its end, or that of the one before, is damaged."""
    start = line.find(_PREFIX)
    while start >= 0:
        following = line.find(_PREFIX, start + 1)
        last = len(line) if following < 0 else following
        for end in (last, last - 1):
            if decode(line[start:end]) is not None:
                yield start, end
                break
        start = following


class RecordLog:
    """An append-only log with one writer. `append` returns when the record is on the disk.

    Args:
        path: the file; its folder is made.
        wait: wait for another writer to end instead of raising.

    Raises:
        Locked: another process has it open and `wait` is false.
        NoLocks: the file system cannot say whether one has.
    """

    def __init__(self, path: Path, *, wait: bool = False) -> None:
        self.path = path
        make_folder(path.parent)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            # The kernel drops this lock with the process that holds it, however it dies.
            fcntl.flock(self._descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise Locked(f"{path}: is being written by another process") from None
        except OSError as error:
            os.close(self._descriptor)
            if error.errno not in _NO_LOCKS:
                raise
            raise NoLocks(
                f"{path}: its file system cannot lock files ({error.strerror}); set HSSL_HOME to one that can, "
                "or mount it with locks (NFS without nolock, Lustre with flock)"
            ) from None
        self._mend_tail()
        flush(path.parent)

    def _mend_tail(self) -> None:
        """Drop a last line that was cut short; give one that lacks nothing but its newline a new one."""
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole == len(data):
            return
        found = list(_whole_records(data[whole:]))
        if not found:
            log.warning("%s: the last line was cut short and is dropped", self.path)
        os.ftruncate(self._descriptor, whole + (found[-1][1] if found else 0))
        if found:
            self._write(b"\n")

    def _write(self, data: bytes) -> None:
        written = 0
        while written < len(data):
            written += os.write(self._descriptor, data[written:])
        os.fsync(self._descriptor)

    def append(self, record: dict[str, Any]) -> None:
        """Add a record, durably. A line that could not be written whole is taken back.

        Raises:
            OSError: the disk is full or gone.
        """
        line = encode(record)
        start = os.fstat(self._descriptor).st_size
        try:
            self._write(line)
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
