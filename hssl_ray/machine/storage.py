"""Can the home keep what a study writes, and are the data sets there?"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from hssl_ray.data.errors import DataError
from hssl_ray.data.inventory import inventory
from hssl_ray.machine.findings import Finding, at_least, gib, problem, warning, well

SKEW_SECONDS = 5.0


def storage(home: Path) -> Iterator[Finding]:
    """The home, its disk, its clock and the data sets."""
    there = next(folder for folder in (home, *home.parents) if folder.is_dir())
    yield from writable(home, there)
    free = shutil.disk_usage(there).free
    mend = (
        "delete what is not needed, or set HSSL_HOME to another disk; `plan` says how much a study's checkpoints take"
    )
    yield at_least("disk of the home", f"{gib(free)} free", free, 10 * 2**30, 2**30, mend)
    yield from data_sets()


def writable(home: Path, there: Path) -> Iterator[Finding]:
    """Whether files can be written and locked in a folder, and whether its clock is ours; leaves nothing there.

    Args:
        home: the home.
        there: it, or the folder that it would be made in.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=".hssl-doctor-", dir=there) as folder:
            path = Path(folder, "probe")
            path.write_text("")
            locks = excludes(path)
            skew = path.stat().st_mtime - time.time()
    except OSError as error:
        yield problem("home", f"{home}: cannot be written ({error.strerror})", "set HSSL_HOME to a folder of your own")
        return
    if not locks:
        yield problem(
            "home",
            f"{home}: its file system cannot lock files, so nothing would keep two drivers apart",
            "set HSSL_HOME to one that can, or mount it with locks (NFS without nolock, Lustre with flock)",
        )
    else:
        yield well("home", f"{home}, {'can be written and locked' if home == there else 'not there yet; can be made'}")
    package = Path(__file__).stat().st_mtime
    if abs(skew) > SKEW_SECONDS:
        yield warning(
            "clock",
            f"the home's file system is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}",
            "set both by NTP",
        )
    elif time.time() < package:
        yield warning(
            "clock", "earlier than this program was installed", "set it by NTP; MLflow's times would be wrong"
        )
    else:
        yield well("clock", "agrees with the home's file system")


def excludes(path: Path) -> bool:
    """Whether a lock on a file keeps out whoever opens it again."""
    with path.open() as first, path.open() as second, contextlib.suppress(OSError):
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def data_sets() -> Iterator[Finding]:
    """What is prepared, and what is broken."""
    try:
        entries = inventory()
    except DataError as error:
        yield problem("data sets", str(error), "hssl-ray data list")
        return
    here = [entry.info.name for entry in entries if entry.state in ("packaged", "prepared")]
    absent = [entry.info.name for entry in entries if entry.state == "absent"]
    more = f"; hssl-ray data prepare makes {', '.join(absent)}" if absent else ""
    yield well("data sets", f"{', '.join(here)}{more}")
    for entry in entries:
        if entry.problem:
            mend = f"hssl-ray data prepare {entry.info.name} --force"
            yield problem("data sets", f"{entry.info.name}: {entry.problem}", mend)
