"""The ledger: what it promises after a kill, a torn line, a flipped bit, and to a second driver."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from hssl_ray.study.lease import StudyLocked
from hssl_ray.study.ledger import (
    LEDGER,
    Ledger,
    Outcome,
    Sample,
    read_history,
    running_driver,
    shared_outcome,
)
from hssl_ray.trial.durable import NewerFormat, RecordLog
from tests.study.engine_programs import trial


def _ledger_file(home: Path) -> Path:
    return home / "studies" / "s" / LEDGER


def test_events_come_back_folded(tmp_path: Path) -> None:
    """A new process knows the plan, the attempts and the outcomes; a start without an end is an interruption."""
    first, second, third = trial(0), trial(1), trial(2)
    with Ledger.open(tmp_path, "s") as ledger:
        ledger.planned("d1", {"study": "s"}, [first, second, third])
        ledger.started(first, 1)
        ledger.ended(first.trial_id, Outcome("finished", metrics={"train/loss": 0.5}, seconds=2.0))
        ledger.started(second, 1)
    history = read_history(tmp_path, "s")
    assert history.digest == "d1"
    assert [row.config for row in history.planned] == [first.config, second.config, third.config]
    assert history.outcomes == {first.trial_id: Outcome("finished", metrics={"train/loss": 0.5}, seconds=2.0)}
    assert set(history.started) == {second.trial_id}


def test_a_new_attempt_forgets_the_old_outcome(tmp_path: Path) -> None:
    one = trial()
    with Ledger.open(tmp_path, "s") as ledger:
        ledger.started(one, 1)
        ledger.ended(one.trial_id, Outcome("killed", "interrupted: SIGTERM"))
        ledger.started(one, 2)
        assert ledger.history.outcomes == {}
        assert ledger.history.attempts == {one.trial_id: 2}


def test_only_final_outcomes_are_shared(tmp_path: Path) -> None:
    """Another study may take over an outcome that no attempt could change, and no other."""
    done, lost = trial(0), trial(1)
    with Ledger.open(tmp_path, "s") as ledger:
        ledger.ended(done.trial_id, Outcome("diverged", "diverged: loss"))
        ledger.ended(lost.trial_id, Outcome("failed", "worker_lost: gone"))
    assert shared_outcome(tmp_path, done.trial_id) == Outcome("diverged", "diverged: loss")
    assert shared_outcome(tmp_path, lost.trial_id) is None


def test_planning_the_same_study_again_writes_nothing(tmp_path: Path) -> None:
    for digest, grows in (("d1", True), ("d1", False), ("d2", True)):
        before = _ledger_file(tmp_path).stat().st_size if _ledger_file(tmp_path).exists() else 0
        with Ledger.open(tmp_path, "s") as ledger:
            ledger.planned(digest, {}, [trial()])
        assert (_ledger_file(tmp_path).stat().st_size > before) is grows


def test_a_second_driver_is_refused_by_name(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, "s"):
        assert running_driver(tmp_path, "s") is not None
        with pytest.raises(StudyLocked, match=f"process {os.getpid()} on "):
            Ledger.open(tmp_path, "s")
        Ledger.open(tmp_path, "other").close()
    assert running_driver(tmp_path, "s") is None
    Ledger.open(tmp_path, "s").close()


DRIVER = """
    import sys
    from pathlib import Path
    from hssl_ray.study.ledger import Ledger, Outcome
    from tests.study.engine_programs import trial
    home = Path(sys.argv[1])
    ledger = Ledger.open(home, "s")
    seed = 0
    while True:
        ledger.started(trial(seed), 1)
        ledger.ended(trial(seed).trial_id, Outcome("finished", metrics={"epoch": float(seed)}))
        print(seed, flush=True)  # acknowledged
        seed += 1
"""


@pytest.mark.faults
def test_a_killed_driver_loses_no_acknowledged_outcome_and_leaves_no_lock(tmp_path: Path) -> None:
    """SIGKILL while it writes as fast as it can: every acknowledged outcome is there, and the next driver gets in."""
    acknowledged = -1
    for _ in range(3):
        driver = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(DRIVER), str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert driver.stdout is not None
        lines = [driver.stdout.readline() for _ in range(20)]
        driver.send_signal(signal.SIGKILL)
        lines += driver.stdout.readlines()
        driver.wait()
        driver.stdout.close()
        acknowledged = max(acknowledged, int([line for line in lines if line.endswith("\n")][-1]))
        assert running_driver(tmp_path, "s") is None
        with Ledger.open(tmp_path, "s") as ledger:
            assert {trial(seed).trial_id for seed in range(acknowledged + 1)} <= set(ledger.history.outcomes)


def test_a_torn_tail_is_dropped_at_every_length(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Cut the file anywhere in its last line: the events before it stay, and new ones are readable after it."""
    with Ledger.open(tmp_path, "s") as ledger:
        ledger.started(trial(0), 1)
        start = _ledger_file(tmp_path).stat().st_size
        ledger.started(trial(1), 1)
    whole = _ledger_file(tmp_path).read_bytes()
    for length in range(start + 1, len(whole), 5):
        _ledger_file(tmp_path).write_bytes(whole[:length])
        with Ledger.open(tmp_path, "s") as ledger:
            assert set(ledger.history.started) == {trial(0).trial_id}
            ledger.started(trial(2), 1)
        assert set(read_history(tmp_path, "s").started) == {trial(0).trial_id, trial(2).trial_id}
    assert "cut short" in caplog.text


def test_a_flipped_bit_is_found_and_costs_one_event(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Ledger.open(tmp_path, "s") as ledger:
        for seed in range(3):
            ledger.started(trial(seed), 1)
    lines = _ledger_file(tmp_path).read_bytes().splitlines(keepends=True)
    for at in range(0, len(lines[2]) - 1, 7):
        broken = bytearray(lines[2])
        broken[at] ^= 1
        _ledger_file(tmp_path).write_bytes(b"".join([*lines[:2], broken, *lines[3:]]))
        assert set(read_history(tmp_path, "s").started) == {trial(0).trial_id, trial(2).trial_id}
    assert f"{LEDGER}:3: damaged line" in caplog.text


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    with RecordLog(_ledger_file(tmp_path)) as log:
        log.append({"event": "ledger", "format": 2})
    with pytest.raises(NewerFormat, match="format 2 was written by a newer"):
        Ledger.open(tmp_path, "s")
    with RecordLog(_ledger_file(tmp_path)):
        pass  # the refusal let go of the file


def test_an_outcome_has_one_of_the_states() -> None:
    with pytest.raises(ValueError, match=r"state: must be one of finished, .*, got running"):
        Outcome("running")  # type: ignore[arg-type]


def test_a_history_keeps_the_metrics_it_is_asked_for_and_the_file_all(tmp_path: Path) -> None:
    """10,000 trials with sixty metrics each are 80 MB; the driver keeps what its search is told."""
    both = Outcome("finished", "", {"probe/top1": 0.5, "train/loss": 1.0}, 1, 2.0)
    with Ledger.open(tmp_path, "s", {"probe/top1", "absent"}) as ledger:
        ledger.planned("digest", {}, [trial(0), trial(1)])
        for seed in (0, 1):
            ledger.started(trial(seed), 1)
            ledger.ended(trial(seed).trial_id, both)
        kept = ledger.history.outcomes[trial(0).trial_id]
        assert kept == Outcome("finished", "", {"probe/top1": 0.5}, 1, 2.0)
    assert read_history(tmp_path, "s", ()).outcomes[trial(1).trial_id].metrics == {}
    assert read_history(tmp_path, "s").outcomes == {trial(0).trial_id: both, trial(1).trial_id: both}


def test_a_history_written_and_the_same_history_read_are_equal(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, "s") as ledger:
        ledger.planned("digest", {"study": "s"}, [trial(0)], ["search"])
        ledger.sampled(Sample("search", "cell", 0, {"temperature": 0.2}, (trial(1, 0.2),)))
        ledger.started(trial(0), 1)
        written = ledger.history
        assert read_history(tmp_path, "s") == written
        ledger.ended(trial(0).trial_id, Outcome("failed", "oom: killed", {"train/loss": 1.0}, 1, 2.0))
        assert read_history(tmp_path, "s") == written
