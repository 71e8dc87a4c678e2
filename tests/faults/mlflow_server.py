"""A real `mlflow server` on loopback that a test may stop and start again, and what a study left in it."""

import math
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from urllib.request import urlopen

from hssl_ray.study.layout import trial_folder
from hssl_ray.study.spec import PlannedTrial
from hssl_ray.study.tracker.tracked import points
from hssl_ray.trial.journal import JOURNAL, read_records
from tests.ports import free_port

START_SECONDS = 120


@dataclass
class MlflowServer:
    """Started as the documentation says, on a port and a database that stay while it is stopped."""

    folder: Path
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def database(self) -> Path:
        return self.folder / "server.db"

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, and wait until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.database}"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        log = self.folder / "server.log"
        with log.open("a") as output:
            self._process = subprocess.Popen(
                command, stdout=output, stderr=output, cwd=self.folder, env=environment, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            assert self._process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)

    def answers(self) -> bool:
        try:
            with urlopen(f"{self.uri}/health", timeout=2) as answer:
                return int(answer.status) == 200
        except OSError:
            return False

    def stop(self) -> None:
        """SIGTERM, as an operator would."""
        if self._process is None:
            return
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:  # it waits for connections that nobody closes
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
        self._process = None

    def __enter__(self) -> "MlflowServer":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


@dataclass(frozen=True)
class Kept:
    """What a store has of some trials, held against their journals."""

    points: int
    missing: int
    doubled: int
    runs: Counter[str]
    """Runs by trial."""
    statuses: Counter[str]


RUNS = "SELECT t.value, r.run_uuid, r.status FROM runs r JOIN tags t USING (run_uuid) WHERE t.key = 'hssl.trial_id'"
POINTS = "SELECT run_uuid, key, step, value, is_nan FROM metrics"


def kept(database: Path, home: Path, trials: Iterable[PlannedTrial]) -> Kept:
    """Compare every point of every journal with MLflow's SQLite database."""
    with closing(sqlite3.connect(database)) as store:
        rows = store.execute(RUNS + " AND r.lifecycle_stage = 'active'").fetchall()
        found = store.execute(POINTS).fetchall()
    expected, there = Counter[tuple[str, str, int, str]](), Counter[tuple[str, str, int, str]]()
    ids = set()
    for trial in trials:
        ids.add(trial.trial_id)
        for record in read_records(trial_folder(home, trial.trial_id) / JOURNAL):
            for point in points(record):
                expected[trial.trial_id, point.key, point.step, repr(point.value)] += 1
    mine = {run: (trial, status) for trial, run, status in rows if trial in ids}
    for run, key, step, value, is_nan in found:
        if run in mine:
            there[mine[run][0], key, step, repr(math.nan if is_nan else value)] += 1
    return Kept(
        points=expected.total(),
        missing=(expected - there).total(),
        doubled=(there - expected).total(),
        runs=Counter(trial for trial, _ in mine.values()),
        statuses=Counter(status for _, status in mine.values()),
    )
