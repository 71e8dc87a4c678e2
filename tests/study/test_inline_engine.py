"""The inline engine with a trial of no work: resume, failures, signals."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from hssl_ray.study.engine import ClusterError, TrialProgram
from hssl_ray.study.failures import TRACEBACK, cause_of, reason
from hssl_ray.study.inline_engine import InlineEngine
from hssl_ray.study.ledger import read_history
from hssl_ray.study.run import run_study
from hssl_ray.study.spec import Study
from hssl_ray.trial.checkpoint_files import CheckpointError
from hssl_ray.trial.journal import JOURNAL, read_records
from tests.study.engine_programs import PROGRAM, epochs_trained, latest_checkpoint, study, train, trial


def run(home: Path, asked: Study, program: TrialProgram = PROGRAM) -> dict[str, int]:
    return run_study(asked, home=home, engine=InlineEngine(program)).counts


def test_trials_run_in_order_and_leave_journal_config_and_outcome(tmp_path: Path) -> None:
    assert run(tmp_path, study(seeds=2)) == {"finished": 2}
    for seed in (0, 1):
        folder = tmp_path / "trials" / trial(seed).trial_id
        assert {path.name for path in folder.iterdir()} >= {"config.json", JOURNAL, "outcome.json", "checkpoints"}
        assert [record.metrics["train/loss"] for record in read_records(folder / JOURNAL)] == [
            1.0 + seed,
            0.5 + seed,
            1 / 3 + seed,
        ]


def test_failures_are_named_and_the_others_go_on(tmp_path: Path) -> None:
    broken, nan, full = (trial(temperature=value) for value in (0.5, 0.6, 0.8))
    assert run(tmp_path, study(temperatures=[0.5, 0.6, 0.1, 0.8])) == {"failed": 2, "diverged": 1, "finished": 1}
    outcomes = read_history(tmp_path, "fake").outcomes
    assert outcomes[broken.trial_id].reason == "error: RuntimeError: broken on purpose"
    assert outcomes[nan.trial_id].reason == "diverged: TrialDiverged: epoch 2: train/loss must stay finite, got nan"
    assert outcomes[full.trial_id].cause == "disk_full"
    text = (tmp_path / "trials" / broken.trial_id / TRACEBACK).read_text()
    assert "attempt 1" in text
    assert "_go_wrong" in text


def test_a_trial_resumes_from_its_checkpoint(tmp_path: Path) -> None:
    """Interrupted after epoch 3 with checkpoints at 2 and 4: epoch 3 is trained twice, epochs 1 and 2 once."""
    one = trial(epochs=5)

    def die_at_4(*args: object, **options: object) -> None:
        report = args[1]
        assert callable(report)

        def dying(metrics: dict[str, float], checkpoint: Path | None) -> None:
            report(metrics, checkpoint)
            if metrics["epoch"] == 3:
                raise RuntimeError("gone")

        train(args[0], dying, *args[2:], **options)  # type: ignore[arg-type]

    assert run(tmp_path, study(epochs=5), TrialProgram(die_at_4, latest_checkpoint)) == {"failed": 1}
    assert run(tmp_path, study(epochs=5)) == {"finished": 1}
    assert epochs_trained(tmp_path, one.trial_id) == [1, 2, 3, 3, 4, 5]
    records = read_records(tmp_path / "trials" / one.trial_id / JOURNAL)
    assert [(record.epoch, record.attempt) for record in records] == [(1, 1), (2, 1), (3, 2), (4, 2), (5, 2)]


@pytest.mark.parametrize("lost", [4, 3])
def test_a_checkpoint_ahead_of_the_journal_is_not_resumed_from(tmp_path: Path, lost: int) -> None:
    """Killed between checkpoint 4 and its record, or record 3 damaged: no epoch stays without a record."""
    one = trial(epochs=5)
    asked = study(epochs=5, checkpoints={"every_epochs": 2, "keep": 3})
    folder = tmp_path / "trials" / one.trial_id
    assert run(tmp_path, asked) == {"finished": 1}
    (folder / "outcome.json").unlink()
    (tmp_path / "studies" / "fake" / "ledger.jsonl").unlink()
    lines = (folder / JOURNAL).read_bytes().splitlines(keepends=True)
    (folder / JOURNAL).write_bytes(b"".join(lines[:lost]))
    (folder / "trained.txt").unlink()
    assert run(tmp_path, asked) == {"finished": 1}
    assert epochs_trained(tmp_path, one.trial_id) == [3, 4, 5]
    assert [record.epoch for record in read_records(folder / JOURNAL)] == [1, 2, 3, 4, 5]


SLOW = """
    import sys
    from pathlib import Path
    from hssl_ray.study.inline_engine import InlineEngine
    from hssl_ray.study.run import run_study
    from tests.study.engine_programs import PROGRAM, study
    summary = run_study(study(seeds=2, epochs=300), home=Path(sys.argv[1]), engine=InlineEngine(PROGRAM))
    print(summary.counts, flush=True)
    sys.exit(128 + summary.interrupted)
"""


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_in_order_and_the_trial_is_taken_up_again(tmp_path: Path, number: signal.Signals) -> None:
    environment = {**os.environ, "HSSL_TEST_EPOCH_SECONDS": "0.02"}
    driver = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SLOW), str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    )
    one = trial(0, epochs=300)
    while len(epochs_trained(tmp_path, one.trial_id)) < 5:
        assert driver.poll() is None
    driver.send_signal(number)
    output, _ = driver.communicate(timeout=10)
    assert driver.returncode == 128 + number
    assert output.strip() == "{'killed': 1, 'planned': 1}"
    outcome = read_history(tmp_path, "fake").outcomes[one.trial_id]
    assert (outcome.state, outcome.reason) == ("killed", f"interrupted: {number.name}")
    before = len(epochs_trained(tmp_path, one.trial_id))
    assert run(tmp_path, study(seeds=2, epochs=300)) == {"finished": 2}
    assert len(epochs_trained(tmp_path, one.trial_id)) <= 300 + 2
    assert before >= 5


def test_more_than_one_worker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"resources\.workers: the inline engine has 1, got 2"):
        run(tmp_path, study(resources={"workers": 2}))


class OutOfMemoryError(RuntimeError):
    """As accelerator libraries name theirs."""


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (MemoryError(), "oom"),
        (OutOfMemoryError("CUDA out of memory"), "oom"),
        (OSError(28, "No space left on device"), "disk_full"),
        (OSError(122, "Disk quota exceeded"), "disk_full"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "disk_full"),
        (
            RuntimeError("[gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:4510: Connection reset by peer."),
            "worker_lost",
        ),
        (CheckpointError("epoch-00002: differs from its manifest"), "damaged_checkpoint"),
        (OSError(2, "No such file"), "error"),
        (ValueError("bad"), "error"),
    ],
)
def test_a_cause_is_found_behind_wrappers(error: Exception, cause: str) -> None:
    assert cause_of(error) == cause
    try:
        raise RuntimeError("while saving") from error
    except RuntimeError as wrapped:
        assert cause_of(wrapped) == cause


def test_a_reason_is_one_short_line() -> None:
    assert reason("error", ValueError("first\nsecond")) == "error: ValueError: first"
    assert reason("error", ValueError()) == "error: ValueError"
    assert len(reason("error", ValueError("x" * 5000))) == 300
