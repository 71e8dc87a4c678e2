"""The cluster of all tests, as the command line's users see it."""

import sys
from pathlib import Path

import pytest

from tests.study.ray_cluster import Head


@pytest.fixture
def client(head: Head) -> dict[str, str]:
    """The environment of a client, and where the cluster is."""
    ray = str(Path(sys.executable).with_name("ray"))
    return head.environment | {"DASHBOARD": head.dashboard, "METRICS": head.metrics, "RAY": ray}
