"""Starts the services of a home, waits until each answers, and ends them: all that was begun, and nothing else."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from hssl_ray.machine import record
from hssl_ray.machine.ports import choose
from hssl_ray.machine.problems import ServiceError
from hssl_ray.machine.processes import ask_to_end, check_system, end, launch, marked, wait_for_end
from hssl_ray.machine.record import Started
from hssl_ray.machine.services import MLFLOW, PROMETHEUS, RAY, Service, mlflow_server, prometheus_server, ray_head
from hssl_ray.study.born import born
from hssl_ray.study.ledger import driver_of
from hssl_ray.study.redaction import redact
from hssl_ray.study.run import studies_run

START_SECONDS = 180.0
"""A head takes 6 s on a machine that does nothing else, and ten times that on one that trains."""
END_SECONDS = 15.0
STUDY_SECONDS = 40.0
"""A study needs some to write down what it was doing and to tell MLflow."""
TOKEN = "ray-token"  # noqa: S105  a file's name
DISCOVERY = "prom_metrics_service_discovery.json"
_LOOK_SECONDS = 0.2
_TEMPORARY = re.compile(r"hssl-up-\w{8}")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Wishes:
    """What a person may ask of `up`; None for what suits."""

    ray_port: int | None = None
    dashboard_port: int | None = None
    mlflow_port: int | None = None
    prometheus_port: int | None = None
    store: str | None = None
    """URI of MLflow's database."""
    cpus: int | None = None

    def of(self, service: str) -> list[str]:
        """The options that are about a service and were given."""
        options: dict[str, dict[str, int | str | None]] = {
            RAY: {"--ray-port": self.ray_port, "--dashboard-port": self.dashboard_port, "--cpus": self.cpus},
            MLFLOW: {"--mlflow-port": self.mlflow_port, "--store": self.store},
            PROMETHEUS: {"--prometheus-port": self.prometheus_port},
        }
        return [option for option, value in options[service].items() if value is not None]


def bring_up(home: Path, wishes: Wishes, make_store: Callable[[str, Path], None], say: Say) -> list[Started]:
    """Start what does not run yet of the services of a home, and wait until it answers.

    Args:
        home: see `hssl_ray.data.home`.
        wishes: only for what is started now.
        make_store: makes or migrates MLflow's database.
        say: told what is waited for.

    Returns:
        All services of the home, those that ran before too.

    Raises:
        ServiceError: one of them does not start; what was started now has been ended again.
    """
    check_system()
    with record.alone(home):
        before = record.read(home)
        names = {one.name for one in before if one.runs}
        kept = names if RAY in names else names - {PROMETHEUS}  # which reads the files of the head that is gone
        there = [one for one in before if one.name in kept]
        for one in before:
            if one not in there:
                _end(one)
        record.write(home, there)
        for one in there:
            if given := wishes.of(one.name):
                say(f"{', '.join(given)}: not used, because {one.name} runs already; `hssl-ray down` ends it")
        usual = {one.name: _port(one.url) for one in before}
        planned = _plan(home, wishes, make_store, {one.name: one for one in there}, usual.get(MLFLOW))
        begun: list[Started] = []
        try:
            for service in planned:
                begun.append(_start(home, service, [*there, *begun]))
            for one, service in zip(begun, planned, strict=True):
                say(f"waiting for {one.name} at {one.url}")
                _wait(one, service)
        except BaseException:
            for one in reversed(begun):
                _end(one)
            record.write(home, there)
            raise
        return [*there, *begun]


def bring_down(home: Path, say: Say) -> list[Started]:
    """End what `bring_up` started, and nothing else; studies that run as its jobs are asked first.

    Returns:
        What was ended, or had ended by itself since.

    Raises:
        ServiceError: a process does not end.
    """
    if not (record.place_of(home) / record.RECORD).exists():
        return []
    check_system()
    with record.alone(home):
        services = record.read(home)
        _end_studies(home, services, say)
        left = list(services)
        for one in reversed(services):
            _end(one)
            left.remove(one)
            record.write(home, left)
        (record.place_of(home) / TOKEN).unlink(missing_ok=True)
        return services


def running(home: Path) -> list[Started]:
    """The services of a home that run."""
    return [one for one in record.read(home) if one.runs]


def _plan(
    home: Path,
    wishes: Wishes,
    make_store: Callable[[str, Path], None],
    there: dict[str, Started],
    mlflow_port: int | None,
) -> list[Service]:
    """What is to be started: all but what is there.

    Args:
        mlflow_port: where MLflow was; jobs of a head that still runs look for it there.
    """
    folder = record.folder_of(home)
    taken: list[int] = []

    def port(option: str, asked: int | None, usual: int | None) -> int:
        taken.append(choose(option, asked, usual, taken))
        return taken[-1]

    planned = []
    if MLFLOW in there:
        mlflow = there[MLFLOW].url
    else:
        store = wishes.store or f"sqlite:///{home / 'mlflow.db'}"
        make_store(store, home)
        server = mlflow_server(
            port=port("--mlflow-port", wishes.mlflow_port, mlflow_port or 5000),
            store=store,
            artifacts=home / "artifacts",
        )
        mlflow = server.url
        planned.append(server)
    temporary = Path(there[RAY].folder) if RAY in there else Path(tempfile.mkdtemp(prefix="hssl-up-"))
    watched: Service | None = None
    if PROMETHEUS not in there:
        scraping = port("--prometheus-port", wishes.prometheus_port, 9090)
        watched = prometheus_server(port=scraping, folder=folder, targets=temporary / DISCOVERY)
    if RAY not in there:
        prometheus = there[PROMETHEUS].url if PROMETHEUS in there else watched.url if watched else None
        planned.append(
            ray_head(
                port=port("--ray-port", wishes.ray_port, 6379),
                dashboard=port("--dashboard-port", wishes.dashboard_port, 8265),
                others=(port("", None, None), port("", None, None), port("", None, None)),
                temporary=temporary,
                token_file=_token(folder),
                home=home,
                mlflow=mlflow,
                prometheus=prometheus,
                cpus=wishes.cpus,
            )
        )
    return [*planned, *([watched] if watched else [])]


def _token(folder: Path) -> Path:
    """The file of the token that the head asks for: the user's, else a new one that only they may read."""
    if path := os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return Path(path).absolute()
    file = folder / TOKEN
    record.write_secret(file, os.environ.get("RAY_AUTH_TOKEN") or secrets.token_hex(32))
    return file


def _start(home: Path, service: Service, before: list[Started]) -> Started:
    """Start one, written down before and after, so that a kill in between leaves nothing that `down` does not know."""
    log = record.folder_of(home) / f"{service.name.lower()}.log"
    one = Started(
        name=service.name,
        url=service.url,
        mark=secrets.token_hex(16),
        log=str(log),
        folder=service.folder,
        variables=service.variables,
    )
    record.write(home, [*before, one])
    log.unlink(missing_ok=True)
    pid = launch(service.command, service.environment, one.mark, log)
    one = replace(one, pid=pid, born=born(pid))
    record.write(home, [*before, one])
    return one


def _wait(one: Started, service: Service) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not service.is_ready():
        if not one.runs:
            raise ServiceError(f"{one.name}: ended while it started; {one.log}: {_last_line(one.log)}")
        if time.monotonic() > deadline:
            raise ServiceError(
                f"{one.name}: does not answer at {one.url} within {START_SECONDS:.0f} s; {one.log}: "
                f"{_last_line(one.log)}"
            )
        time.sleep(_LOOK_SECONDS)
    if not one.runs:  # somebody else answers on a port that was free a moment ago
        raise ServiceError(f"{one.name}: another program answers at {one.url}; run it again")


def _end(one: Started) -> None:
    """End one and all that it started, and remove its temporary folder."""
    end(one.mark, one.pid or None, END_SECONDS)
    if one.folder and _TEMPORARY.fullmatch(Path(one.folder).name):
        shutil.rmtree(one.folder, ignore_errors=True)


def _end_studies(home: Path, services: list[Started], say: Say) -> None:
    """Let the studies of this home that run as jobs of these services end in order."""
    asked = []
    for name in studies_run(home):
        driver = driver_of(home, name)
        if driver is None or driver.ended or not driver.here:
            continue
        ours = [one for one in services if driver.pid in marked(one.mark)]
        for one in ours:
            say(f"study {name}: ending it in order; it goes on when it is run again")
            ask_to_end(driver.pid, one.mark)
            asked.append((driver.pid, one.mark))
        if not ours:
            say(f"study {name}: run by {driver.name}, which is left alone")
    deadline = time.monotonic() + STUDY_SECONDS
    for pid, mark in asked:
        wait_for_end(pid, mark, max(0.0, deadline - time.monotonic()))


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


def _last_line(log: str) -> str:
    with contextlib.suppress(OSError):
        lines = Path(log).read_text(errors="replace").strip().splitlines()
        if lines:
            return redact(lines[-1])
    return "empty"
