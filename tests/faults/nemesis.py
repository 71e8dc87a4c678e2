"""Runs a study with `hssl-ray run` while a seeded schedule of faults strikes it, and looks at what is left.

Where trials have several workers, any of their ranks is struck.
"""

from __future__ import annotations

import os
import random
import secrets
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from hssl_ray.trial.journal import JOURNAL, written
from hssl_ray.trial.pulse import Seen, read_pulses
from tests.study.ray_cluster import MARK, processes

LONGEST_SECONDS = 900.0  # without progress
FAULTS = ("worker", "driver", "signal", "checkpoint", "tracking")


@dataclass
class Struck:
    """One fault that struck."""

    kind: str
    trial: str = ""
    recovered: float | None = None
    """Seconds until the trial trained again, or the driver had ended."""
    code: int | None = None
    """The driver's exit code, after a signal."""


@dataclass
class Nemesis:
    """One study under one seed.

    Args:
        home: an empty folder, `HSSL_HOME`.
        study: the study's file.
        name: its name.
        seed: of the schedule.
        strikes: how many faults strike, unless the study ends before.
        pause: mean seconds from one to the next.
    """

    home: Path
    study: Path
    name: str
    seed: int
    strikes: int
    pause: float
    struck: list[Struck] = field(default_factory=list)
    heads: set[str] = field(default_factory=set)
    """Temporary folders of the clusters that were started."""
    mark: str = field(default_factory=lambda: secrets.token_hex(8))
    drivers: int = 0

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)
        self._driver: subprocess.Popen[bytes] | None = None

    # ---- the schedule

    def run(self) -> int:
        """Strike so often, then let the study finish. Returns the last driver's exit code."""
        last = time.monotonic()
        kinds = self._kinds()
        while True:
            self._ensure_driver()
            assert self._driver is not None
            due = last + self._draw.uniform(0.5, 1.5) * self.pause
            while self._driver.poll() is None and (time.monotonic() < due or not self._training()):
                self._note_head()
                time.sleep(0.05)
                assert time.monotonic() - last < LONGEST_SECONDS, self.log()
            code = self._driver.poll()
            if code is not None or len(self.struck) >= self.strikes:
                return self._wait_for_end(self._driver)
            self._strike(next(kinds))
            last = time.monotonic()

    def _wait_for_end(self, driver: subprocess.Popen[bytes]) -> int:
        """The driver's exit code, however long what is left of the study takes, as long as it gets on."""
        said, last = 0, time.monotonic()
        while (code := driver.poll()) is None:
            if (now := (self.home / "drivers.log").stat().st_size) != said:
                said, last = now, time.monotonic()
            assert time.monotonic() - last < LONGEST_SECONDS, self.log()
            time.sleep(0.2)
        return code

    def end(self) -> None:
        """End every process that is left."""
        for process in processes(self.mark):
            os.kill(process, signal.SIGKILL)

    def log(self) -> str:
        """What the drivers said."""
        return (self.home / "drivers.log").read_text()

    def _kinds(self) -> Iterator[str]:
        """Every kind once in a random order, and again."""
        while True:
            yield from self._draw.sample(FAULTS, len(FAULTS))

    def _ensure_driver(self) -> None:
        if self._driver is not None:
            return
        self.drivers += 1
        self.home.mkdir(parents=True, exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "TUNE_"))}
        with (self.home / "drivers.log").open("a") as log:
            self._driver = subprocess.Popen(
                [sys.executable, "-m", "hssl_ray", "run", str(self.study)],
                env=kept | {"HSSL_HOME": str(self.home), MARK: self.mark, "RAY_USAGE_STATS_ENABLED": "0"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _note_head(self) -> None:
        head = self.home / "studies" / self.name / "engine" / "head"
        if head.exists():
            self.heads.add(head.read_text())

    def _training(self) -> list[tuple[str, Seen]]:
        """Trials that train now, and their workers."""
        found = []
        for folder in (self.home / "trials").glob("*/pulse"):
            lines = written(folder.parent / JOURNAL)
            attempts = range(1, 2 + max((line["attempt"] for line in lines), default=0) + len(self.struck))
            alive = [
                seen
                for one in attempts
                for seen in read_pulses(folder.parent, one)
                if Path(f"/proc/{seen.pid}").exists()
            ]
            found += [(folder.parent.name, seen) for seen in alive]
        return found

    # ---- faults

    def _strike(self, kind: str) -> None:
        assert self._driver is not None
        training = self._training()
        if not training:
            return
        trial, worker = self._draw.choice(training)
        fault = Struck(kind, trial)
        self.struck.append(fault)
        at = time.monotonic()
        match kind:
            case "worker":
                os.kill(worker.pid, signal.SIGKILL)
                fault.recovered = self._until_trained(trial, worker.attempt, at)
            case "driver":
                self._driver.kill()
                self._driver.wait()
                self._driver = None
            case "signal":
                self._driver.send_signal(self._draw.choice((signal.SIGTERM, signal.SIGINT)))
                fault.code = self._driver.wait(120)
                fault.recovered = time.monotonic() - at
                self._driver = None
            case "checkpoint":
                self._damage(trial)
                os.kill(worker.pid, signal.SIGKILL)
            case "tracking":
                with closing(sqlite3.connect(self.home / "mlflow.db", timeout=60, isolation_level=None)) as store:
                    store.execute("BEGIN EXCLUSIVE")
                    time.sleep(self._draw.uniform(2, 4))

    def _until_trained(self, trial: str, killed: int, since: float) -> float | None:
        """Seconds until a later attempt than the killed one trains the trial; None if the study ended before."""
        assert self._driver is not None
        while self._driver.poll() is None:
            if any(name == trial and seen.attempt > killed for name, seen in self._training()):
                return time.monotonic() - since
            if (self.home / "trials" / trial / "outcome.json").exists():
                return None  # it had trained its last epoch
            time.sleep(0.05)
            assert time.monotonic() - since < LONGEST_SECONDS, self.log()
        return None

    def _damage(self, trial: str) -> None:
        """Flip one bit of a trial's newest checkpoint."""
        committed = sorted((self.home / "trials" / trial / "checkpoints").glob("epoch-?????"))
        if committed:
            weights = committed[-1] / "weights.safetensors"
            content = bytearray(weights.read_bytes())
            content[self._draw.randrange(len(content))] ^= 1 << self._draw.randrange(8)
            weights.write_bytes(content)
