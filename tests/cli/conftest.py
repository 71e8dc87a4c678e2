"""One local Ray head for all tests of the command line that need a cluster that is already there."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.study.ray_cluster import started_head

BIN = Path(sys.executable).parent


@pytest.fixture(scope="session")
def head() -> Iterator[dict[str, str]]:
    """The environment of its clients, as in an activated environment."""
    with started_head(PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}") as started:
        addresses = {"DASHBOARD": started.dashboard, "METRICS": started.metrics, "RAY": str(BIN / "ray")}
        yield started.environment | addresses
