"""What is freed is given back, though small blocks that stay lie behind it."""

import subprocess
import sys

import pytest

from tests.study.ray_cluster import REPOSITORY

MEBIBYTES = 40
CODE = f"""
from hssl_ray.trial.freed import give_back_freed
from tests.holes import make_holes, resident

before = resident()
small = make_holes({MEBIBYTES})
print(resident() - before)
give_back_freed()
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_holes_are_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    freed, given_back = (float(line) for line in done.stdout.split())
    assert freed > 0.9 * MEBIBYTES, "else there is nothing to give back"
    assert given_back < 0.1 * MEBIBYTES
