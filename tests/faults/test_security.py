"""F23 and F24: no secret in what a study leaves, and no door that opens without one; on one Ray and one MLflow."""

import http.client
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.faults.mlflow_server import MlflowServer
from tests.faults.stand_in import GATE
from tests.faults.table import Table

pytestmark = [pytest.mark.faults, pytest.mark.ray]
ROOT = Path(__file__).parents[2]
WAIT_SECONDS = 240
STUDY = """\
# Does anything leak? Tracked at http://ann:c4n4ry-comment@host, with password: c4n4ry-said and AKIAC4N4RYC4N4RYC4N4.
study: secrets
base: {dataset: mnist-mini, epochs: 3, warmup_epochs: 0}
grid: {method: [a_ssl, h_ssl], temperature: [0.5, 0.1]}
compare: {metric: probe/top1}
"""
CANARY = re.compile(r"c4n4ry[\w-]*|AKIAC4N4RY\w*", re.IGNORECASE)
API = (
    "/api/jobs/",
    "/api/v0/actors?detail=1",
    "/api/v0/workers?detail=1",
    "/api/v0/tasks?detail=1",
    "/api/v0/nodes?detail=1",
    "/api/v0/runtime_envs?detail=1",
    "/api/v0/jobs?detail=1",
    "/nodes?view=details",
    "/api/cluster_metadata",
)
SUBMISSION = json.dumps({"entrypoint": "touch CANARY"}).encode()
FORM = {"Content-Type": "text/plain"}
BROWSER = {
    "Origin": "http://evil.example",
    "User-Agent": "Mozilla/5.0",
    "Sec-Fetch-Site": "cross-site",
    "Sec-Fetch-Mode": "no-cors",
}


@dataclass
class Ended:
    """One study, run with secrets all around it: what it left, by place, and how the doors answered meanwhile."""

    seed: int
    places: dict[str, str] = field(default_factory=dict)
    ray: dict[str, int] = field(default_factory=dict)
    """Status of every request to the dashboard that should fail."""
    ray_control: int = 0
    executed: bool = False
    code: int = 0
    out: str = ""


def ask(address: str, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> tuple[int, str]:
    where = urlsplit(address)
    with closing(http.client.HTTPConnection(where.hostname or "", where.port, timeout=30)) as connection:
        connection.request(method, path, body or None, dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace")


def text_of(folder: Path) -> str:
    """Everything below a folder as text: names and contents."""
    found = []
    for path in sorted(folder.rglob("*")):
        found.append(str(path))
        if path.is_file() and not path.is_symlink():
            found.append(path.read_bytes().decode("utf-8", "replace"))
    return "\n".join(found)


def rows(database: Path, query: str) -> str:
    with closing(sqlite3.connect(database)) as store:
        return "\n".join(map(repr, store.execute(query)))


def everything_but(database: Path, tables: tuple[str, ...]) -> str:
    """All of a database but some tables, as text."""
    with closing(sqlite3.connect(database)) as store:
        names = [name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return "\n".join(rows(database, f"SELECT * FROM {name}") for name in names if name not in tables)


@pytest.fixture(scope="module")
def secrets() -> dict[str, str]:
    return {
        "MLFLOW_TRACKING_USERNAME": "ann",
        "MLFLOW_TRACKING_PASSWORD": "c4n4ry-mlflow-password",
        "AWS_ACCESS_KEY_ID": "AKIAC4N4RYC4N4RYC4N5",
        "AWS_SECRET_ACCESS_KEY": "c4n4ry-aws-secret",
        "RAY_AUTH_TOKEN": "c4n4ry-ray-token-0123456789abcdef",
        "RAY_AUTH_MODE": "token",
    }


@pytest.fixture
def ended(mlflow_server: MlflowServer, tmp_path: Path, seed: int, secrets: dict[str, str]) -> Iterator[Ended]:
    """The study, run on a Ray of its own up to a gate, looked at from outside, then let go to its end."""
    found = Ended(seed)
    study, gate, home, log = tmp_path / "s.yaml", tmp_path / "gate", tmp_path / "home", tmp_path / "log"
    study.write_text(STUDY.replace("study: secrets", f"study: secrets-{seed}") + f"seeds: [{seed}]\n")
    where = mlflow_server.uri.replace("://", "://ann:c4n4ry-userinfo@")
    environment = {
        **os.environ, **secrets, "MLFLOW_TRACKING_URI": where, GATE: str(gate), "PYTHONPATH": str(ROOT),
        "HSSL_HOME": str(home),
    }  # fmt: skip

    def hssl_ray(*arguments: str) -> str:
        command = [sys.executable, "-m", "tests.faults.stand_in", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path, check=False)
        return done.stdout + done.stderr

    with log.open("w") as output:
        driver = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.stand_in", "run", str(study)],
            env=environment, stdout=output, stderr=output, cwd=tmp_path, start_new_session=True,
        )  # fmt: skip
    try:
        wait_for_gate(driver, home, log)
        dashboard = re.search(r"dashboard while the study runs: (http://\S+)", log.read_text())
        assert dashboard, log.read_text()
        knock(dashboard[1], secrets["RAY_AUTH_TOKEN"], tmp_path / "executed", found)
        right = {"Authorization": f"Bearer {secrets['RAY_AUTH_TOKEN']}"}
        told = [ask(dashboard[1], "GET", path, right) for path in API]
        assert [status for status, _ in told].count(200) >= 6, told
        found.places["Ray's job and state API"] = "\n".join(body for _, body in told)
        head = Path((home / "studies" / f"secrets-{seed}" / "engine" / "head").read_text())
        found.places["Ray's session logs"] = "\n".join(text_of(path) for path in head.glob("session_2*/logs"))
        gate.touch()
        found.code = driver.wait(WAIT_SECONDS)
    finally:
        if driver.poll() is None:
            os.killpg(driver.pid, signal.SIGKILL)
            driver.wait()
    database = mlflow_server.database
    found.places |= {
        "stdout and stderr": log.read_text(),
        "MLflow's params": rows(database, "SELECT * FROM params"),
        "MLflow's tags": rows(database, "SELECT * FROM tags UNION ALL SELECT key, value, '' FROM experiment_tags"),
        "MLflow's other tables": everything_but(database, ("params", "tags", "experiment_tags")),
        "MLflow's artifacts": text_of(mlflow_server.folder / "artifacts"),
        "the ledger": text_of(home / "studies"),
        "journals and trial folders": text_of(home / "trials"),
        "the page": (home / "studies" / f"secrets-{seed}" / "report.html").read_text(),
        "status --json": hssl_ray("status", str(study), "--json"),
        "compare --json and --markdown": hssl_ray("compare", str(study), "--json")
        + hssl_ray("compare", str(study), "--markdown"),
    }
    yield found


def wait_for_gate(driver: "subprocess.Popen[bytes]", home: Path, log: Path) -> None:
    """Until one trial has failed and the other one waits."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (list(home.glob("trials/*/failure.txt")) and waiting(home)):
        assert driver.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


def waiting(home: Path) -> bool:
    return any(path.read_bytes().count(b"\n") >= 2 for path in home.glob("trials/*/journal.jsonl"))


def knock(dashboard: str, token: str, executed: Path, found: Ended) -> None:
    """Everything that should be refused, and one request that should not."""
    job = SUBMISSION.replace(b"CANARY", str(executed).encode())
    right, wrong = {"Authorization": f"Bearer {token}"}, {"Authorization": "Bearer " + "0" * len(token)}
    cookie = {"Cookie": f"ray-authentication-token={token}"}
    tries: dict[str, tuple[str, str, dict[str, str], bytes]] = {
        "jobs, no token": ("GET", "/api/jobs/", {}, b""),
        "jobs, wrong token": ("GET", "/api/jobs/", wrong, b""),
        "jobs, wrong cookie": ("GET", "/api/jobs/", {"Cookie": "ray-authentication-token=0"}, b""),
        "jobs, foreign host": ("GET", "/api/jobs/", {"Host": "evil.example"}, b""),
        "state, no token": ("GET", "/api/v0/actors", {}, b""),
        "state, wrong token": ("GET", "/api/v0/workers", wrong, b""),
        "logs, no token": ("GET", "/api/v0/logs?node_id=0", {}, b""),
        "nodes, no token": ("GET", "/nodes?view=summary", {}, b""),
        "submit, no token": ("POST", "/api/jobs/", {}, job),
        "submit, wrong token": ("POST", "/api/jobs/", wrong, job),
        "submit, foreign host": ("POST", "/api/jobs/", {"Host": "evil.example"}, job),
        "submit, foreign page": ("POST", "/api/jobs/", {**BROWSER, **FORM}, job),
        "submit, foreign page with the user's cookie": ("POST", "/api/jobs/", {**BROWSER, **FORM, **cookie}, job),
        "submit, foreign page with the token": ("POST", "/api/jobs/", {**BROWSER, **right}, job),
        "stop, no token": ("POST", "/api/jobs/x/stop", {}, b""),
        "delete, foreign page with the user's cookie": ("DELETE", "/api/jobs/x", {**BROWSER, **cookie}, b""),
        "kill an actor, no token": ("GET", "/api/actors/kill?actor_id=0", {}, b""),
    }
    for name, (method, path, headers, body) in tries.items():
        found.ray[name], _ = ask(dashboard, method, path, headers, body)
    found.ray_control, _ = ask(dashboard, "GET", "/api/jobs/", right)
    found.executed = executed.exists()


def test_no_secret_is_left_anywhere_and_no_door_opens_without_one(
    ended: Ended, mlflow_server: MlflowServer, seed: int, figures: Table
) -> None:
    """F23 and F24 in one run of Ray, which takes ten seconds to start."""
    assert ended.code == 4, ended.places["stdout and stderr"]
    assert len(ended.places) == 12 and all(len(text) > 50 for text in ended.places.values()), ended.places.keys()
    leaks = {place: sorted(set(CANARY.findall(text))) for place, text in ended.places.items() if CANARY.search(text)}
    figures.bad("F23", "places where a secret was found", len(leaks), len(ended.places))
    assert "ConnectionError" in ended.places["the ledger"], "the error that quotes them is there, without them"
    assert "Does anything leak?" in ended.places["the page"]

    opened = {name: status for name, status in ended.ray.items() if status not in (401, 403, 405)}
    figures.bad("F24", "requests that Ray's dashboard let in", len(opened), len(ended.ray))
    mlflow = {name: status for name, status in mlflow_doors(mlflow_server.uri).items() if status != 403}
    figures.bad("F24", "requests that MLflow let in", len(mlflow), len(mlflow_doors(mlflow_server.uri)))
    assert not leaks
    assert not opened and not mlflow
    assert not ended.executed
    assert ended.ray_control == 200
    assert ask(mlflow_server.uri, "POST", SEARCH, JSON, QUERY)[0] == 200, "the same request from here is served"


SEARCH, QUERY, JSON = "/api/2.0/mlflow/experiments/search", b'{"max_results": 1}', {"Content-Type": "application/json"}


def mlflow_doors(uri: str) -> dict[str, int]:
    """What a page of another site, or a name that points to this machine, could ask of a server on loopback."""
    create = "/api/2.0/mlflow/experiments/create"
    evil = b'{"name": "evil"}'
    tries: dict[str, tuple[str, str, dict[str, str], bytes]] = {
        "read, foreign host": ("POST", SEARCH, {**JSON, "Host": "evil.example"}, QUERY),
        "read, foreign host and port": ("POST", SEARCH, {**JSON, "Host": f"evil.example:{urlsplit(uri).port}"}, QUERY),
        "page, foreign host": ("GET", "/", {"Host": "evil.example"}, b""),
        "create, foreign host": ("POST", create, {**JSON, "Host": "evil.example"}, evil),
        "create, foreign page": ("POST", create, {**JSON, **BROWSER}, evil),
        "create, foreign page as a form": ("POST", create, {**FORM, **BROWSER}, evil),
        "create, page of nowhere": ("POST", create, {**JSON, "Origin": "null"}, evil),
    }
    return {name: ask(uri, method, path, headers, body)[0] for name, (method, path, headers, body) in tries.items()}


def test_the_search_for_secrets_can_find_one(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "binary").write_bytes(b"\xff\x00c4n4ry-x\xff")
    assert CANARY.findall(text_of(tmp_path)) == ["c4n4ry-x"]
