"""The Ray engine on real clusters of two CPUs. Drivers run as processes of their own, as a user's would."""

import json
import re
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, OutOfMemoryError
from ray.train import WorkerGroupError

from hssl_ray.study.engine import ClusterError
from hssl_ray.study.file.sections import Resources
from hssl_ray.study.layout import trial_folder
from hssl_ray.study.ray.placement import concurrent_trials, workers_now
from hssl_ray.study.ray.settings import (
    DRIVER,
    EVERYWHERE,
    LOCAL,
    TRIALS,
    check_address,
    check_authentication,
    own_address,
    prepare,
)
from hssl_ray.study.ray.trials import RankFailed, group_ending
from hssl_ray.trial.durable import read_log
from hssl_ray.trial.journal import JOURNAL, read_records
from tests.study.engine_programs import SECONDS, epochs_trained, trial
from tests.study.ray_cluster import MARK, Driver, Head, wait_until


@pytest.fixture
def driver(head: Head, tmp_path: Path) -> Driver:
    return Driver(tmp_path / "home", head.environment)


# ---- without a cluster


@pytest.mark.parametrize(
    ("nodes", "asked", "trials"),
    [
        ([{"CPU": 2.0}], {}, 2),
        ([{"CPU": 2.0}], {"cpus_per_worker": 0.5}, 4),
        ([{"CPU": 2.0}], {"workers": 2}, 1),
        ([{"CPU": 3.0}, {"CPU": 3.0}], {"cpus_per_worker": 2}, 2),  # one core is left over on each node
        ([{"CPU": 3.0}, {"CPU": 3.0}], {"workers": 3}, 2),
        ([{"CPU": 16.0, "GPU": 4.0}], {"gpus_per_worker": 1}, 4),
        ([{"CPU": 2.0, "GPU": 4.0}], {"gpus_per_worker": 1}, 2),
        ([{"CPU": 16.0, "GPU": 1.0}], {"workers": 2, "gpus_per_worker": 0.5}, 1),
        ([{"CPU": 16.0}, {"CPU": 16.0, "GPU": 2.0}], {"gpus_per_worker": 1}, 2),
        ([{"CPU": 3.0}], {"workers": 4, "min_workers": 2}, 1),
    ],
)
def test_concurrency_is_what_the_scarcest_resource_holds(
    nodes: list[dict[str, float]], asked: dict[str, Any], trials: int
) -> None:
    assert concurrent_trials(nodes, Resources(**asked)) == trials


@pytest.mark.parametrize(
    ("nodes", "asked"),
    [
        ([{"CPU": 2.0}], {"workers": 3}),
        ([{"CPU": 2.0}, {"CPU": 2.0}], {"cpus_per_worker": 4}),  # four cores, but no node has them
        ([{"CPU": 2.0}], {"gpus_per_worker": 1}),
    ],
)
def test_a_trial_that_never_fits_is_refused(nodes: list[dict[str, float]], asked: dict[str, Any]) -> None:
    with pytest.raises(
        ClusterError, match=r"resources: \d workers with \d CPUs and \d GPUs each must fit into the cluster"
    ):
        concurrent_trials(nodes, Resources(**asked))


@pytest.mark.parametrize(
    ("nodes", "asked", "batch_size", "workers"),
    [
        ([{"CPU": 2.0}, {"CPU": 2.0}], {"workers": 4}, 64, 4),
        ([{"CPU": 2.0}], {"workers": 4, "min_workers": 1}, 64, 2),
        ([{"CPU": 3.0}], {"workers": 4, "min_workers": 1}, 64, 2),  # three do not share the batch evenly
        ([{"CPU": 3.0}], {"workers": 4, "min_workers": 1}, 66, 3),
        ([{"CPU": 1.0}], {"workers": 4, "min_workers": 2}, 64, 2),  # Ray waits for the second
        ([{"CPU": 2.0}], {"workers": 4}, 64, 4),  # for all
        ([{"CPU": 8.0}], {"workers": 4, "min_workers": 1}, 66, 4),  # refused by the trial, as it would be anywhere
    ],
)
def test_an_attempt_takes_the_workers_that_there_are(
    nodes: list[dict[str, float]], asked: dict[str, Any], batch_size: int, workers: int
) -> None:
    assert workers_now(nodes, Resources(**asked), batch_size) == workers


def test_settings_leave_alone_what_the_user_has_set() -> None:
    variables = {"RAY_AUTH_MODE": "disabled"}
    prepare(variables)
    assert variables == EVERYWHERE | TRIALS | DRIVER | LOCAL | {"RAY_AUTH_MODE": "disabled"}


@pytest.mark.parametrize(
    ("address", "here"),
    [("", True), ("auto", True), ("127.0.0.1:6379", True), ("localhost:6379", True), ("10.0.0.1:6379", False)],
)
def test_loopback_is_for_heads_on_this_machine(address: str, here: bool) -> None:
    variables = {"RAY_ADDRESS": address}
    prepare(variables)
    assert (variables.keys() >= LOCAL.keys()) is here


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("ray://127.0.0.1:10001", "must be HOST:PORT or auto, got ray://"),
        ("http://127.0.0.1:8265", "must be HOST:PORT or auto, got http://"),
        ("somewhere", "must be HOST:PORT or auto, got somewhere"),
        ("127.0.0.1:1", r"no Ray answers at 127\.0\.0\.1:1 \(Connection refused\)"),
    ],
)
def test_an_address_without_a_cluster_is_refused_at_once(address: str, says: str) -> None:
    with pytest.raises(ClusterError, match="^RAY_ADDRESS: " + says):
        check_address(address)


@pytest.fixture
def dashboard() -> Iterator[str]:
    """Answers as the dashboard of a cluster without authentication."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path == "/api/authentication_mode"
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(b'{"authentication_mode": "disabled"}' if known else b"")

        def log_message(self, *arguments: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_cluster_that_authenticates_otherwise_is_refused(dashboard: str) -> None:
    check_authentication(dashboard, "disabled")
    with pytest.raises(
        ClusterError, match="RAY_AUTH_MODE: must be that of the cluster at RAY_ADDRESS, disabled, got token"
    ):
        check_authentication(dashboard, "token")


def test_a_dashboard_that_does_not_answer_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    check_authentication("127.0.0.1:1", "token")
    assert "does not say how its cluster authenticates" in caplog.text


def test_an_own_address_ends_with_its_head() -> None:
    variables: dict[str, str] = {}
    with own_address(variables):
        assert re.fullmatch(r"127\.0\.0\.1:\d+", variables["RAY_ADDRESS"])
        assert variables["RAY_ADDRESS"].endswith(f":{variables['RAY_GCS_SERVER_PORT']}")
    assert variables == {}


# ---- one worker


@pytest.mark.ray
def test_trials_end_as_they_should_and_the_lost_one_comes_back(driver: Driver) -> None:
    """Of six trials three finish, one raises, one diverges, one loses its process at epoch 2, before a checkpoint."""
    counts = driver.run(temperatures=[0.1, 0.2, 0.3, 0.5, 0.6, 0.7])
    assert counts == {"finished": 4, "failed": 1, "diverged": 1}
    outcomes = driver.history().outcomes
    healthy, broken, diverged, again = (trial(0, temperature) for temperature in (0.1, 0.5, 0.6, 0.7))
    assert outcomes[healthy.trial_id].attempt == 1
    assert outcomes[broken.trial_id].reason == "error: RuntimeError: broken on purpose"
    assert "_go_wrong" in (trial_folder(driver.home, broken.trial_id) / "failure.txt").read_text()
    assert outcomes[diverged.trial_id].cause == "diverged"
    assert outcomes[again.trial_id].attempt == 2
    assert epochs_trained(driver.home, again.trial_id) == [1, 1, 2, 3]
    records = read_records(trial_folder(driver.home, again.trial_id) / JOURNAL)
    assert [(record.epoch, record.attempt) for record in records] == [(1, 2), (2, 2), (3, 2)]
    lost = [
        event["outcome"]["reason"]
        for event in read_log(driver.home / "studies/fake/ledger.jsonl")
        if "outcome" in event
    ]
    assert sum(reason.startswith("worker_lost: ") for reason in lost) == 1
    assert not (driver.home / "studies" / "fake" / "engine").exists()


@pytest.mark.ray
def test_trials_on_a_cluster_that_is_there_have_the_home_of_their_driver(driver: Driver) -> None:
    """Not the one that the cluster was started with: they would look for the driver's data in another folder."""
    assert driver.environment["HSSL_HOME"] != str(driver.home)
    job = {"runtime_env": {"env_vars": {"HSSL_HOME": "/of/the/job"}}}  # as `ray job submit --runtime-env-json` puts it
    cases: list[tuple[float, dict[str, str]]] = [(0.1, {}), (0.2, {"RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps(job)})]
    for temperature, variables in cases:
        asking = replace(driver, environment=driver.environment | {"HSSL_NATIVE": "0"} | variables)
        assert asking.run("telling", temperatures=[temperature]) == {"finished": 1}
        told = trial_folder(driver.home, trial(0, temperature).trial_id) / "told.txt"
        assert told.read_text() == f"{driver.home} 0"


@pytest.mark.ray
def test_an_early_stop_leaves_the_process_to_the_next_trial(driver: Driver) -> None:
    """One trial at a time; every one after the first is stopped at epoch 1, and all of them train in one process."""
    early_stop = {"grace_epochs": 1, "reduction_factor": 2, "metric": "train/loss", "goal": "minimize"}
    counts = driver.run(seeds=5, epochs=4, early_stop=early_stop, resources={"cpus_per_worker": 2})
    assert counts == {"finished": 1, "pruned": 4}
    files = [trial_folder(driver.home, trial(seed, epochs=4).trial_id) / "trained.txt" for seed in range(5)]
    assert [len(file.read_text().splitlines()) for file in files] == [4, 1, 1, 1, 1]
    assert len({line.split()[1] for file in files for line in file.read_text().splitlines()}) == 1
    assert driver.history().outcomes[trial(1, epochs=4).trial_id].reason == "pruned: stopped early after epoch 1"


@pytest.mark.ray
def test_a_trial_of_no_work_takes_less_than_a_second(
    driver: Driver, record_property: Callable[[str, object], None]
) -> None:
    """Between the first and the last of 30 trials; 0.25 s is what a reused process was measured to take."""
    assert driver.run(seeds=30, epochs=1) == {"finished": 30}
    ends = [event["time"] for event in read_log(driver.home / "studies/fake/ledger.jsonl") if event["event"] == "ended"]
    seconds = (ends[-1] - ends[0]) / 29
    record_property("seconds_per_trial", seconds)
    assert seconds < 1.0


@pytest.mark.ray
@pytest.mark.faults
def test_sigterm_records_running_trials_and_ends_quickly(driver: Driver) -> None:
    driver.environment = driver.environment | {MARK: secrets.token_hex(8)}
    driver.environment[SECONDS] = "0.1"
    process = driver.start(seeds=3, epochs=400)
    running = [trial(seed, epochs=400).trial_id for seed in (0, 1)]
    wait_until(lambda: all(epochs_trained(driver.home, one) for one in running), 60, "two trials train")
    since = time.monotonic()
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 143, output
    assert time.monotonic() - since < 10
    assert json.loads(output.strip().splitlines()[-1]) == {"killed": 2, "planned": 1}
    assert {driver.history().outcomes[one].reason for one in running} == {"interrupted: SIGTERM"}
    before = [epochs_trained(driver.home, one) for one in running]
    time.sleep(1)
    assert [epochs_trained(driver.home, one) for one in running] == before  # the workers have ended too


# ---- several workers


@pytest.mark.ray
@pytest.mark.slow
def test_two_workers_train_one_trial_together(driver: Driver) -> None:
    """Both ranks hold the mean of their gradients.

    Two of the three trials are stopped early, one after the other: the workers of a stopped trial give their cores
    back. No process of Ray Data starts beside them (`group_trainer.py`). A rank that dies is for
    `tests/faults/test_ranks.py`.
    """
    driver.environment = driver.environment | {SECONDS: "0.5"}
    early_stop = {"grace_epochs": 1, "reduction_factor": 2, "metric": "train/loss", "goal": "minimize"}
    counts = driver.run("ddp", seeds=3, early_stop=early_stop, resources={"workers": 2})
    assert counts == {"finished": 1, "pruned": 2}
    expected = {"world": 2.0, "train/gradient": 0.5, "threads": 1.0, "coordinators": 0.0}
    assert expected.items() <= driver.history().outcomes[trial(0).trial_id].metrics.items()


@pytest.mark.parametrize(
    ("failures", "said"),
    [
        (
            {0: RankFailed("worker_lost: Connection reset by peer"), 1: RankFailed("oom: MemoryError")},
            "oom: MemoryError",
        ),
        ({0: RankFailed("worker_lost: peer"), 1: ActorDiedError()}, "worker_lost: peer"),
        ({1: OutOfMemoryError("1 worker(s) were killed due to the node running low on memory.")}, "oom: 1 worker"),  # type: ignore[no-untyped-call]
        ({1: ActorDiedError()}, "worker_lost: The actor died unexpectedly"),
    ],
)
def test_the_rank_that_failed_explains_those_that_saw_it_vanish(failures: dict[int, Exception], said: str) -> None:
    outcome: Future[Any] = Future()
    outcome.set_exception(WorkerGroupError("ranks failed", failures))
    ending = group_ending(outcome)
    assert ending.state == "failed"
    assert ending.reason.startswith(said)
