"""A disk that is too small, and one that fills up while a study runs."""

import errno
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hssl_ray.cli.codes import DATA, SOME_FAILED
from hssl_ray.cli.errors import exit_code
from hssl_ray.study.attempt import run_attempt
from hssl_ray.study.engine import Report, TrialOptions, TrialProgram
from hssl_ray.study.inline_engine import InlineEngine
from hssl_ray.study.ledger import RESERVE, Ledger, Outcome, read_history
from hssl_ray.study.reserve import DiskFull, NoRoom
from hssl_ray.study.run import run_study
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.durable import read_log
from tests.faults.table import Table
from tests.study.engine_programs import PROGRAM, epochs_trained, latest_checkpoint, study, train, trial

pytestmark = pytest.mark.faults
FILLER = "filler"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a disk of its own needs root: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def fill(disk: Path) -> None:
    """Another program takes all that is left, to the last byte."""
    with (disk / FILLER).open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                assert error.errno == errno.ENOSPC


def fills_in_the_third(config: TrialConfig, report: Report, resume: Path | None = None, **options: Any) -> None:
    """As the stand-in trains; before epoch 2 of the third seed the disk is full."""

    def filling(metrics: dict[str, float], checkpoint: Path | None) -> None:
        report(metrics, checkpoint)
        if config.seed == 2 and metrics["epoch"] == 1:
            fill(options["workdir"].parents[1])

    train(config, filling, resume, **options)


def test_f11_a_disk_that_fills_up_costs_the_epoch_it_fills_in(
    small_disk: Path, figures: Table, caplog: pytest.LogCaptureFixture
) -> None:
    """Five trials; the third finds the disk full, and no other is started. With room again, all of them finish."""
    asked = study(seeds=5, base={"epochs": 3, "warmup_epochs": 0, "width": 0.125, "group": "scale"})
    trials = list(asked.planned())
    since = time.monotonic()
    summary = run_study(
        asked, home=small_disk, engine=InlineEngine(TrialProgram(fills_in_the_third, latest_checkpoint))
    )
    seconds = time.monotonic() - since
    assert summary.counts == {"finished": 2, "failed": 1, "planned": 2}
    outcome = read_history(small_disk, "fake").outcomes[trials[2].trial_id]
    assert outcome.cause == "disk_full"
    assert "the disk is full; no more trials are started. Free some space and run the study again" in caplog.text
    events = read_log(small_disk / "studies/fake/ledger.jsonl")
    attempts = sum(event["event"] == "started" and event["trial_id"] == trials[2].trial_id for event in events)
    figures.time("F11", "to the message, trials included", seconds, "seconds")
    figures.bad("F11", "retries on the full disk", attempts - 1, 1, "<= 1")

    (small_disk / FILLER).unlink()
    assert run_study(asked, home=small_disk, engine=InlineEngine(PROGRAM)).counts == {"finished": 5}
    again = [epochs_trained(small_disk, one.trial_id) for one in trials]
    lost = sum(epochs != [1, 2, 3] for epochs in (*again[:2], *again[3:])) + (again[2][-1] != 3)
    figures.bad("F11", "trials that lost something", lost, len(trials))
    assert lost == 0
    assert not (small_disk / "studies" / "fake" / RESERVE).exists()


def test_f11_checkpoints_that_will_not_fit_are_refused_before_the_first_trial(small_disk: Path) -> None:
    with pytest.raises(NoRoom, match=r"checkpoints need about .* GB, and 0.06\d GB are free; .*keep fewer") as caught:
        run_study(study(seeds=40), home=small_disk, engine=InlineEngine(PROGRAM))
    assert exit_code(caught.value) == DATA
    assert not (small_disk / "trials").exists()


def test_a_ledger_writes_down_the_end_on_the_room_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On any disk: writes fail until the reserve is gone, then succeed; with no reserve left the driver says so."""
    write = os.write
    reserve = tmp_path / "studies" / "s" / RESERVE

    def full(descriptor: int, data: bytes) -> int:
        if reserve.exists() or (tmp_path / "really full").exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    with Ledger.open(tmp_path, "s") as ledger:
        ledger.started(trial(), 1)
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            ledger.ended(trial().trial_id, Outcome("failed", "disk_full: OSError"))
            assert not reserve.exists()
            (tmp_path / "really full").touch()
            with pytest.raises(DiskFull, match="free some space and run the study again") as caught:
                ledger.started(trial(), 2)
            assert exit_code(caught.value) == SOME_FAILED
    history = read_history(tmp_path, "s")
    assert history.outcomes == {trial().trial_id: Outcome("failed", "disk_full: OSError")}
    assert history.attempts == {trial().trial_id: 1}


def test_a_trial_that_found_the_disk_full_is_the_last_one_started(tmp_path: Path) -> None:
    """On any disk; a trial that fails otherwise (temperature 0.5) stops nothing."""
    counts = run_study(study(temperatures=[0.5, 0.8, 0.1]), home=tmp_path, engine=InlineEngine(PROGRAM)).counts
    assert counts == {"failed": 2, "planned": 1}
    assert epochs_trained(tmp_path, trial(temperature=0.1).trial_id) == []


def test_an_attempt_that_cannot_open_its_journal_ends_as_failed(tmp_path: Path) -> None:
    """Not as an error of the driver's, nor as a worker that was lost."""
    one = trial()
    journal = tmp_path / "trials" / one.trial_id / "journal.jsonl"
    journal.mkdir(parents=True)
    ending = run_attempt(
        one.config, 1, PROGRAM, TrialOptions(tmp_path, tmp_path / "scratch"), lambda record: "continue"
    )
    assert (ending.state, ending.reason.partition(":")[0]) == ("failed", "error")
