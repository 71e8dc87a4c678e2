"""`up` and `down` with small servers in the place of Ray, MLflow and Prometheus."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hssl_ray.machine import starting
from hssl_ray.machine.adoption import STORE, use_services
from hssl_ray.machine.ports import WORKERS, choose, is_free
from hssl_ray.machine.problems import ServiceError
from hssl_ray.machine.processes import launch, marked
from hssl_ray.machine.record import Started, read, write
from hssl_ray.machine.services import MLFLOW, PROMETHEUS, RAY, Service, answers
from hssl_ray.machine.starting import Wishes, bring_down, bring_up
from hssl_ray.study.ledger import driver_of
from tests.ports import free_port
from tests.study.ray_cluster import wait_until

NAMES = (MLFLOW, RAY, PROMETHEUS)


def served(name: str, port: int, code: str | None = None) -> Service:
    url = f"http://127.0.0.1:{port}"
    command = ("-c", code) if code else ("-m", "http.server", str(port), "--bind", "127.0.0.1")
    variables = {
        RAY: {"RAY_ADDRESS": "127.0.0.1:6", "RAY_AUTH_TOKEN_PATH": "token"},
        MLFLOW: {"MLFLOW_TRACKING_URI": url},
    }
    environment = dict(os.environ)
    return Service(name, url, (sys.executable, *command), environment, lambda: answers(url), variables.get(name, {}))


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, Service]]:
    """What `up` would start; a test may replace one of them."""
    (tmp_path / "served").mkdir()
    monkeypatch.chdir(tmp_path / "served")
    wanted = {name: served(name, free_port()) for name in NAMES}

    def plan(home: Path, wishes: Wishes, make_store: object, there: dict[str, Started], port: object) -> list[Service]:
        return [service for name, service in wanted.items() if name not in there]

    monkeypatch.setattr(starting, "_plan", plan)
    yield wanted
    bring_down(tmp_path, lambda line: None)


def up(home: Path) -> list[Started]:
    return bring_up(home, Wishes(), lambda uri, root: None, lambda line: None)


def down(home: Path) -> list[str]:
    return [one.name for one in bring_down(home, lambda line: None)]


def test_up_starts_all_once_and_down_ends_all_once(services: dict[str, Service], tmp_path: Path) -> None:
    first = up(tmp_path)
    assert [one.name for one in first] == list(NAMES) and all(answers(one.url) for one in first)
    assert [(one.pid, one.born) for one in up(tmp_path)] == [(one.pid, one.born) for one in first]
    assert down(tmp_path) == list(NAMES)
    assert not any(marked(one.mark) or answers(one.url) for one in first)
    assert down(tmp_path) == []


def test_what_died_is_started_again_and_the_rest_is_left_alone(services: dict[str, Service], tmp_path: Path) -> None:
    before = {one.name: one.pid for one in up(tmp_path)}
    os.kill(before[MLFLOW], 9)
    os.waitpid(before[MLFLOW], 0)
    after = {one.name: one.pid for one in up(tmp_path)}
    assert after[RAY] == before[RAY] and after[PROMETHEUS] == before[PROMETHEUS]
    assert after[MLFLOW] != before[MLFLOW] and answers(services[MLFLOW].url)


def test_prometheus_does_not_outlive_the_head_whose_files_it_reads(
    services: dict[str, Service], tmp_path: Path
) -> None:
    before = {one.name: one.pid for one in up(tmp_path)}
    os.kill(before[RAY], 9)
    os.waitpid(before[RAY], 0)
    after = {one.name: one.pid for one in up(tmp_path)}
    assert after[MLFLOW] == before[MLFLOW] and after[PROMETHEUS] != before[PROMETHEUS]


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import sys; sys.exit('no such store')", "ended while it started; .*: no such store"),
        ("import time; time.sleep(600)", "does not answer at .* within 2 s"),
    ],
)
def test_a_half_failed_start_leaves_nothing(
    services: dict[str, Service], tmp_path: Path, code: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "START_SECONDS", 2.0)
    monkeypatch.setattr(starting, "END_SECONDS", 1.0)
    services[PROMETHEUS] = served(PROMETHEUS, free_port(), code)
    marks = list[str]()

    def noted(command: Sequence[str], environment: Mapping[str, str], mark: str, log: Path) -> int:
        marks.append(mark)
        return launch(command, environment, mark, log)

    monkeypatch.setattr(starting, "launch", noted)
    with pytest.raises(ServiceError, match=f"Prometheus: {says}"):
        up(tmp_path)
    assert len(marks) == 3 and not any(marked(mark) for mark in marks)
    assert read(tmp_path) == []


def test_a_start_that_was_killed_half_way_is_ended_by_its_mark(services: dict[str, Service], tmp_path: Path) -> None:
    """The record has the mark before the process is there, and its number only after."""
    (first, *_) = up(tmp_path)
    write(tmp_path, [replace(one, pid=0, born=None) if one.name == first.name else one for one in read(tmp_path)])
    down(tmp_path)
    assert not marked(first.mark)


DRIVER = """
import signal, sys, time
from pathlib import Path
from hssl_ray.study.ledger import Ledger

def end(number, frame):
    time.sleep(1.0)  # longer than a killed one has
    ledger.close()
    sys.exit()

signal.signal(signal.SIGTERM, end)
ledger = Ledger.open(Path(sys.argv[1]), sys.argv[2])
time.sleep(600)
"""


def test_studies_that_run_as_jobs_end_in_order_and_others_go_on(services: dict[str, Service], tmp_path: Path) -> None:
    """The driver of a job has the mark, as a child of the head; one that somebody started by hand has not."""
    head = next(one for one in up(tmp_path) if one.name == RAY)
    command = [sys.executable, "-c", DRIVER, str(tmp_path)]
    launch([*command, "job"], os.environ, head.mark, tmp_path / "log")
    by_hand = subprocess.Popen([*command, "by-hand"])
    try:
        wait_until(lambda: all(driver_of(tmp_path, name) for name in ("job", "by-hand")), 60, "both studies run")
        said = list[str]()
        bring_down(tmp_path, said.append)
        assert driver_of(tmp_path, "job") is None  # it gave its lease back, which a killed one leaves behind
        assert by_hand.poll() is None and driver_of(tmp_path, "by-hand") is not None
        assert said == [
            f"study by-hand: run by process {by_hand.pid} on {socket.gethostname()}, which is left alone",
            "study job: ending it in order; it goes on when it is run again",
        ]
    finally:
        by_hand.kill()
        by_hand.wait()


# ---- how the others find them


def test_variables_lead_to_what_runs_and_the_user_s_win(services: dict[str, Service], tmp_path: Path) -> None:
    up(tmp_path)
    found = dict[str, str]()
    use_services(found, tmp_path)
    assert found["RAY_ADDRESS"] == "127.0.0.1:6" and found["MLFLOW_TRACKING_URI"] == services[MLFLOW].url
    own = {"RAY_ADDRESS": "", "MLFLOW_TRACKING_URI": "http://tracking:5000"}
    use_services(own, tmp_path)
    assert own == {"RAY_ADDRESS": "", "MLFLOW_TRACKING_URI": "http://tracking:5000"}
    elsewhere = dict[str, str]()
    use_services(elsewhere, tmp_path, dashboard="http://10.0.0.1:8265")
    assert set(elsewhere) == {"MLFLOW_TRACKING_URI"}  # no token of ours for another cluster
    head = next(one for one in read(tmp_path) if one.name == RAY)
    os.kill(head.pid, 9)
    os.waitpid(head.pid, 0)
    with pytest.raises(ServiceError, match="Ray: was started by `up` and has ended"):
        use_services(dict[str, str](), tmp_path)  # or a study would go to a stranger on the usual port
    use_services({"RAY_ADDRESS": "10.0.0.1:6379"}, tmp_path)
    use_services(dict[str, str](), tmp_path, STORE)
    use_services(left_out := dict[str, str](), tmp_path, strict=False)
    assert set(left_out) == {"MLFLOW_TRACKING_URI"}
    down(tmp_path)
    nothing = dict[str, str]()
    use_services(nothing, tmp_path)
    assert nothing == {}


# ---- ports


def test_a_usual_port_that_is_in_use_is_left_to_who_has_it(services: dict[str, Service], tmp_path: Path) -> None:
    one = up(tmp_path)[0]
    busy = int(one.url.rpartition(":")[2])
    assert not is_free(busy)
    chosen = choose("--mlflow-port", None, busy)
    assert chosen != busy and is_free(chosen) and chosen not in WORKERS
    assert choose("--mlflow-port", None, chosen) == chosen and choose("--mlflow-port", None, chosen, [chosen]) != chosen
    with pytest.raises(ServiceError, match=f"--mlflow-port: must be free, got {busy}"):
        choose("--mlflow-port", busy, None)


@pytest.mark.parametrize("port", [80, 10_002, 19_999, 70_000])
def test_a_port_that_cannot_work_is_refused(port: int) -> None:
    with pytest.raises(ServiceError, match="--ray-port: must be within 1024 to 65535 and outside 10002 to 19999"):
        choose("--ray-port", port, None)
