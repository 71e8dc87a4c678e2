"""Two drivers on one study: at once, one after the death of the other, on hosts whose clocks disagree."""

import errno
import fcntl
import json
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hssl_ray.cli.codes import DATA, INCOMPATIBLE
from hssl_ray.cli.errors import exit_code
from hssl_ray.study.inline_engine import InlineEngine
from hssl_ray.study.lease import Lease, StudyLocked
from hssl_ray.study.ledger import LOCK, Ledger, Outcome, running_driver
from hssl_ray.study.run import run_study
from hssl_ray.trial.durable import NoLocks, RecordLog
from tests.faults.table import Table
from tests.study.engine_programs import PROGRAM, epochs_trained, study, trial

pytestmark = pytest.mark.faults
BEAT, SILENT = 0.02, 0.6


@contextmanager
def another_process(hold: Callable[[], object]) -> Iterator[int]:
    """A fork that has returned from `hold` and then lives until it is killed."""
    ready, telling = os.pipe()
    process = os.fork()
    if process == 0:
        held = hold()  # kept alive by its name
        os.write(telling, b"x")
        while held is not None:
            time.sleep(60)
        os._exit(1)
    try:
        assert os.read(ready, 1) == b"x"
        yield process
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(ready)
        os.close(telling)


def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, processes of this one are on another host."""
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")


def test_f25_a_second_driver_is_refused_with_the_first_ones_name(tmp_path: Path, figures: Table) -> None:
    def run() -> None:
        run_study(study(seeds=2), home=tmp_path, engine=InlineEngine(PROGRAM))

    with another_process(lambda: Ledger.open(tmp_path, "fake")) as process:
        with pytest.raises(StudyLocked, match=f"is being run by process {process} on {socket.gethostname()}") as caught:
            run()
        assert exit_code(caught.value) == INCOMPATIBLE
        started = [one for one in (trial(0), trial(1)) if epochs_trained(tmp_path, one.trial_id)]
    figures.bad("F25", "trials that a second driver started", len(started), 2)
    assert not started
    run()
    assert [epochs_trained(tmp_path, trial(seed).trial_id) for seed in (0, 1)] == [[1, 2, 3], [1, 2, 3]]


def test_f26_a_lock_falls_with_its_process(tmp_path: Path, figures: Table, caplog: pytest.LogCaptureFixture) -> None:
    with another_process(lambda: Ledger.open(tmp_path, "s")):
        assert running_driver(tmp_path, "s") is not None
    assert (tmp_path / "studies" / "s" / LOCK).exists()
    assert running_driver(tmp_path, "s") is None
    since = time.monotonic()
    Ledger.open(tmp_path, "s").close()
    figures.time("F26", "take-over on one host", time.monotonic() - since, "<= 1 s")
    assert "taken over from process" in caplog.text


def test_f26_a_process_that_has_only_the_number_is_not_the_driver(tmp_path: Path) -> None:
    """After a reboot the dead driver's number may be anyone's."""
    Ledger.open(tmp_path, "s").close()
    lock = tmp_path / "studies" / "s" / LOCK
    stranger = {"driver": "x", "pid": os.getppid(), "host": socket.gethostname(), "born": "another boot/1", "beats": 3}
    lock.write_text(json.dumps(stranger))
    assert running_driver(tmp_path, "s") is None
    Ledger.open(tmp_path, "s").close()
    assert not lock.exists()


def test_f26_a_driver_on_another_host_is_taken_over_when_it_is_silent(
    tmp_path: Path, figures: Table, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "lock"

    def hold() -> Lease:
        elsewhere(monkeypatch)
        return Lease(lock, "s", beat=BEAT, silent=SILENT)

    with another_process(hold) as process, pytest.raises(StudyLocked, match=f"process {process} on elsewhere"):
        Lease(lock, "s", beat=BEAT, silent=SILENT)
    since = time.monotonic()
    Lease(lock, "s", beat=BEAT, silent=SILENT).release()
    taken = time.monotonic() - since
    figures.time("F26", "take-over from another host, in units of the silence allowed", taken / SILENT, "<= 2", "")
    assert taken >= SILENT
    assert f"taken over from process {process} on elsewhere" in caplog.text


def test_a_driver_that_stood_still_writes_nothing_once_it_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped, as a suspended machine is, and awake again: what it would write now is refused before it is written."""
    monkeypatch.setattr("hssl_ray.study.lease.BEAT_SECONDS", 3600.0)
    with Ledger.open(tmp_path, "s") as ledger:
        ledger.started(trial(), 1)
        lock = tmp_path / "studies" / "s" / LOCK
        size = (tmp_path / "studies/s/ledger.jsonl").stat().st_size
        lock.write_text(json.dumps({"driver": "another", "pid": 1, "host": "elsewhere", "beats": 1}))
        later = time.monotonic() + 3600
        monkeypatch.setattr(time, "monotonic", lambda: later)
        with pytest.raises(StudyLocked, match="taken over by process 1 on elsewhere"):
            ledger.ended(trial().trial_id, Outcome("finished"))
        assert (tmp_path / "studies/s/ledger.jsonl").stat().st_size == size
    assert lock.exists(), "the other driver's"


def test_f28_clocks_that_jump_expire_nothing(
    tmp_path: Path, seed: int, figures: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Driver and watcher on two hosts, the clock of each an hour off, now this way, now that."""
    lock, draw, real = tmp_path / "lock", random.Random(seed), time.time

    def jumping() -> float:
        return real() + draw.choice((-3600.0, 0.0, 3600.0))

    def hold() -> Lease:
        elsewhere(monkeypatch)
        return Lease(lock, "s", beat=BEAT, silent=SILENT)

    monkeypatch.setattr(time, "time", jumping)
    expired, tries = 0, 5
    with another_process(hold):
        for _ in range(tries):
            os.utime(lock, (jumping(), jumping()))
            try:
                Lease(lock, "s", beat=BEAT, silent=SILENT)
                expired += 1
            except StudyLocked:
                continue
    figures.bad("F28", "live drivers taken for dead", expired, tries)
    assert expired == 0
    Lease(lock, "s", beat=BEAT, silent=SILENT).release()  # and a dead one still for dead


def test_a_file_system_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(NoLocks, match=r"cannot lock files .No locks available.; set HSSL_HOME") as caught:
        RecordLog(tmp_path / "log")
    assert exit_code(caught.value) == DATA


def test_a_lease_ends_with_its_thread(tmp_path: Path) -> None:
    Lease(tmp_path / "lock", "s", beat=BEAT, silent=SILENT).release()
    assert not (tmp_path / "lock").exists()
    assert not [thread for thread in threading.enumerate() if thread.name == "hssl-lease"]
