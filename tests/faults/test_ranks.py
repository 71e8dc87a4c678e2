"""Workers that are killed, hang, run out of memory or of numbers, on one Ray: F1, F2, F16, F17, F18, F30."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from hssl_ray.study.layout import trial_folder
from hssl_ray.study.ledger import Outcome
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.durable import read_log
from hssl_ray.trial.journal import JOURNAL, written
from tests.faults.broken_program import FAULTS
from tests.faults.peace import furthest, weights_in_peace, weights_of
from tests.faults.table import Table
from tests.study.engine_programs import study
from tests.study.ray_cluster import Driver, Head

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.slow]

EPOCHS, STEPS = 4, 4  # of a trial, of an epoch
HANG_SECONDS = 15.0  # a machine may be so slow that a step takes several
BASE = {
    "train_images": 200,
    "batch_size": 50,
    "width": 0.125,
    "epochs": EPOCHS,
    "warmup_epochs": 1,
    "optimizer": "adamw",
    "learning_rate": 0.003,
    "precision": "fp32",
}


class Struck:
    """A study of one trial for each list of faults, run by a driver of its own."""

    def __init__(self, head: Head, home: Path, faults: list[list[dict[str, Any]]], workers: int) -> None:
        self.home = home
        asked: dict[str, Any] = {
            "seeds": len(faults),
            "base": BASE,
            "checkpoints": {"every_epochs": 1},
            "resources": {"workers": workers},
            "resilience": {"hang_seconds": HANG_SECONDS, "max_retries": 2},
        }
        self.trials = tuple(study(**asked).planned())
        home.mkdir(parents=True)
        plan = {one.trial_id: struck for one, struck in zip(self.trials, faults, strict=True)}
        (home / FAULTS).write_text(json.dumps(plan))
        self.driver = Driver(home, head.environment)
        self.counts = self.driver.run("broken", **asked)
        self.outcomes = self.driver.history().outcomes

    def __getitem__(self, number: int) -> TrialConfig:
        return self.trials[number].config

    def outcome(self, number: int) -> Outcome:
        return self.outcomes[self.trials[number].trial_id]

    def folder(self, number: int) -> Path:
        return trial_folder(self.home, self.trials[number].trial_id)

    def steps(self, number: int, rank: int = 0) -> list[tuple[float, int]]:
        """When each step was begun, over all attempts, and by which process."""
        lines = (line.split() for line in (self.folder(number) / f"steps-{rank}").read_text().splitlines())
        return [(float(at), int(pid)) for at, pid in lines]

    def recovery(self, number: int, kind: str) -> float:
        """Seconds from a fault to the first step of the next attempt."""
        struck = float((self.folder(number) / f"struck-{kind}").read_text())
        before = {pid for at, pid in self.steps(number) if at <= struck}
        return min(at for at, pid in self.steps(number) if at > struck and pid not in before) - struck

    def repeated(self, number: int) -> float:
        """Epochs trained twice."""
        return (len(self.steps(number)) - EPOCHS * STEPS) / STEPS

    def causes(self, number: int) -> list[str]:
        """Of every attempt that failed, in order."""
        events = read_log(self.home / "studies/fake/ledger.jsonl")
        ended = [event for event in events if event["event"] == "ended" and event["trial_id"] == self[number].trial_id]
        return [event["outcome"]["reason"].partition(":")[0] for event in ended if event["outcome"]["reason"]]

    def weights(self, number: int) -> dict[str, torch.Tensor]:
        return weights_of(self.folder(number), self[number])


def test_one_worker(head: Head, tmp_path: Path, seed: int, figures: Table) -> None:
    """Five trials, two at a time: killed, stopped (SIGSTOP), NaN, out of memory, and one that nothing happens to."""
    draw = random.Random(seed)
    steps = [draw.randint(STEPS + 1, (EPOCHS - 1) * STEPS) for _ in range(4)]
    kinds = ("kill", "stop", "nan", "oom")
    faults: list[list[dict[str, Any]]] = [
        [{"kind": kind, "step": step}] for kind, step in zip(kinds, steps, strict=True)
    ]
    ran = Struck(head, tmp_path / "home", [*faults, []], workers=1)
    assert [ran.outcome(number).state for number in range(5)] == [
        "finished",
        "finished",
        "diverged",
        "failed",
        "finished",
    ]
    assert [ran.outcome(number).attempt for number in range(5)] == [2, 2, 1, 1, 1]
    assert [ran.causes(number) for number in range(5)] == [["worker_lost"], ["hung"], ["diverged"], ["oom"], []]

    figures.time("F2", "from the kill to the next step", ran.recovery(0, "kill"), "<= 10 (median)")
    figures.share("F2", "epochs trained twice", ran.repeated(0), "<= 1")
    assert ran.repeated(0) <= 1 and ran.repeated(1) <= 1  # all of it where the last step of an epoch was struck
    late = ran.recovery(1, "stop") - HANG_SECONDS
    figures.time("F18", "beyond the time-out until a stopped worker's next step", late, "")
    wasted = len(ran.steps(2)) - steps[2]
    figures.bad("F16", "steps after a NaN", wasted, 1)
    assert wasted == 0
    figures.bad("F17", "wrong causes or siblings lost", int(ran.causes(3) != ["oom"]), 1)

    different = 0
    for number in (0, 1, 4):
        ours, theirs = ran.weights(number), weights_in_peace(tmp_path / "peace", ran[number], 1)
        different += not all(torch.equal(ours[name], theirs[name]) for name in theirs)
    figures.bad("F30", "trials of one worker that differ by a bit", different, 3)
    assert different == 0


def test_two_workers(head: Head, tmp_path: Path, seed: int, figures: Table) -> None:
    """A trial with a rank that is killed and, in its next attempt, one that sleeps; and a trial with an infinite loss
    on one rank while the other's is finite."""
    draw = random.Random(seed)
    rank, late = draw.randint(0, 1), (EPOCHS - 1) * STEPS
    kill, inf = ({"kind": kind, "rank": rank, "step": draw.randint(STEPS + 1, late)} for kind in ("kill", "inf"))
    # Of the attempt after the kill, which has two epochs left at least.
    sleep = {"kind": "sleep", "rank": draw.randint(0, 1), "step": draw.randint(STEPS + 1, 2 * STEPS)}
    ran = Struck(head, tmp_path / "home", [[kill, sleep], [inf]], workers=2)
    assert ran.counts == {"finished": 1, "diverged": 1}
    assert [ran.causes(number) for number in range(2)] == [["worker_lost", "hung"], ["diverged"]]
    assert [line["epoch"] for line in written(ran.folder(0) / JOURNAL)] == [1, 2, 3, 4], "no epoch was ended twice"
    figures.time("F1", "from the kill to the next step", ran.recovery(0, "kill"), "<= 10 (median)")
    figures.share("F1", "epochs trained twice, of a kill and a hang", ran.repeated(0), "<= 2")
    assert ran.repeated(0) <= 2
    beyond = ran.recovery(0, "sleep") - HANG_SECONDS
    figures.time("F18", "beyond the time-out until a sleeping rank's trial trains again", beyond, "")
    wasted = max(len(ran.steps(1, rank)) - int(inf["step"]) for rank in (0, 1))
    figures.bad("F16", "steps of any rank after one of them has an infinite loss", wasted, 1)
    assert wasted == 0

    difference = furthest(ran.weights(0), weights_in_peace(tmp_path / "peace", ran[0], 2))
    figures.share("F30", "largest difference of a weight, two workers", difference, "<= 1e-6")
    assert difference <= 1e-6


def test_nothing_of_the_trials_is_left_on_the_cluster(head: Head) -> None:
    """After both studies: every core is free and no placement group remains, those of killed trials included."""
    script = """
import json, time, ray
ray.init(log_to_driver=False, logging_level="ERROR")
from ray.util import placement_group_table
deadline = time.monotonic() + 20
while time.monotonic() < deadline:
    free = ray.available_resources().get("CPU", 0)
    groups = [one["state"] for one in placement_group_table().values() if one["state"] != "REMOVED"]
    if free == 2 and not groups:
        break
    time.sleep(0.2)
print(json.dumps([free, groups]))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        env=head.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [2.0, []]
