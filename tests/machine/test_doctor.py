"""`doctor`: every kind of illness is found, named with a remedy, and a healthy machine has none."""

import contextlib
import fcntl
import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hssl_ray.machine import hardware, storage
from hssl_ray.machine.connections import mlflow, ray, services, variables
from hssl_ray.machine.findings import Finding, at_least
from hssl_ray.machine.record import Started, write
from hssl_ray.machine.software import kernels, packages
from hssl_ray.study.tracker.mlflow_store import initialise
from tests.ports import free_port

FLOORS, TESTED = {"torch": "2.13", "ray": "2.59", "rich": "14"}, {"torch": "2.13.0", "ray": "2.60.0", "rich": "14.2.0"}


def levels(found: list[Finding]) -> dict[str, str]:
    return {one.subject: one.level for one in found}


@pytest.mark.parametrize(
    ("installed", "bad"),
    [
        ({"torch": "2.13.0+cpu", "ray": "2.60.0", "rich": "14.2"}, {}),
        ({"torch": "2.12.9", "ray": "2.60.0", "rich": "14.2"}, {"torch": "problem"}),
        ({"ray": "2.60.0", "rich": "14.2"}, {"torch": "problem"}),
        ({"torch": "2.13.0", "ray": "2.61.0", "rich": "14.2"}, {"ray": "warning"}),
        ({"torch": "2.13.0", "ray": "2.60.0", "rich": "9.0"}, {"rich": "problem"}),
    ],
    ids=["as tested", "too old", "missing", "newer", "another one too old"],
)
def test_versions_are_held_against_the_pinned(installed: dict[str, str], bad: dict[str, str]) -> None:
    found = packages(installed, FLOORS, TESTED)
    assert {subject: level for subject, level in levels(found).items() if level != "ok"} == bad
    assert all(bool(one.mend) == (one.level != "ok") for one in found)


def test_a_quantity_is_well_scarce_or_short() -> None:
    assert [at_least("s", "", value, 4, 2, "m").level for value in (4, 3, 1)] == ["ok", "warning", "problem"]


def test_a_folder_with_too_long_a_name_is_no_place_for_sockets(tmp_path: Path) -> None:
    (short,) = hardware.temporary(Path("/tmp"))
    deep = tmp_path / ("x" * 60)
    deep.mkdir()
    (long,) = hardware.temporary(deep)
    assert short.level != "problem" or "characters" not in short.said
    assert long.level == "problem" and "export TMPDIR=/tmp" in long.mend


def test_a_home_that_cannot_be_written_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert levels(list(storage.writable(tmp_path, tmp_path))) == {"home": "ok", "clock": "ok"}
    assert list(tmp_path.iterdir()) == []
    (found,) = storage.writable(Path("/proc/home"), Path("/proc"))
    assert found.level == "problem" and "HSSL_HOME" in found.mend


def test_a_file_system_whose_locks_keep_nobody_out_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda file, how: None)
    assert levels(list(storage.writable(tmp_path, tmp_path)))["home"] == "problem"


def test_a_clock_that_differs_from_the_disk_s_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 60)
    found = {one.subject: one for one in storage.writable(tmp_path, tmp_path)}
    assert found["clock"].level == "warning" and "60 s ahead" in found["clock"].said


def test_kernels_that_are_switched_off_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HSSL_NATIVE", "0")
    assert [one.level for one in kernels()] == ["warning"]


def test_no_compiler_and_no_kernels_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert [one.level for one in kernels()] == ["ok"] or "no C++ compiler" in next(kernels()).said
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    (found,) = kernels()
    assert found.level == "warning" and "install g++" in found.mend


def test_an_address_where_nobody_is_is_a_problem() -> None:
    assert ray({}).level == "ok"
    gone = f"127.0.0.1:{free_port()}"
    assert ray({"RAY_ADDRESS": gone}).level == "problem"
    assert ray({"RAY_API_SERVER_ADDRESS": f"http://{gone}"}).level == "problem"
    assert ray({"RAY_AUTH_MODE": "disabled"}).level == "warning"


def test_the_store_s_schema_is_named(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert "which the first run makes" in mlflow(tmp_path, uri).said
    assert not (tmp_path / "mlflow.db").exists()
    initialise(uri, tmp_path)
    whole = mlflow(tmp_path, uri)
    assert whole.level == "ok" and "schema " in whole.said
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as store:
        store.execute("UPDATE alembic_version SET version_num = '0123'")
        store.commit()
    old = mlflow(tmp_path, uri)
    assert old.level == "warning" and "0123" in old.said
    assert mlflow(tmp_path, f"http://127.0.0.1:{free_port()}").level == "problem"


def test_a_service_of_up_that_died_is_a_problem(tmp_path: Path) -> None:
    write(tmp_path, [Started("MLflow", "http://127.0.0.1:1", "nobody", 1, "b", "the.log")])
    (found,) = services(tmp_path)
    assert found.level == "problem" and "the.log" in found.said and found.mend == "hssl-ray up"


def test_variables_are_shown_without_secrets_and_slips_are_named() -> None:
    environment = {
        "HSSL_HOEM": "/home",
        "HSSL_MIRROR": "s3://user:pass@bucket",
        "RAY_AUTH_TOKEN": "abc",
        "RAY_AUTH_TOKEN_PATH": "/home/token",
        "MLFLOW_TRACKING_PASSWORD": "x",
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:5000",
    }
    shown, slip = variables(environment)
    assert "http://127.0.0.1:5000" in shown.said and "RAY_AUTH_TOKEN=***" in shown.said
    assert not any(secret in shown.said for secret in ("pass@", "=abc", "PASSWORD=x"))
    assert slip.level == "warning" and "set HSSL_HOME" in slip.mend


@pytest.mark.slow
def test_the_command_says_ok_or_what_is_wrong(tmp_path: Path) -> None:
    """As a process: JSON of a schema; 1 with a problem, without a traceback."""
    well = subprocess.run(
        [sys.executable, "-m", "hssl_ray", "doctor", "--json"], capture_output=True, text=True, timeout=200, check=False
    )
    report = json.loads(well.stdout)
    assert report["schema"] == "hssl-ray/doctor/1" and well.returncode == (1 if report["problems"] else 0)
    assert {"python", "torch", "ray", "mlflow", "kernels", "memory", "home", "data sets", "MLflow's store"} <= {
        finding["subject"] for finding in report["findings"]
    }
    ill = subprocess.run(
        [sys.executable, "-m", "hssl_ray", "doctor"],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env=os.environ | {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{free_port()}"},
    )
    assert ill.returncode == 1 and "problem  MLflow's store: no MLflow answers" in ill.stdout and "mend: " in ill.stdout
    assert "Traceback" not in ill.stderr
