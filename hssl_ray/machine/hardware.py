"""Does this machine have what trials and Ray need?"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hssl_ray.machine.findings import Finding, at_least, gib, problem, warning, well
from hssl_ray.study.ray.settings import OBJECT_STORE_BYTES

MANY_FILES, FEW_FILES = 4096, 1024
LONGEST_SOCKET = 107
SOCKET = "/hssl-up-abcdefgh/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
FULL = 0.95
"""Ray takes a disk for full from here on."""


def hardware() -> Iterator[Finding]:
    """Processors, GPUs, memory, shared memory, open files and the disk for temporary files."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield well("processors", f"{usable}")
    yield gpus()
    free = _available_memory()
    if free is not None:
        yield at_least(
            "memory", f"{gib(free)} free", free, 4 * 2**30, 2**30, "end other programs, or run fewer trials at once"
        )
    yield from shared_memory(Path("/dev/shm"))  # noqa: S108  Linux's own
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = float("inf") if soft == resource.RLIM_INFINITY else soft
    said = f"at most {soft} open" if soft != resource.RLIM_INFINITY else "no limit"
    yield at_least(
        "open files", said, files, MANY_FILES, FEW_FILES, f"ulimit -n {min(65_536, hard) if hard > 0 else 65_536}"
    )
    yield from temporary(Path(tempfile.gettempdir()))


def gpus() -> Finding:
    """What the driver sees against what torch sees."""
    import torch  # takes seconds, and says what training will have

    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if seen:
        return well("GPUs", ", ".join(torch.cuda.get_device_name(number) for number in range(seen)))
    if (program := shutil.which("nvidia-smi")) is None:
        return well("GPUs", "none; trials train on processors")
    asked = subprocess.run([program, "-L"], capture_output=True, text=True, check=False)  # noqa: S603
    if asked.returncode != 0 or "GPU" not in asked.stdout:
        return well("GPUs", "none; trials train on processors")
    return warning(
        "GPUs",
        f"{asked.stdout.strip().splitlines()[0]}, which torch {torch.__version__} does not see",
        "install torch for CUDA: https://pytorch.org/get-started/locally",
    )


def shared_memory(folder: Path) -> Iterator[Finding]:
    """Where Ray keeps what its processes share."""
    if not folder.is_dir():
        return
    free = shutil.disk_usage(folder).free
    said = f"{free / 2**20:,.0f} MiB free"
    mend = "give a container more of it: docker run --shm-size=1g"
    yield at_least("shared memory", said, free, OBJECT_STORE_BYTES * 1.25, 0, mend)


def temporary(folder: Path) -> Iterator[Finding]:
    """Where Ray's sockets and logs lie while it runs."""
    longest = len(str(folder)) + len(SOCKET)
    if longest > LONGEST_SOCKET:
        yield problem(
            "temporary files",
            f"{folder} is too long a name: a socket of Ray's below it would have {longest} characters, at most "
            f"{LONGEST_SOCKET} are possible",
            "export TMPDIR=/tmp",
        )
        return
    usage = shutil.disk_usage(folder)
    said = f"{folder}, {gib(usage.free)} free"
    mend = "delete what is not needed, or set TMPDIR to another disk: Ray stops on one that is 95 % full"
    if 1 - usage.free / usage.total > FULL:
        yield problem("temporary files", f"{said}, {1 - usage.free / usage.total:.0%} used", mend)
    else:
        yield at_least("temporary files", said, usage.free, 5 * 2**30, 2**30, mend)


def _available_memory() -> int | None:
    """Bytes; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
