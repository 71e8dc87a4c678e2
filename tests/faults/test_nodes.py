"""F5: a node of two is lost, on this machine as two raylets."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hssl_ray.cli.codes import INVALID
from hssl_ray.cli.errors import exit_code
from hssl_ray.study.engine import ClusterError
from hssl_ray.study.layout import trial_folder
from hssl_ray.study.ledger import Outcome
from hssl_ray.trial.durable import read_log
from hssl_ray.trial.journal import JOURNAL, read_records
from hssl_ray.trial.pulse import Seen, read_pulses
from tests.faults.chaos import only_in_chaos
from tests.faults.table import Table
from tests.study.engine_programs import HOLD, SECONDS, epochs_trained, study
from tests.study.ray_cluster import RAYS, Driver, Head, started_head, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.slow]

# A cluster gives a silent node up after 15 s or so; a user may set this for a head, as here.
QUICK = {
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "3",
}


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with started_head(cpus=2, start=RAYS, **QUICK, **{SECONDS: "0.5"}) as started:
        yield started


@dataclass(frozen=True)
class Node:
    id: str
    raylet: int


@contextmanager
def joined(head: Head, cpus: int, hidden: Path | None = None) -> Iterator[Node]:
    """A second node of the head's cluster; for its processes an empty folder may lie over one of this machine."""
    command = [sys.executable, "-m", "tests.faults.node", str(cpus)]
    if hidden is not None:
        over = f'mount -t tmpfs none "{hidden}" && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", over, "sh", *command]
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        command, env=head.environment, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, "the node did not start"
        said = json.loads(line)
        yield Node(said["node"], said["raylet"])
    finally:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()


may_mount = pytest.mark.skipif(
    subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0,
    reason="mount namespaces are for root",
)


def workers_on(home: Path, trials: list[str], node: str) -> list[Seen]:
    return [
        seen
        for one in trials
        for attempt in (1, 2, 3)
        for seen in read_pulses(trial_folder(home, one), attempt)
        if seen.node == node
    ]


def test_trials_move_to_the_node_that_is_left(head: Head, tmp_path: Path, seed: int, figures: Table) -> None:
    """Two of four trials run on the node that is lost; they are told as lost with it, and go on at their checkpoint."""
    asked: dict[str, Any] = {"seeds": [10 * seed + number for number in range(4)], "epochs": 12}
    trials = [one.trial_id for one in study(**asked).planned()]
    driver = Driver(tmp_path / "home", head.environment)
    with joined(head, cpus=2) as node:
        process = driver.start(**asked)

        def under_way() -> bool:
            here = workers_on(driver.home, trials, node.id)
            return process.poll() is not None or (
                bool(here) and all(len(epochs_trained(driver.home, one)) > 3 for one in trials)
            )

        wait_until(under_way, 200, "all trials train")
        there = [one for one in trials if workers_on(driver.home, [one], node.id)]
        os.kill(node.raylet, signal.SIGKILL)
        lost_at = time.time()
        output, _ = process.communicate(timeout=400)
    assert json.loads(output.strip().splitlines()[-1]) == {"finished": 4}, output
    ended = [event for event in read_log(driver.home / "studies/fake/ledger.jsonl") if event["event"] == "ended"]
    moved = [one for one in there if driver.history().outcomes[one].attempt > 1]  # the others had done their last epoch
    reasons = {one: [e["outcome"]["reason"] for e in ended if e["trial_id"] == one][:-1] for one in trials}
    assert moved and [one for one, given in reasons.items() if given] == moved
    for first, *more in (reasons[one] for one in moved):
        assert first.startswith("node_lost: ")
        # The next attempt may be handed a process of the same node, whose end nobody has noticed yet.
        assert set(more) <= {"interrupted: its process was gone before it began"}
    for one in trials:
        records = read_records(trial_folder(driver.home, one) / JOURNAL)
        assert [record.epoch for record in records] == list(range(1, 13))
        assert len(epochs_trained(driver.home, one)) - 12 <= (2 if one in moved else 0)  # a checkpoint each two epochs
        if one in moved:
            again = min(record.time for record in records if record.attempt > 1)
            figures.time("F5", "from the kill to the end of the next epoch", again - lost_at, "")
    figures.bad("F5", "trials lost", 0, 4)


@only_in_chaos
def test_a_trial_goes_on_with_the_workers_that_are_left(head: Head, tmp_path: Path) -> None:
    """Four workers on two nodes, then two on one: `min_workers` allows it, and the journal has every epoch once."""
    asked: dict[str, Any] = {"epochs": 8, "resources": {"workers": 4, "min_workers": 1}}
    (one,) = (planned.trial_id for planned in study(**asked).planned())
    driver = Driver(tmp_path / "home", head.environment)
    journal = trial_folder(driver.home, one) / JOURNAL
    with joined(head, cpus=2) as node:
        process = driver.start("ddp", **asked)
        wait_until(lambda: process.poll() is not None or len(read_records(journal)) >= 2, 300, "four workers train")
        os.kill(node.raylet, signal.SIGKILL)
        output, _ = process.communicate(timeout=400)
    assert json.loads(output.strip().splitlines()[-1]) == {"finished": 1}, output
    records = read_records(journal)
    assert [record.epoch for record in records] == list(range(1, 9))
    assert [record.metrics["world"] for record in records] == [
        4.0 if record.attempt == 1 else 2.0 for record in records
    ]
    assert records[-1].attempt > 1


@may_mount
def test_a_node_that_does_not_share_the_home_is_refused_before_the_first_trial(head: Head, tmp_path: Path) -> None:
    """By its name, and nothing is lost. In the test of trials that move, a node that shares it gets two of four."""
    asked: dict[str, Any] = {"seeds": 4}
    driver = Driver(tmp_path / "home", head.environment)
    driver.home.mkdir()
    with joined(head, cpus=2, hidden=driver.home) as node:
        process = driver.start(**asked)
        output, _ = process.communicate(timeout=200)
    assert process.returncode != 0 and exit_code(ClusterError()) == INVALID
    said = f"ClusterError: home: must be one folder for all nodes of the cluster, {driver.home} is not on 1 of 2"
    assert said in output
    assert f"{node.id[:8]}: another folder (seen-" in output and "No such file or directory" in output
    assert not (driver.home / "trials").exists()
    assert len(driver.history().planned) == 4 and not driver.history().attempts


@may_mount
def test_a_node_that_joins_with_a_home_of_its_own_trains_nothing(head: Head, tmp_path: Path) -> None:
    """No trial is finished whose journal the driver's home lacks; without the node the study goes on and is whole."""
    asked: dict[str, Any] = {"seeds": 6, "epochs": 4}
    trials = [one.trial_id for one in study(**asked).planned()]
    driver = Driver(tmp_path / "home", head.environment)
    driver.home.mkdir()
    process = driver.start(**asked)

    def ended() -> Collection[Outcome]:
        return driver.history().outcomes.values()

    wait_until(
        lambda: process.poll() is not None or any(epochs_trained(driver.home, one) for one in trials), 200, "one trains"
    )
    (driver.home / HOLD).touch()  # a node takes its time to join, and the study is not to end before that
    with joined(head, cpus=2, hidden=driver.home) as node:
        wait_until(
            lambda: process.poll() is not None or any(one.cause == "foreign_home" for one in ended()),
            200,
            "one is refused",
        )
        (driver.home / HOLD).unlink()
        output, _ = process.communicate(timeout=400)
    assert f"{driver.home}: not shared by all nodes; no more trials are started" in output
    assert f"(foreign_home: {driver.home} on node {node.id} of " in output
    outcomes = driver.history().outcomes
    refused = [one for one, outcome in outcomes.items() if outcome.cause == "foreign_home"]
    finished = [one for one, outcome in outcomes.items() if outcome.state == "finished"]
    assert refused and len(refused) <= 2 and len(finished) < 6
    for one in finished:
        assert [record.epoch for record in read_records(trial_folder(driver.home, one) / JOURNAL)] == list(range(1, 5))

    again = driver.start(**asked)
    output, _ = again.communicate(timeout=400)
    assert json.loads(output.strip().splitlines()[-1]) == {"finished": 6}, output
    assert all(epochs_trained(driver.home, one) == list(range(1, 5)) for one in refused)
