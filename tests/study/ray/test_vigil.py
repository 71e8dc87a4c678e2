"""Who moves and who hangs, told from files, whatever the clocks of machines say."""

import os
import time
from pathlib import Path

import pytest

from hssl_ray.study.layout import trial_folder
from hssl_ray.study.ray.vigil import BLIND_SECONDS, Vigil
from hssl_ray.trial.pulse import Pulse, read_pulses


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def beat(path: Path, at: int) -> None:
    """As `Pulse.beat` does, at a time of our choice."""
    os.utime(path, ns=(at, at))


def test_the_rank_that_stopped_is_found_and_the_one_that_moves_is_not(tmp_path: Path) -> None:
    """The file's clock goes back by an hour on the way: only its change counts."""
    clock = Clock()
    vigil = Vigil(tmp_path, 10, clock)
    vigil.start("slow", 3)
    vigil.start("stuck", 1)
    slow, stuck = trial_folder(tmp_path, "slow"), trial_folder(tmp_path, "stuck")
    slow.mkdir(parents=True)
    stuck.mkdir(parents=True)
    with Pulse(slow, 3), Pulse(stuck, 1), Pulse(stuck, 1, rank=1, node="n"):
        for second in range(30):
            clock.now += 1
            beat(stuck / "pulse" / "0", 1_000_000_000 * (second + 1))
            if second % 8 == 0:  # a batch of 8 s is slow and no hang
                beat(slow / "pulse" / "0", 3_600_000_000_000 - second)
            found = vigil.hung()
            if found:
                break
        assert found.keys() == {"stuck"}
        why, workers = found["stuck"]
        assert why == "no sign of worker 1 for 10 s"
        assert [(worker.rank, worker.node, worker.pid) for worker in workers] == [
            (0, "", os.getpid()),
            (1, "n", os.getpid()),
        ]
        assert 10 <= clock.now - 1000 <= 12
        clock.now += 20
        assert "stuck" not in vigil.hung()  # told once


def test_pulses_of_earlier_attempts_and_of_the_time_before_the_first_beat_mean_nothing(tmp_path: Path) -> None:
    clock = Clock()
    vigil = Vigil(tmp_path, 10, clock)
    vigil.start("t", 2)
    folder = trial_folder(tmp_path, "t")
    folder.mkdir(parents=True)
    with Pulse(folder, 1):
        for _ in range(30):
            clock.now += 1
            assert vigil.hung() == {}
    assert read_pulses(folder, 1) == []


def test_a_driver_that_was_stopped_itself_accuses_nobody(tmp_path: Path) -> None:
    clock = Clock()
    vigil = Vigil(tmp_path, 40, clock)
    vigil.start("t", 1)
    folder = trial_folder(tmp_path, "t")
    folder.mkdir(parents=True)
    with Pulse(folder, 1):
        clock.now += 2
        assert vigil.hung() == {}
        clock.now += BLIND_SECONDS + 3600
        assert vigil.hung() == {}
        for _ in range(20):
            clock.now += 2
            found = vigil.hung()
        assert found.keys() == {"t"}


def test_a_pulse_touches_its_file_now_and_then_and_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    touched = []
    monkeypatch.setattr(os, "utime", lambda path: touched.append(now))
    with Pulse(tmp_path, 1) as worker:
        for step in range(1000):
            now = step * 0.01
            worker.beat()
        assert 15 <= len(touched) <= 20
        assert [seen.attempt for seen in read_pulses(tmp_path, 1)] == [1]
    assert not list((tmp_path / "pulse").iterdir())
