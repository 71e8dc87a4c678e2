"""Heads and drivers for the tests of Ray, as processes of their own, as a user's would be."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hssl_ray.study.ledger import History, read_history
from hssl_ray.study.ray.settings import EVERYWHERE, LOCAL
from tests.ports import free_ports

REPOSITORY = Path(__file__).parents[2]
MARK = "HSSL_TEST_MARK"
DRIVE = [sys.executable, "-m", "tests.study.ray_driver"]
OURS = f"{sys.executable} -m hssl_ray.study.ray.start"
RAYS = f"{Path(sys.executable).with_name('ray')} start"
"""Two ways to start a node."""


def environment(**changes: str) -> dict[str, str]:
    """What a driver is started with: no cluster, a token of its own, and a mark to find all its processes by."""
    own = {"PYTHONPATH": str(REPOSITORY), "RAY_AUTH_TOKEN": secrets.token_hex(32), MARK: secrets.token_hex(8)}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "TUNE_", "HSSL_"))}
    return kept | own | {"RAY_AUTH_MODE": "token"} | changes


def processes(mark: str) -> list[int]:
    """Processes that inherited a mark, zombies excepted."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def is_agent(process: int) -> bool:
    """Whether a process is one of the node's two agents: with their raylet gone, they look for the GCS for a minute."""
    try:
        return b"Agent" in Path(f"/proc/{process}/cmdline").read_bytes()
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


@dataclass
class Driver:
    """A driver process on its home."""

    home: Path
    environment: dict[str, str]

    def command(self, program: str = "plain", **asked: Any) -> list[str]:
        return [*DRIVE, str(self.home), json.dumps(asked), program]

    def start(self, program: str = "plain", **asked: Any) -> subprocess.Popen[str]:
        command = self.command(program, **asked)
        return subprocess.Popen(
            command,
            env=self.environment,
            cwd=self.home.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, program: str = "plain", **asked: Any) -> dict[str, int]:
        done = subprocess.run(
            self.command(program, **asked),
            env=self.environment,
            cwd=self.home.parent,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        counts: dict[str, int] = json.loads(done.stdout.strip().splitlines()[-1])
        return counts

    def history(self, name: str = "fake") -> History:
        return read_history(self.home, name)


@dataclass(frozen=True)
class Head:
    """A running head."""

    environment: dict[str, str]
    dashboard: str
    metrics: str
    """Host and port that Prometheus scrapes."""


@contextmanager
def started_head(cpus: int = 2, start: str = OURS, **changes: str) -> Iterator[Head]:
    """A head on loopback, as a user starts it before `ray job submit`; its processes end with the block."""
    port, dashboard, metrics, client, agent = free_ports(5)
    variables = environment(RAY_ADDRESS=f"127.0.0.1:{port}", **LOCAL, **EVERYWHERE, **changes)
    temporary = tempfile.mkdtemp(prefix="hssl-")  # short, as sockets need it
    command = f"{start} --head --node-ip-address=127.0.0.1 --port={port} --num-cpus={cpus} --num-gpus=0"
    command += f" --dashboard-host=127.0.0.1 --dashboard-port={dashboard} --object-store-memory=100000000"
    command += f" --ray-client-server-port={client} --dashboard-agent-listen-port={agent}"
    command += f" --metrics-export-port={metrics} --temp-dir={temporary}"
    try:
        started = subprocess.run(
            command.split(), env=variables, capture_output=True, text=True, timeout=240, check=False
        )
        assert started.returncode == 0, started.stdout + started.stderr
        yield Head(variables, f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{metrics}")
    finally:
        for process in processes(variables[MARK]):
            os.kill(process, signal.SIGKILL)
        wait_until(lambda: not processes(variables[MARK]), 30, "the head's processes end")
        shutil.rmtree(temporary, ignore_errors=True)
