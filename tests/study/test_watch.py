"""A study watched from outside: what a look shows, that it reads only what is new, and who is said to run it."""

import json
import multiprocessing
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hssl_ray.report.watched import Commands, Watched, count, duration, news
from hssl_ray.study.layout import study_folder, trial_folder
from hssl_ray.study.lease import SILENT_SECONDS
from hssl_ray.study.ledger import LEDGER, LOCK, Ledger, Outcome
from hssl_ray.study.results import results_table
from hssl_ray.study.watch import Look, StudyWatch
from hssl_ray.trial.durable import LogTail, RecordLog, encode, read_log
from hssl_ray.trial.journal import JOURNAL, Journal, Record
from tests.study.engine_programs import trial

METRIC = "probe/top1"


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def shown(look: Look, total: int = 3) -> Watched:
    return Watched("s", total, False, METRIC, look, count(look, "s"), Commands("RUN", "COMPARE"))


@contextmanager
def journal(home: Path, seed: int) -> Iterator[Journal]:
    with Journal(trial_folder(home, trial(seed).trial_id) / JOURNAL) as opened:
        yield opened


# ---- the tail of a log


def test_a_log_read_in_pieces_is_the_log(tmp_path: Path) -> None:
    """However its bytes arrive, also in the middle of a line: each record once, in order."""
    whole = b"".join(encode({"n": n, "text": "x" * n}) for n in range(20))
    path, found = tmp_path / "log", list[dict[str, Any]]()
    tail = LogTail(path)
    assert tail.new() == []  # not there yet
    for start in range(0, len(whole), 37):
        with path.open("ab") as file:
            file.write(whole[start : start + 37])
        found += tail.new() or []
    assert found == read_log(path) and len(found) == 20
    assert tail.new() == []


def test_a_log_that_was_taken_back_or_replaced_is_read_anew(tmp_path: Path) -> None:
    """A line that could not be flushed is cut off again, and another one of the same length may follow."""
    path = tmp_path / "log"
    tail = LogTail(path)
    path.write_bytes(encode({"n": 1}) + encode({"n": 2}))
    assert tail.new() == [{"n": 1}, {"n": 2}]
    path.write_bytes(encode({"n": 1}) + encode({"n": 3}))
    assert tail.new() is None and tail.new() == [{"n": 1}, {"n": 3}]
    path.unlink()
    assert tail.new() is None and tail.new() == []


def test_a_damaged_line_is_named_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "log"
    path.write_bytes(encode({"n": 1}) + encode({"n": 2}).replace(b"2}", b"7}") + encode({"n": 3}))
    assert LogTail(path).new() == [{"n": 1}, {"n": 3}]
    assert "damaged line" in caplog.text


# ---- looks


def test_a_look_shows_what_the_files_say(tmp_path: Path) -> None:
    """A trial before, during and after its training; the states are those of the results table."""
    clock, wall = Clock(), Clock()
    watching = StudyWatch(tmp_path, "s", METRIC, clock=clock, wall=wall)
    assert watching.look().trials == {}
    with Ledger.open(tmp_path, "s", outbox=lambda: 7) as ledger:
        first, second, third = trial(0), trial(1), trial(2)
        ledger.planned("d", {}, [first, second, third])
        ledger.started(first, 1)
        ledger.started(second, 1)
        with journal(tmp_path, 0) as one:
            one.append(Record(1, {METRIC: 0.5, "train/loss": 2.0}))
            look = watching.look()
            assert [(run.trial.name, run.epoch) for run in look.running] == [(first.name, 1), (second.name, 0)]
            assert shown(look).counted.states == {"running": 2, "planned": 1}
            assert look.driver is not None and look.driver.unsynced == 7 and look.alive
            one.append(Record(2, {METRIC: 0.75}))
        look = watching.look()
        assert look.running[0].epoch == 2 and look.running[0].metrics == {METRIC: 0.75, "train/loss": 2.0}
        assert look.best["h_ssl"].value == 0.75
        wall.now = look.driver.since + 60.0 if look.driver else 0.0
        ledger.ended(first.trial_id, Outcome("finished", metrics={METRIC: 0.625}))
        look = watching.look()
        assert [(ended.trial_id, outcome.state) for ended, outcome in look.ended] == [(first.trial_id, "finished")]
        assert look.best["h_ssl"].value == 0.75 and watching.look().ended == ()
        table = results_table(tmp_path, "s")
        states = dict(zip(table["trial_id"].to_pylist(), table["state"].to_pylist(), strict=True))
        assert {trial_id: state for trial_id, (state, _) in look.states.items()} == states
        assert look.done == 1.0 and look.left == 2.0 and look.seconds == 60.0
        assert "1 trials a minute; about 2 min left." in shown(look).sentences()
        assert "MLflow lacks 7 writes, which wait." in shown(look).sentences()
    assert not watching.look().alive and watching.look().states[second.trial_id][0] == "killed"


def test_a_look_reads_only_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a thousand trials that ended, no byte is read again, and none of their journals at all."""
    read = list[int]()
    new = LogTail.new

    def counted(self: LogTail) -> list[dict[str, Any]] | None:
        found = new(self)
        read.append(len(found or []))
        return found

    monkeypatch.setattr(LogTail, "new", counted)
    trials = [trial(seed) for seed in range(1000)]
    folder = study_folder(tmp_path, "s")
    with Ledger.open(tmp_path, "s") as ledger:
        ledger.planned("d", {}, trials)
        events = [{"event": "started", "trial_id": one.trial_id, "attempt": 1, "time": 1.0} for one in trials] + [
            {"event": "ended", "trial_id": one.trial_id, "time": 2.0, "outcome": {"state": "finished"}}
            for one in trials[:-1]
        ]
        with (folder / LEDGER).open("ab") as file:
            file.write(b"".join(map(encode, events)))
        watching = StudyWatch(tmp_path, "s", METRIC)
        assert shown(watching.look()).counted.states == {"finished": 999, "running": 1}
        assert read == [2001, 0]  # the ledger; the one journal that there may be
        read.clear()
        states = watching.look().states
        assert read == [0, 0]
        ledger.ended(trials[-1].trial_id, Outcome("finished"))
        look = watching.look()
        assert read[2:] == [1] and look.states is not states
        assert watching.look().states is look.states


def test_a_ledger_put_back_is_read_from_its_beginning(tmp_path: Path) -> None:
    """As when a home is brought from its mirror under a watcher's eyes."""
    path = study_folder(tmp_path, "s") / LEDGER
    with Ledger.open(tmp_path, "s") as ledger:
        ledger.planned("d", {}, [trial(0), trial(1)])
    watching = StudyWatch(tmp_path, "s", METRIC)
    assert len(watching.look().trials) == 2
    path.unlink()
    with Ledger.open(tmp_path, "s") as ledger:
        ledger.planned("e", {}, [trial(2)])
    assert list(watching.look().trials) == [trial(2).trial_id]


# ---- who runs it


def hold(home: Path, ready: Any) -> None:
    Ledger.open(home, "s")
    ready.set()
    time.sleep(600)


def test_a_driver_that_was_killed_is_said_to_be_gone(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=hold, args=(tmp_path, ready))
    with Ledger.open(tmp_path, "s") as ledger:
        ledger.planned("d", {}, [trial(0)])
    holder.start()
    try:
        assert ready.wait(120)
        watching = StudyWatch(tmp_path, "s", METRIC)
        assert shown(watching.look()).driver() == f"Run by process {holder.pid} on {socket.gethostname()}."
    finally:
        holder.kill()
        holder.join()
    assert shown(watching.look()).driver() == (
        f"process {holder.pid} on {socket.gethostname()} ran it and is gone. Go on: RUN"
    )


@pytest.mark.parametrize(("host", "says"), [("elsewhere", "go on from any machine: RUN"), (None, "it is stopped")])
def test_a_silent_driver_is_not_called_dead_but_named(tmp_path: Path, host: str | None, says: str) -> None:
    clock = Clock()
    with Ledger.open(tmp_path, "s") as ledger:
        ledger.planned("d", {}, [trial(0)])
        lock = study_folder(tmp_path, "s") / LOCK
        held = json.loads(lock.read_text()) | ({"host": host, "born": None} if host else {})
        lock.write_text(json.dumps(held))
        watching = StudyWatch(tmp_path, "s", METRIC, clock=clock)
        watching.look()
        clock.now = SILENT_SECONDS - 1
        lock.write_text(json.dumps(held))
        assert says not in shown(watching.look()).driver()
        clock.now = SILENT_SECONDS + 1
        lock.write_text(json.dumps(held))
        assert says in shown(watching.look()).driver()
        lock.write_text(json.dumps(held | {"beats": held["beats"] + 1}))
        assert says not in shown(watching.look()).driver()
        lock.write_text(json.dumps(held | {"host": socket.gethostname(), "pid": os.getpid()}))


# ---- lines


def test_every_change_is_a_line_and_no_change_is_none(tmp_path: Path) -> None:
    watching = StudyWatch(tmp_path, "s", METRIC)
    first, second = trial(0), trial(1)
    with Ledger.open(tmp_path, "s") as ledger:
        ledger.planned("d", {}, [first, second])
        looks = [shown(watching.look(), 2)]
        assert news(None, looks[0])[0] == "0 of 2 trials finished; 2 planned."

        def lines() -> list[str]:
            looks.append(shown(watching.look(), 2))
            return news(looks[-2], looks[-1])

        assert lines() == []
        ledger.started(first, 1)
        assert lines() == [f"{first.name}: started"]
        with journal(tmp_path, 0) as one:
            one.append(Record(1, {"train/loss": 2.5}))
        assert lines() == [f"{first.name}: epoch 1 of 3 train/loss 2.5"]
        assert lines() == []
        ledger.ended(first.trial_id, Outcome("failed", "worker_lost: gone"))
        assert lines() == [f"[1/2] {first.name}: failed  (worker_lost: gone)"]
        ledger.started(first, 2)
        assert lines() == [f"{first.name}: started, attempt 2, at epoch 1 of 3"]
        ledger.ended(first.trial_id, Outcome("finished", metrics={METRIC: 0.5}))
        ledger.started(second, 1)
        ledger.ended(second.trial_id, Outcome("finished", metrics={METRIC: 0.25}))
        assert lines() == [
            f"[1/2] {first.name}: finished  {METRIC} 0.5",
            f"[2/2] {second.name}: finished  {METRIC} 0.25",
        ]
        assert not looks[-1].done
    assert lines() == ["Done. Compare: COMPARE"] and looks[-1].done


def test_durations_are_read_at_a_glance() -> None:
    assert [duration(s) for s in (40, 720, 12_000, 200_000)] == ["40 s", "12 min", "3 h 20 min", "2 d 7 h"]


def test_the_log_of_the_tests_is_a_record_log(tmp_path: Path) -> None:
    """`encode` is what `RecordLog` writes, or the tests above would read another format."""
    with RecordLog(tmp_path / "log") as log:
        log.append({"n": 1})
    assert (tmp_path / "log").read_bytes() == encode({"n": 1})
