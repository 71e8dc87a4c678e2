"""Large blocks that are freed while a study runs are given back, though small ones that stay lie behind them."""

import subprocess
import sys

import pytest

MEGABYTES = 40
CODE = f"""
import contextlib, pathlib
from hssl_ray.study.ray.heap import large_blocks_returned

def resident():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096

def kept_of_freed():
    before = resident()
    pairs = [(bytearray(2**20), bytearray(2**12)) for _ in range({MEGABYTES})]
    small = [one for _, one in pairs]
    del pairs
    return (resident() - before) / 2**20

del (largest := [bytearray(2**23)])[:]  # glibc has seen a block of 8 MiB
with large_blocks_returned() if {{inside}} else contextlib.nullcontext():
    print(kept_of_freed())
print(kept_of_freed())
"""


def kept(*, inside: bool) -> list[float]:
    """MiB that a process keeps of large blocks that were freed, inside the block or without it, and after it."""
    code = CODE.format(inside=inside)
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return [float(line) for line in out.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_what_is_freed_inside_goes_back() -> None:
    during, after = kept(inside=True)
    without, _ = kept(inside=False)
    assert during < 0.1 * MEGABYTES
    assert without > 0.9 * MEGABYTES, "else there is nothing to see"
    assert after > 0.9 * MEGABYTES, "what is done after a study is as fast as before it"
