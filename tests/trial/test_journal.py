"""The journal: what a reader sees after resumes, kills and a full disk."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from hssl_ray.trial.durable import RecordLog, read_json, read_log, write_json
from hssl_ray.trial.journal import Journal, Record, last_metrics, read_records


def test_records_come_back_as_written(tmp_path: Path) -> None:
    written = [
        Record(1, {"train/loss": 0.1 + 0.2}),
        Record(2, {"train/loss": float("inf")}, "checkpoints/epoch-00002", 3),
    ]
    with Journal(tmp_path / "j") as journal:
        for record in written:
            journal.append(record)
        assert journal.records() == written
    assert read_records(tmp_path / "j") == written


def test_an_epoch_trained_again_counts_once(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        for epoch, attempt in ((1, 1), (2, 1), (3, 1), (2, 2), (3, 2), (4, 2)):
            journal.append(Record(epoch, {"v": attempt}, attempt=attempt))
    assert [(r.epoch, r.attempt) for r in read_records(tmp_path / "j")] == [(1, 1), (2, 2), (3, 2), (4, 2)]


def test_last_metrics_keep_what_only_one_epoch_has() -> None:
    records = [Record(1, {"a": 1.0, "b": 1.0}), Record(2, {"a": 2.0})]
    assert last_metrics(records) == {"a": 2.0, "b": 1.0}


def test_a_journal_has_one_writer_and_the_next_one_waits(tmp_path: Path) -> None:
    opened = threading.Event()

    def second() -> None:
        with Journal(tmp_path / "j"):
            opened.set()

    with Journal(tmp_path / "j"):
        waiting = threading.Thread(target=second)
        waiting.start()
        assert not opened.wait(0.2)
    assert opened.wait(5)
    waiting.join()


WRITER = """
    import sys
    from pathlib import Path
    from hssl_ray.trial.journal import Journal, Record
    with Journal(Path(sys.argv[1])) as journal:
        epoch = len(journal.records())
        while True:
            epoch += 1
            journal.append(Record(epoch, {"train/loss": 1.0 / epoch, "padding": 1e-300}, attempt=int(sys.argv[2])))
            print(epoch, flush=True)  # acknowledged
"""


@pytest.mark.faults
def test_a_killed_writer_loses_no_acknowledged_epoch(tmp_path: Path) -> None:
    """SIGKILL at no particular point, five times: epochs are 1..N without a gap, N at least the last acknowledged."""
    path = tmp_path / "j"
    for attempt in range(1, 6):
        writer = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(path), str(attempt)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(10 * attempt)]
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.readlines()
        writer.wait()
        writer.stdout.close()
        acknowledged = int([line for line in lines if line.endswith("\n")][-1])
        epochs = [record.epoch for record in read_records(path)]
        assert epochs == list(range(1, len(epochs) + 1))
        assert len(epochs) >= acknowledged


def test_a_line_that_does_not_fit_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills in the middle of a line: the error reaches the caller, and the file stays whole."""
    write, calls = os.write, []

    def full_disk(descriptor: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) == 1:
            return write(descriptor, data[:5])
        raise OSError(28, "No space left on device")

    with RecordLog(tmp_path / "log") as log:
        log.append({"n": 1})
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full_disk)
            with pytest.raises(OSError, match="No space left"):
                log.append({"n": 2})
        assert len(calls) == 2
        log.append({"n": 3})
    assert read_log(tmp_path / "log") == [{"n": 1}, {"n": 3}]


def test_a_file_is_replaced_at_once_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(tmp_path / "f.json", {"v": 1})

    def broken(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output"):
        write_json(tmp_path / "f.json", {"v": 2})
    assert read_json(tmp_path / "f.json") == {"v": 1}


def test_a_file_that_cannot_be_read_is_named_and_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read_json(tmp_path / "absent.json") is None
    assert caplog.text == ""
    (tmp_path / "half.json").write_text('{"v": ')
    assert read_json(tmp_path / "half.json") is None
    assert "half.json: cannot be read" in caplog.text
