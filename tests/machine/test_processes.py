"""What `down` may end: everything that carries the mark, wherever it went, and nothing that only has the number."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hssl_ray.machine.processes import MARK, end, launch, marked, wait_for_end
from hssl_ray.machine.record import Started, place_of, read, write, write_secret
from hssl_ray.study.born import born
from tests.study.ray_cluster import wait_until

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
FAMILY = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
time.sleep(600)
"""


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the same user that carries another mark."""
    process = subprocess.Popen(SLEEP, env={**os.environ, MARK: "another"})
    yield process
    process.kill()
    process.wait()


def test_a_whole_family_ends_and_a_stranger_does_not(tmp_path: Path, stranger: subprocess.Popen[bytes]) -> None:
    """Its head does not listen to SIGTERM, and its child has left its session."""
    first = launch([sys.executable, "-c", FAMILY], os.environ, "ours", tmp_path / "log")
    wait_until(lambda: len(marked("ours")) == 2, 60, "the child starts")
    assert end("ours", first, 0.3) == 2
    assert os.waitpid(first, 0)[1] == 9
    assert marked("ours") == [] and stranger.poll() is None
    assert end("ours", first, 0.3) == 0  # once more does nothing


def test_a_number_given_out_again_is_not_ended(tmp_path: Path, stranger: subprocess.Popen[bytes]) -> None:
    ours = Started("Ray", "http://127.0.0.1:1", "ours", stranger.pid, born(stranger.pid))
    assert not ours.runs
    assert end(ours.mark, ours.pid, 0.3) == 0 and stranger.poll() is None
    assert Started("Ray", "http://127.0.0.1:1", "another", stranger.pid, born(stranger.pid)).runs
    assert not Started("Ray", "http://127.0.0.1:1", "another", stranger.pid, "another boot/1").runs


def test_the_end_of_a_process_is_waited_for(stranger: subprocess.Popen[bytes]) -> None:
    since = time.monotonic()
    assert not wait_for_end(stranger.pid, "another", 0.2) and time.monotonic() - since >= 0.2
    stranger.kill()
    assert wait_for_end(stranger.pid, "another", 60)


def test_what_was_started_comes_back_and_the_file_goes_with_the_last(tmp_path: Path) -> None:
    services = [Started("Ray", "http://127.0.0.1:1", "m", 1, "b", "log", "folder", {"RAY_ADDRESS": "127.0.0.1:2"})]
    write(tmp_path, services)
    assert read(tmp_path) == services
    assert place_of(tmp_path).stat().st_mode & 0o777 == 0o700
    write(tmp_path, [])
    assert read(tmp_path) == [] and not (place_of(tmp_path) / "services.json").exists()


def test_another_machine_s_services_are_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home may be shared; over there, 127.0.0.1 and the numbers of processes mean something else."""
    services = [Started("Ray", "http://127.0.0.1:1", "m", 1, "b")]
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(socket, "gethostname", lambda: "elsewhere")
        write(tmp_path, services)
        assert read(tmp_path) == services
    assert read(tmp_path) == []


def test_a_secret_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Also where a file that all may read lay before."""
    path = tmp_path / "token"
    path.write_text("old")
    path.chmod(0o644)
    write_secret(path, "new")
    assert path.read_text() == "new" and path.stat().st_mode & 0o777 == 0o600
