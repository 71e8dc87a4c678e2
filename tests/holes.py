"""Holes in a heap: large blocks that were freed between small ones that stay."""

import resource
from pathlib import Path

MIB = 2**20


def resident() -> float:
    """MiB of this process that lie in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / MIB


def make_holes(mebibytes: int) -> list[bytearray]:
    """The small blocks; as long as they are kept, so many MiB of holes lie between them."""
    bytearray(8 * MIB)  # freed at once; from here on glibc takes blocks of 1 MiB from its heap
    pairs = [(bytearray(MIB), bytearray(4096)) for _ in range(mebibytes)]
    return [small for _, small in pairs]
