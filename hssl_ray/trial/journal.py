"""The trial's own record of its epochs, on disk before anyone else hears of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from hssl_ray.trial.durable import RecordLog, check_format, iterate_log

FORMAT = 1
"""Written into the first line; a journal without it is of format 1 too."""
JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class Record:
    """One epoch of a trial."""

    epoch: int
    """Epochs done, from 1."""
    metrics: dict[str, float]
    """What was measured after it; names as `train/loss`, `probe/top1`."""
    checkpoint: str | None = None
    """Folder of the checkpoint committed with it, relative to the trial's folder."""
    attempt: int = 1
    """Which try at the trial this was, from 1."""
    time: float = field(default_factory=time.time)
    """Seconds since 1970."""


def read_records(path: Path) -> list[Record]:
    """One record per epoch, in order of epochs, from a journal that may still be written.

    An epoch that was trained again after a resume counts once, as last written.

    Raises:
        NewerFormat: a newer version wrote it.
    """
    latest = {line["epoch"]: line for line in written(path)}
    return [Record(**latest[epoch]) for epoch in sorted(latest)]


def written(path: Path) -> Iterator[dict[str, Any]]:
    """The fields of every record in the order of writing, those of epochs trained again included.

    Raises:
        NewerFormat: a newer version wrote it.
    """
    for line in iterate_log(path):
        if "format" in line:
            check_format(path, line["format"], FORMAT)
        else:
            yield line


def check_journal(path: Path) -> None:
    """Look at a journal's first line alone.

    Raises:
        NewerFormat: a newer version wrote it.
    """
    first = next(iterate_log(path), {})
    if "format" in first:
        check_format(path, first["format"], FORMAT)


class StoredRecords:
    """A journal's records, read from the disk each time that somebody goes through them, and kept by nobody."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[Record]:
        return iter(read_records(self._path))


def last_metrics(records: list[Record]) -> dict[str, float]:
    """Every metric at the last epoch that has it."""
    merged: dict[str, float] = {}
    for record in records:
        merged |= record.metrics
    return merged


class Journal:
    """The journal of a trial, held by the one process that trains it.

    Opening waits while another process trains the same trial: two studies may share it, or an attempt whose driver died
    may be about to end.

    Raises:
        NewerFormat: a newer version wrote it.
        NoLocks: see `RecordLog`.
    """

    def __init__(self, path: Path) -> None:
        self._log = RecordLog(path, wait=True)
        try:
            check_journal(path)
            if path.stat().st_size == 0:
                self._log.append({"format": FORMAT})
        except BaseException:
            self._log.close()
            raise

    def append(self, record: Record) -> None:
        """Add an epoch; when this returns it is on the disk.

        Raises:
            OSError: the disk is full or gone.
        """
        self._log.append(asdict(record))

    def records(self) -> list[Record]:
        """One record per epoch, in order of epochs."""
        return read_records(self._log.path)

    def close(self) -> None:
        """Let the next attempt in."""
        self._log.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
