"""F12-F15: MLflow away, gone, slow, broken or crowded, while studies run as if nothing were."""

import json
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from hssl_ray.cli import app
from hssl_ray.study.engine import Report, Summary, TrialProgram
from hssl_ray.study.inline_engine import InlineEngine
from hssl_ray.study.run import run_study
from hssl_ray.study.spec import Study, load_study
from hssl_ray.study.tracker.mlflow_store import initialise
from hssl_ray.study.tracking import MlflowTracker
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.journal import JOURNAL, Journal, Record
from tests.faults.chaos import CHAOS
from tests.faults.mlflow_server import MlflowServer, kept
from tests.faults.proxy import MODES, Proxy
from tests.faults.sqlite_writers import DRIVERS, EPOCHS, METRICS
from tests.faults.table import Table
from tests.ports import free_port
from tests.study import engine_programs as programs

pytestmark = pytest.mark.faults
OUTAGE_SECONDS = 30.0 if CHAOS else 4.0
EPOCH_SECONDS = 0.03


@contextmanager
def meanwhile(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Do some work on another thread; it is told when the block has ended, and its error is raised here."""
    ended, errors = threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            work(ended)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if errors:
        raise errors[0]


class Timed:
    """The stand-in program with a dozen metrics; how long its epochs and the tracker's calls took, by `phase`."""

    def __init__(self) -> None:
        self.phase = ""
        self.epochs: dict[str, list[float]] = {}
        self.calls: dict[str, list[float]] = {}

    def train(self, config: TrialConfig, report: Report, resume: Path | None = None, **options: Any) -> None:
        since = time.perf_counter()

        def timed(metrics: dict[str, float], checkpoint: Path | None) -> None:
            nonlocal since
            phase = self.phase
            report({**metrics, **{f"more/{n}": metrics["epoch"] * n for n in range(10)}}, checkpoint)
            self.epochs.setdefault(phase, []).append(time.perf_counter() - since)
            since = time.perf_counter()

        programs.train(config, timed, resume, **options)

    def watched(self, tracker: MlflowTracker) -> Any:
        """The tracker as an observer whose calls are timed."""
        timed = self

        class Watched:
            def __getattr__(self, name: str) -> Callable[..., None]:
                def call(*arguments: Any) -> None:
                    since = time.perf_counter()
                    getattr(tracker, name)(*arguments)
                    timed.calls.setdefault(timed.phase, []).append(time.perf_counter() - since)

                return call

        return Watched()

    def run(self, study: Study, home: Path, tracker: MlflowTracker) -> Summary:
        engine = InlineEngine(TrialProgram(self.train, programs.latest_checkpoint))
        return run_study(study, home=home, engine=engine, observers=[self.watched(tracker)])


def p99(seconds: list[float]) -> float:
    return sorted(seconds)[int(0.99 * (len(seconds) - 1))]


def test_an_outage_costs_no_point_and_no_time(
    mlflow_server: MlflowServer, tmp_path: Path, seed: int, figures: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F12: SIGTERM to the server in the middle of a study, and a new one later."""
    monkeypatch.setenv(programs.SECONDS, str(EPOCH_SECONDS))
    epochs = round((OUTAGE_SECONDS + 8) / 3 / EPOCH_SECONDS)
    study = programs.study(seeds=[10 * seed, 10 * seed + 1, 10 * seed + 2], epochs=epochs, name=f"f12-{seed}")
    timed, chance, home = Timed(), random.Random(seed), tmp_path / "home"

    def outage(ended: threading.Event) -> None:
        timed.phase = "there"
        time.sleep(2 + 2 * chance.random())
        mlflow_server.stop()
        timed.phase = "away"
        time.sleep(OUTAGE_SECONDS)
        timed.phase = "back"
        mlflow_server.start()

    tracker = MlflowTracker(mlflow_server.uri, home)
    with meanwhile(outage):
        summary = timed.run(study, home, tracker)
    assert tracker.drain(60) and tracker.close(1)
    assert summary.counts == {"finished": 3}
    found = kept(mlflow_server.database, home, study.planned())
    figures.bad("F12", "metric points missing afterwards", found.missing, found.points)
    waited = 1000 * p99(timed.calls["away"])
    slower = 1000 * (p99(timed.epochs["away"]) - p99(timed.epochs["there"]))
    figures.time("F12", "p99 of what tracking adds to a report while it is away", waited, "< 50 ms", "ms")
    figures.time("F12", "p99 of an epoch's time, away less there", slower, "< 50 ms", "ms")
    assert (found.missing, found.doubled) == (0, 0)
    assert set(found.runs.values()) == {1} and found.statuses == {"FINISHED": 3}
    assert waited < 50


def test_a_server_that_never_comes_back_leaves_a_study_that_can_be_sent(
    mlflow_server: MlflowServer, tmp_path: Path, seed: int, figures: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F13: `run` ends with 5 and names `sync`; `sync` fails while it is away, then sends all of it, once."""
    monkeypatch.setattr("hssl_ray.study.program.PROGRAM", programs.PROGRAM)
    monkeypatch.setattr("hssl_ray.study.tracking.PATIENCE_SECONDS", 0.5)
    home = tmp_path / "home"
    file = tmp_path / "gone.yaml"
    file.write_text(
        f"study: f13-{seed}\nbase: {{dataset: mnist-mini, epochs: 20, warmup_epochs: 0}}\n"
        f"grid: {{temperature: [0.1, 0.5]}}\nseeds: [{seed}, {seed + 100}]\n"
    )
    trials = list(load_study(file).planned())
    dead = f"http://ann:s3cret@127.0.0.1:{free_port()}"
    ended = hssl_ray("run", str(file), "--engine", "inline", tracking=dead)
    assert ended.exit_code == 4, ended.output  # temperature 0.5 fails on purpose
    assert re.search(rf"Send them when it answers: \S*hssl-ray sync {re.escape(str(file))}", ended.output)
    assert "s3cret" not in ended.output

    well = tmp_path / "well.yaml"
    well.write_text(
        f"study: f13-well-{seed}\nbase: {{dataset: mnist-mini, epochs: 2, warmup_epochs: 0}}\n"
        f"compare: {{baseline: frozen, against: h_ssl}}\ngrid: {{method: [frozen, h_ssl]}}\nseeds: [{seed}]\n"
    )
    assert hssl_ray("run", str(well), "--engine", "inline", tracking=dead).exit_code == 5

    away = hssl_ray("sync", str(file), tracking=dead)
    assert away.exit_code == 5 and "still lacks" in away.output and "s3cret" not in away.output
    sent = hssl_ray("sync", str(file), tracking=mlflow_server.uri)
    assert sent.exit_code == 0, sent.output
    found = kept(mlflow_server.database, home, trials)
    figures.bad("F13", "points that `sync` did not send", found.missing, found.points)
    # the runs of four trials, two cells and the study
    assert f"sent 7 runs, {found.points} points, 4 outcomes" in sent.output
    assert (found.missing, found.doubled) == (0, 0) and set(found.runs.values()) == {1}
    assert found.statuses == {"FINISHED": 2, "FAILED": 2}

    again = hssl_ray("sync", "--all", tracking=mlflow_server.uri)
    assert again.exit_code == 0 and f"f13-{seed}: nothing was missing" in again.output
    assert kept(mlflow_server.database, home, trials) == found
    assert "no run as running" in hssl_ray("reconcile", str(file), tracking=mlflow_server.uri).output


def hssl_ray(*arguments: str, tracking: str) -> Result:
    """The command line in this process, where MLflow is imported already."""
    return CliRunner().invoke(app, list(arguments), env={"MLFLOW_TRACKING_URI": tracking})


def test_a_server_that_answers_badly_loses_nothing(
    mlflow_server: MlflowServer, tmp_path: Path, seed: int, figures: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F14: late, 500, 429, reset and half answers, one after the other and mixed, while a study runs."""
    monkeypatch.setenv(programs.SECONDS, str(EPOCH_SECONDS))
    seconds = 3.0 if CHAOS else 1.5
    study = programs.study(
        seeds=[10 * seed + n for n in range(4)], epochs=round(6 * seconds / 4 / EPOCH_SECONDS), name=f"f14-{seed}"
    )
    modes = [*MODES, "mixed"]
    random.Random(seed).shuffle(modes)
    timed, home = Timed(), tmp_path / "home"
    with Proxy(mlflow_server.port, seed) as proxy:

        def trouble(ended: threading.Event) -> None:
            for mode in modes:
                proxy.mode = mode
                ended.wait(seconds)

        tracker = MlflowTracker(f"http://127.0.0.1:{proxy.port}", home)
        with meanwhile(trouble):
            summary = timed.run(study, home, tracker)
        served = dict(proxy.served)
        proxy.mode = "mixed"  # and so to the end
        time.sleep(seconds)
        proxy.mode = "pass"
        assert tracker.drain(60) and tracker.close(1)
    assert summary.counts == {"finished": 4}
    found = kept(mlflow_server.database, home, study.planned())
    figures.bad("F14", "metric points missing afterwards", found.missing, found.points)
    waited = 1000 * p99(timed.calls[""])
    figures.time("F14", "p99 of what tracking adds to a report", waited, "< 50 ms", "ms")
    assert sum(count for mode, count in served.items() if mode != "pass") >= 5, served
    assert (found.missing, found.doubled) == (0, 0), served
    assert set(found.runs.values()) == {1} and found.statuses == {"FINISHED": 4}
    assert waited < 50


def test_sixteen_drivers_share_one_sqlite_store(tmp_path: Path, seed: int, figures: Table) -> None:
    """F15: 16 trackers, four to a process, every epoch a write of its own."""
    home = tmp_path / "home"
    initialise(f"sqlite:///{home}/mlflow.db", home)
    command = [sys.executable, "-W", "ignore", "-m", "tests.faults.sqlite_writers", str(home)]
    writers = [
        subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    told = []
    for writer in writers:
        out, err = writer.communicate(timeout=280)
        assert writer.returncode == 0, err
        told.append(json.loads(out))
    trials = [programs.trial(number, epochs=EPOCHS) for number in range(4 * DRIVERS)]
    found = kept(home / "mlflow.db", home, trials)
    locked = sum("locked" in line for one in told for line in one["said"])
    figures.bad("F15", "points lost", found.missing, found.points)
    figures.bad("F15", "writes that met `database is locked`", locked, EPOCHS * len(trials))
    slowest = max(one["seconds"] for one in told)
    figures.share("F15", "points written a second", found.points / slowest, "measured", "/s")
    assert [one["unsynced"] for one in told] == [[True] * DRIVERS] * 4, told
    assert found.points == EPOCHS * METRICS * len(trials) >= (10_000 if CHAOS else 2_000)
    assert (found.missing, found.doubled) == (0, 0)
    assert set(found.runs.values()) == {1} and found.statuses == {"FINISHED": len(trials)}


def test_the_check_of_points_can_fail(tmp_path: Path) -> None:
    """A point that MLflow never got is missing, and one of another value is one too many."""
    home, trial = tmp_path / "home", programs.trial()
    uri = f"sqlite:///{home}/mlflow.db"
    initialise(uri, home)
    tracker = MlflowTracker(uri, home)
    tracker.study_opened(programs.study(), 1)
    tracker.trial_started(trial, 1)
    tracker.trial_reported(trial, Record(1, {"train/loss": 1.0}))
    assert tracker.close(60)
    with Journal(home / "trials" / trial.trial_id / JOURNAL) as journal:
        journal.append(Record(1, {"train/loss": 2.0, "probe/top1": 0.5}))
    found = kept(home / "mlflow.db", home, [trial])
    assert (found.points, found.missing, found.doubled, found.statuses) == (2, 2, 1, {"RUNNING": 1})
