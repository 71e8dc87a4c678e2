"""One local Ray head for all tests of the command line that need a cluster that is already there."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.ports import free_port


@pytest.fixture(scope="session")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A local head with dashboard and token, as a user starts it; yields the environment of its clients."""
    ports = {name: free_port() for name in ("gcs", "dashboard", "agent", "client", "metrics")}
    token = tmp_path_factory.mktemp("token") / "token"
    token.write_text("0" * 32)
    temp = Path("/tmp") / f"hssl-head-{os.getpid()}"  # short: Ray's socket paths have 107 characters at most
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HSSL_", "MLFLOW_TRACKING"))}
    environment = kept | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_ADDRESS": f"127.0.0.1:{ports['gcs']}",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # as in an activated environment
    }
    ray = str(Path(sys.executable).with_name("ray"))
    try:
        started = subprocess.run(
            [
                ray, "start", "--head", "--node-ip-address=127.0.0.1", f"--port={ports['gcs']}", "--num-cpus=2",
                "--dashboard-host=127.0.0.1", f"--dashboard-port={ports['dashboard']}",
                f"--dashboard-agent-listen-port={ports['agent']}", f"--ray-client-server-port={ports['client']}",
                f"--metrics-export-port={ports['metrics']}", "--object-store-memory=200000000", f"--temp-dir={temp}",
            ],
            capture_output=True, text=True, env=environment, timeout=120, check=False,
        )  # fmt: skip
        assert started.returncode == 0, started.stdout + started.stderr
        yield environment | {
            "DASHBOARD": f"http://127.0.0.1:{ports['dashboard']}",
            "METRICS": f"127.0.0.1:{ports['metrics']}",
            "RAY": ray,
        }
    finally:
        # `ray stop` would end every Ray of this user; these are the processes whose command line names our folder.
        listed = subprocess.run(["pgrep", "-f", str(temp)], capture_output=True, text=True, check=False)
        for pid in map(int, listed.stdout.split()):
            if pid != os.getpid():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
