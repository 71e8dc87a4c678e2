"""`ray job stop` (F4) and fifty studies one after the other (F31), on one head."""

import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from hssl_ray.study.ledger import read_history
from hssl_ray.trial.pulse import FOLDER
from tests.cli.mlflow_store import mlflow_runs
from tests.faults.chaos import only_in_chaos
from tests.faults.table import Table
from tests.study.engine_programs import epochs_trained, trial
from tests.study.ray_cluster import MARK, Driver, Head, processes, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.slow]

STUDIES = 50
LONG = """\
study: long
base: {train_images: 200, batch_size: 50, width: 0.125, epochs: 400, warmup_epochs: 1, optimizer: adamw}
grid: {method: [frozen, h_ssl]}
seeds: 2
checkpoints: {every_epochs: 1}
compare: {baseline: frozen}
"""


def test_a_job_that_is_stopped_leaves_nothing_running(head: Head, tmp_path: Path, figures: Table) -> None:
    """`ray job stop` sends SIGTERM, and SIGKILL three seconds later."""
    home, folder = tmp_path / "home", tmp_path / "job"
    folder.mkdir()
    (folder / "long.yaml").write_text(LONG)
    ray = str(Path(sys.executable).with_name("ray"))
    client = {name: value for name, value in head.environment.items() if name != "RAY_ADDRESS"}

    def job(*words: str) -> str:
        command = [ray, "job", words[0], "--address", head.dashboard, *words[1:]]
        done = subprocess.run(command, env=client, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    entry = [sys.executable, "-m", "hssl_ray", "run", "long.yaml"]
    where = json.dumps({"env_vars": {"HSSL_HOME": str(home)}})
    asked = ["--working-dir", ".", "--runtime-env-json", where, "--submission-id", "long", "--no-wait"]
    job("submit", *asked, "--", *entry)
    wait_until(lambda: len(list(home.glob(f"trials/*/{FOLDER}/0"))) == 2, 120, "two trials train")
    wait_until(lambda: len(list(home.glob("trials/*/journal.jsonl"))) == 2, 120, "two trials train")
    since = time.monotonic()
    job("stop", "long")

    def ended() -> bool:
        states = Counter(outcome.state for outcome in read_history(home, "long").outcomes.values())
        return states == {"killed": 2}

    wait_until(ended, 10, "both trials are recorded as killed")
    wait_until(lambda: not list(home.glob(f"trials/*/{FOLDER}/0")) or not _training(home), 10, "their processes end")
    seconds = time.monotonic() - since
    orphans = sum(run.status == "RUNNING" for run in mlflow_runs(home))
    figures.time("F4", "from `ray job stop` to the end", seconds, "<= 10")
    figures.bad("F4", "runs left RUNNING by `ray job stop`", orphans, 3)
    assert orphans == 0


def _training(home: Path) -> list[int]:
    pids = [json.loads(path.read_text())["pid"] for path in home.glob(f"trials/*/{FOLDER}/0")]
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


@only_in_chaos
def test_short_studies_leave_nothing_behind(head: Head, tmp_path: Path, figures: Table) -> None:
    """Processes, shared memory and temporary files are after the last study what they were after the first."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    driver = Driver(tmp_path / "home", head.environment | {"TMPDIR": str(temporary)})

    def run(number: int) -> None:
        assert driver.run(seeds=[number], epochs=1, name=f"short{number}") == {"finished": 1}
        assert epochs_trained(driver.home, trial(number, epochs=1).trial_id) == [1]

    def left() -> dict[str, int]:
        mine = processes(head.environment[MARK])
        return {
            "processes": len(mine),
            "shared memory": sum(_maps(process).count("/dev/shm/") for process in mine),
            "temporary files": len(list(temporary.iterdir())),
        }

    run(0)
    time.sleep(3)  # an idle process is kept for a second
    before, descriptors = left(), _descriptors(head)
    for number in range(1, STUDIES):
        run(number)
    wait_until(lambda: all(now <= before[what] for what, now in left().items()), 30, f"back to {before}: {left()}")
    after = left()
    for what, count in before.items():
        figures.bad("F31", f"{what} more after {STUDIES} studies", max(0, after[what] - count), STUDIES)
    figures.share("F31", "open files of the head more, each study", (_descriptors(head) - descriptors) / STUDIES, "< 1")
    assert _descriptors(head) - descriptors < STUDIES


def _maps(process: int) -> str:
    try:
        return Path(f"/proc/{process}/maps").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _descriptors(head: Head) -> int:
    """Open files of the processes that outlive a study."""
    count = 0
    for process in processes(head.environment[MARK]):
        command = Path(f"/proc/{process}/cmdline").read_bytes()
        if b"gcs_server" in command or b"/raylet" in command:
            count += len(list(Path(f"/proc/{process}/fd").glob("*")))
    return count
