"""`hssl-ray status STUDY --watch` as a process of its own: in a pipe, on a terminal, done, interrupted."""

import os
import pty
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hssl_ray.study.ledger import Ledger, Outcome
from hssl_ray.study.spec import load_study
from tests.study.ray_cluster import wait_until

STUDY = """\
# What is watched?
study: watched
base: {dataset: mnist-mini, epochs: 4, warmup_epochs: 1}
grid: {method: [a_ssl, h_ssl]}
seeds: 2
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "watched.yaml"
    path.write_text(STUDY)
    return path


def ledger_of(path: Path) -> Ledger:
    loaded = load_study(path)
    ledger = Ledger.open(Path(os.environ["HSSL_HOME"]), loaded.study)
    ledger.planned(loaded.digest, loaded.model_dump(mode="json"), loaded.planned())
    return ledger


def end_all(ledger: Ledger) -> None:
    for planned in ledger.history.planned:
        ledger.started(planned, 1)
        ledger.ended(planned.trial_id, Outcome("finished", metrics={"probe/ridge_top1": 0.9}))


def watch(path: Path) -> list[str]:
    return [sys.executable, "-m", "hssl_ray", "status", str(path), "--watch"]


def test_a_done_study_is_shown_once(study: Path) -> None:
    with ledger_of(study) as ledger:
        end_all(ledger)
    done = subprocess.run(watch(study), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and done.stderr == ""
    assert "4 of 4 trials finished." in done.stdout and "Done. Compare: " in done.stdout


@pytest.mark.slow
def test_in_a_pipe_changes_are_lines_and_the_end_of_the_run_is_the_end(study: Path) -> None:
    with ledger_of(study) as ledger:
        process = subprocess.Popen(watch(study), stdout=subprocess.PIPE, text=True, bufsize=1)
        lines: list[str] = []
        assert process.stdout is not None
        reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()))
        reader.start()
        wait_until(lambda: any(line.startswith("Run by process") for line in lines), 120, "the first look")
        end_all(ledger)
        wait_until(lambda: any("[4/4]" in line for line in lines), 60, "the last trial's line")
        assert process.poll() is None  # the driver still holds the study
    assert process.wait(60) == 0
    reader.join(10)
    process.stdout.close()
    assert lines[-1].strip() == "4 of 4 trials finished." and not any("\x1b" in line for line in lines)


def listen_to_ctrl_c() -> None:
    """Tests that a shell runs in the background inherit that Ctrl-C is ignored, and would hand it on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
def test_on_a_terminal_it_is_redrawn_and_ctrl_c_ends_it_well(study: Path) -> None:
    with ledger_of(study) as ledger:
        ledger.started(ledger.history.planned[0], 1)
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            watch(study),
            stdout=theirs,
            stderr=theirs,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
            preexec_fn=listen_to_ctrl_c,
        )
        os.close(theirs)
        shown = bytearray()

        def read() -> None:
            try:
                while data := os.read(ours, 4096):
                    shown.extend(data)
            except OSError:  # the other end is closed
                pass

        reader = threading.Thread(target=read)
        reader.start()
        try:
            wait_until(lambda: b"Running" in shown, 120, "the first look")
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()
            reader.join(10)
            os.close(ours)
    text = shown.decode()
    assert "0 of 4 trials finished; 1 running, 3 planned." in text and "\x1b[" in text and "Traceback" not in text


@pytest.mark.parametrize("other", ["--json", "--all"])
def test_what_cannot_be_watched_is_refused(study: Path, other: str) -> None:
    refused = subprocess.run([*watch(study), other], capture_output=True, text=True, timeout=120, check=False)
    assert refused.returncode == 2 and "--watch" in refused.stderr
