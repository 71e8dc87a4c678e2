"""Ledger and journal: killed in the middle of a write, damaged in the middle of the file, written by other versions."""

import json
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from hssl_ray.cli.codes import INCOMPATIBLE
from hssl_ray.cli.errors import exit_code
from hssl_ray.study.inline_engine import InlineEngine
from hssl_ray.study.layout import trial_folder
from hssl_ray.study.ledger import LEDGER, OUTCOME, Ledger, Outcome, read_history, shared_outcome
from hssl_ray.study.run import run_study
from hssl_ray.trial.durable import NewerFormat, encode, read_log
from hssl_ray.trial.journal import JOURNAL, Journal, Record, check_journal, read_records
from tests.faults.children import Acknowledge, child
from tests.faults.table import Table
from tests.study.engine_programs import PROGRAM, epochs_trained, study, trial

pytestmark = pytest.mark.faults
ROUNDS = 50
FIXTURES = Path(__file__).parent / "formats"


def lost(path: Path, acknowledged: int) -> int:
    """Acknowledged epochs that a reader does not find, and gaps."""
    epochs = [record.epoch for record in read_records(path)]
    return len(set(range(1, max(acknowledged, *epochs, 0) + 1)) - set(epochs))


def test_f8_a_journal_killed_at_every_step_keeps_what_was_acknowledged(
    tmp_path: Path, seed: int, figures: Table
) -> None:
    """One journal through fifty kills, each at another call; every attempt goes on where the last one was cut."""
    path, draw = tmp_path / "j", random.Random(seed)
    padding = "x" * draw.randrange(1, 3000)

    def train(acknowledge: Acknowledge) -> None:
        with Journal(path) as journal:
            done = len(journal.records())
            for epoch in range(done + 1, done + 12):
                journal.append(Record(epoch, {"train/loss": 1.0 / epoch, padding: 1.0}))
                acknowledge(epoch)

    bad, kills, last = 0, 0, 0
    for step in range(1, ROUNDS + 1):
        ended = child(train, die_at=1 + step % 24)
        kills += ended.killed
        last = max([last, *ended.acknowledged])
        bad += lost(path, last) > 0
    assert kills >= 40
    figures.bad("F8", "journal: kills that lost an acknowledged epoch", bad, ROUNDS)
    assert bad == 0


def test_the_count_above_finds_a_loss(tmp_path: Path) -> None:
    """An epoch that is acknowledged before it is written is lost by a kill in between: one of two calls, the other
    being the flush."""

    def careless(acknowledge: Acknowledge) -> None:
        with Journal(path) as journal:
            for epoch in range(1, 30):
                acknowledge(epoch)
                journal.append(Record(epoch, {}))

    losses = 0
    for step in (20, 21):
        path = tmp_path / str(step)
        ended = child(careless, die_at=step)
        assert ended.killed
        losses += lost(path, ended.acknowledged[-1])
    assert losses == 1


def test_f8_a_ledger_killed_at_every_step_keeps_what_was_acknowledged(tmp_path: Path, figures: Table) -> None:
    def drive(acknowledge: Acknowledge) -> None:
        with Ledger.open(tmp_path, "s") as ledger:
            done = len(ledger.history.outcomes)
            for number in range(done, done + 3):
                ledger.started(trial(number), 1)
                ledger.ended(trial(number).trial_id, Outcome("finished", metrics={"epoch": float(number)}))
                acknowledge(number)

    bad, kills, last = 0, 0, -1
    for step in range(1, ROUNDS + 1):
        ended = child(drive, die_at=step)
        kills += ended.killed
        last = max([last, *ended.acknowledged])
        known = read_history(tmp_path, "s").outcomes
        bad += not {trial(number).trial_id for number in range(last + 1)} <= known.keys()
    assert kills >= 40
    figures.bad("F8", "ledger: kills that lost an acknowledged outcome", bad, ROUNDS)
    assert bad == 0


# ---- damage in the middle


def flip(path: Path, line: int, draw: random.Random) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    broken = bytearray(lines[line])
    broken[draw.randrange(len(broken) - 1)] ^= 1
    path.write_bytes(b"".join([*lines[:line], broken, *lines[line + 1 :]]))


def test_a_damaged_event_anywhere_in_a_ledger_costs_no_trial_and_no_epoch(
    tmp_path: Path, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    """`planned` lost: planned again. `started` or `ended` lost: the outcome beside the trial stands for it."""
    run_study(study(seeds=2), home=tmp_path, engine=InlineEngine(PROGRAM))
    ledger = tmp_path / "studies" / "fake" / LEDGER
    whole, draw = ledger.read_bytes(), random.Random(seed)
    kinds = [record["event"] for record in read_log(ledger)]
    assert kinds == ["ledger", "planned", "started", "ended", "started", "ended"]
    for line in range(len(kinds)):
        ledger.write_bytes(whole)
        flip(ledger, line, draw)
        caplog.clear()
        summary = run_study(study(seeds=2), home=tmp_path, engine=InlineEngine(PROGRAM))
        assert summary.counts == {"finished": 2}
        assert f"{LEDGER}:{line + 1}: damaged line" in caplog.text
        for one in (trial(0), trial(1)):
            assert epochs_trained(tmp_path, one.trial_id) == [1, 2, 3]


def test_a_damaged_newline_parts_no_record_from_its_reader(tmp_path: Path) -> None:
    """Two records on one line are read; the last one, its newline damaged, is not taken for a torn tail."""
    with Journal(tmp_path / "j") as journal:
        for epoch in (1, 2, 3):
            journal.append(Record(epoch, {}))
    whole = (tmp_path / "j").read_bytes()
    ends = [at for at, byte in enumerate(whole) if byte == 10]
    for end in ends:
        (tmp_path / "j").write_bytes(whole[:end] + b"\x0b" + whole[end + 1 :])
        assert [record.epoch for record in read_records(tmp_path / "j")] == [1, 2, 3]
        with Journal(tmp_path / "j") as journal:
            journal.append(Record(4, {}))
        assert [record.epoch for record in read_records(tmp_path / "j")] == [1, 2, 3, 4]


def test_a_damaged_outcome_is_left_out_and_written_again(tmp_path: Path, seed: int) -> None:
    with Ledger.open(tmp_path, "s") as ledger:
        ledger.ended(trial().trial_id, Outcome("finished", metrics={"probe/top1": 0.5}))
        path = trial_folder(tmp_path, trial().trial_id) / OUTCOME
        content = bytearray(path.read_bytes())
        content[content.index(b"0.5")] ^= 1
        path.write_bytes(bytes(content))
        assert shared_outcome(tmp_path, trial().trial_id) is None
        ledger.ended(trial().trial_id, Outcome("finished", metrics={"probe/top1": 0.5}))
    found = shared_outcome(tmp_path, trial().trial_id)
    assert found is not None and found.metrics == {"probe/top1": 0.5}


# ---- other versions


def test_f27_files_of_every_past_format_are_read_as_they_were_meant(tmp_path: Path, figures: Table) -> None:
    """`formats/` holds what past versions wrote; `meant.json` beside it what they meant."""
    misread = 0
    for folder in sorted(FIXTURES.glob("logs-*")):
        meant: dict[str, Any] = json.loads((folder / "meant.json").read_text())
        home = tmp_path / folder.name
        one = trial_folder(home, meant["trial_id"])
        one.mkdir(parents=True)
        (home / "studies" / "old").mkdir(parents=True)
        for name in (JOURNAL, OUTCOME):
            (one / name).write_bytes((folder / name).read_bytes())
        (home / "studies" / "old" / LEDGER).write_bytes((folder / LEDGER).read_bytes())
        history, outcome = read_history(home, "old"), shared_outcome(home, meant["trial_id"])
        found = {
            "trial_id": meant["trial_id"],
            "digest": history.digest,
            "planned": list(history.trials()),
            "outcomes": {name: asdict(one) for name, one in history.outcomes.items()},
            "outcome": outcome and asdict(outcome),
            "records": [asdict(record) for record in read_records(one / JOURNAL)],
        }
        misread += found != meant
    figures.bad("F27", "logs of past formats misread", misread, len(list(FIXTURES.glob("logs-*"))))
    assert misread == 0
    assert len(list(FIXTURES.glob("logs-*"))) >= 2


def test_f27_logs_of_a_newer_format_are_refused_before_anything_starts(tmp_path: Path, figures: Table) -> None:
    asked, one = study(seeds=1), trial()
    workdir = trial_folder(tmp_path, one.trial_id)
    refused = 0

    def refuses() -> bool:
        with pytest.raises(NewerFormat, match="newer hssl-ray") as caught:
            run_study(asked, home=tmp_path, engine=InlineEngine(PROGRAM))
        return exit_code(caught.value) == INCOMPATIBLE

    with Ledger.open(tmp_path, "fake") as ledger:
        ledger.started(one, 1)
    (workdir / JOURNAL).write_bytes(encode({"format": 2}) + encode({"epoch": 1, "what": "nobody knows"}))
    refused += refuses()
    with pytest.raises(NewerFormat):
        check_journal(workdir / JOURNAL)
    (workdir / JOURNAL).unlink()
    (workdir / OUTCOME).write_bytes(encode({"format": 2, "outcome": {}}))
    refused += refuses()
    (workdir / OUTCOME).unlink()
    ledger_file = tmp_path / "studies" / "fake" / LEDGER
    whole = ledger_file.read_bytes()
    ledger_file.write_bytes(encode({"event": "ledger", "format": 2}))
    refused += refuses()
    ledger_file.write_bytes(whole + encode({"event": "unheard of"}))
    refused += refuses()
    ledger_file.write_bytes(whole)
    figures.bad("F27", "logs of a newer format not refused with exit 6", 4 - refused, 4)
    assert refused == 4
    assert not (workdir / "trained.txt").exists()
    assert run_study(asked, home=tmp_path, engine=InlineEngine(PROGRAM)).counts == {"finished": 1}
