"""Room set aside on the disk, so that a study can still write down how it ended when the disk is full."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

BYTES = 256 * 1024  # about five hundred events of a ledger
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class DiskFull(OSError):
    """The disk filled up while a study ran, and what was set aside is used up too."""


class NoRoom(ValueError):
    """The disk cannot hold what a study is about to write."""


class Reserve:
    """A file of `BYTES` that is given up when something must be written and does not fit.

    Raises:
        NoRoom: not even the reserve fits.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.posix_fallocate(descriptor, 0, BYTES)
        except OSError as error:
            path.unlink()
            if error.errno not in FULL:
                return  # a file system that cannot set room aside
            raise NoRoom(f"{path.parent}: the disk is full; free some space and run the study again") from None
        finally:
            os.close(descriptor)

    def spend(self, write: Callable[[], None]) -> None:
        """Run a write that may be run twice; with the reserve given up if it does not fit.

        Raises:
            DiskFull: it does not fit even then.
        """
        try:
            write()
        except OSError as error:
            if error.errno not in FULL:
                raise
            if self._path.exists():
                log.warning("%s: the disk is full; the room set aside is used", self._path.parent)
                self._path.unlink()
            self._last_try(write)

    def _last_try(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise DiskFull(
                error.errno, "the disk is full; free some space and run the study again", str(self._path.parent)
            ) from error

    def release(self) -> None:
        """Give the room back."""
        self._path.unlink(missing_ok=True)


def check_room(folder: Path, needed: int) -> None:
    """Refuse to begin what will not fit.

    Args:
        folder: on the disk in question; it need not exist yet.
        needed: bytes.

    Raises:
        NoRoom: less is free.
    """
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise NoRoom(
            f"{folder}: the study's checkpoints need about {needed / 1e9:.2g} GB, and {free / 1e9:.2g} GB are free; "
            "free some, keep fewer (checkpoints.keep), or set HSSL_HOME to a larger disk"
        )
