"""Which process is meant: its number alone is given out again."""

from __future__ import annotations

from pathlib import Path


def born(pid: int) -> str | None:
    """When a process began, in its kernel's own count; None if it has ended or the system does not say."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    return None if state == "Z" else f"{boot}/{fields[18]}"
