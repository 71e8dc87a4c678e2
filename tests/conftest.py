"""Every test gets its own home, one torch thread where torch is used, and no server of ours in the environment."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.study.ray_cluster import Head, started_head

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

SERVERS = ("cli", "faults", "machine")
"""Rooms whose tests start servers."""


@pytest.hookimpl(tryfirst=True)  # before groups are read
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where two processes share the tests (`make test`), one has all that start servers and mostly wait for them: they
    share a head, look for free ports and count processes. The other has the rest, a file at a time.
    """
    for item in items:
        room = item.path.relative_to(Path(__file__).parent).parts[0]
        waits = room in SERVERS or any(item.get_closest_marker(name) for name in ("ray", "faults"))
        item.add_marker(pytest.mark.xdist_group("servers" if waits else str(item.path)))


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HSSL_HOME", str(tmp_path / "home"))
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "RAY_ADDRESS", "HSSL_MIRROR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """One Ray of two CPUs for all tests that need one that is already there: it takes ten seconds to start.

    Its PATH is that of an activated environment. Its own home is none that a driver has.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with started_head(PATH=path, HSSL_HOME=str(tmp_path_factory.mktemp("head"))) as started:
        yield started
