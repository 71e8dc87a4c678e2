"""`hssl-ray up` and `hssl-ray down`: a Ray head, an MLflow server and Prometheus on this machine."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pathlib import Path

    from hssl_ray.machine.record import Started

PORT = "Absent: the usual one if it is free, else any."


def up(
    ray_port: Annotated[int | None, typer.Option(metavar="PORT", help=f"Of Ray itself. {PORT}")] = None,
    dashboard_port: Annotated[int | None, typer.Option(metavar="PORT", help=f"Of Ray's dashboard. {PORT}")] = None,
    mlflow_port: Annotated[int | None, typer.Option(metavar="PORT", help=f"Of MLflow. {PORT}")] = None,
    prometheus_port: Annotated[int | None, typer.Option(metavar="PORT", help=f"Of Prometheus. {PORT}")] = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URI",
            envvar="MLFLOW_BACKEND_STORE_URI",
            help="MLflow's database; absent means a SQLite file in the home.",
        ),
    ] = None,
    cpus: Annotated[int | None, typer.Option(min=1, help="Processors that trials may use; absent means all.")] = None,
) -> None:
    """Start a Ray head with its dashboard, an MLflow server and, where it is installed, Prometheus on this machine.

    All of them on 127.0.0.1. `run` and `submit` find them by themselves; RAY_ADDRESS, RAY_API_SERVER_ADDRESS and
    MLFLOW_TRACKING_URI in the environment win, also when they are empty. What runs already is left alone and shown.

    Exit codes: 0 all of them answer, 3 one does not start, and what was started has been ended again.
    """
    # Imported here, so that other commands start without it.
    from hssl_ray.data.home import home
    from hssl_ray.machine.starting import Wishes, bring_up, running

    before = {one.name for one in running(home())}
    wishes = Wishes(ray_port, dashboard_port, mlflow_port, prometheus_port, store, cpus)
    services = bring_up(home(), wishes, _make_store, typer.echo)
    for one in services:
        again = "runs already" if one.name in before else "started"
        typer.echo(f"{one.name}: {one.url}  ({again}, process {one.pid})")
    _say_how_to_go_on(services)


def down() -> None:
    """End what `up` started in this home, and nothing else.

    A study that runs there as a job ends in order, and goes on when it is run again. MLflow's database, the metrics
    that Prometheus kept and the logs stay.
    """
    # As above.
    from hssl_ray.data.home import home
    from hssl_ray.machine.starting import bring_down

    ended = bring_down(home(), typer.echo)
    for one in ended:
        typer.echo(f"{one.name}: ended")
    if not ended:
        typer.echo("nothing runs that `up` started in this home")


def _make_store(uri: str, home: Path) -> None:
    from hssl_ray.study.tracker.mlflow_store import (
        initialise,  # MLflow takes two seconds, which only a first start needs
    )

    initialise(uri, home)


def _say_how_to_go_on(services: list[Started]) -> None:
    from hssl_ray.cli.programs import program
    from hssl_ray.machine.services import PROMETHEUS, RAY, RULES

    found = {one.name: one for one in services}
    token = found[RAY].variables["RAY_AUTH_TOKEN_PATH"]
    if PROMETHEUS not in found:
        typer.echo("Prometheus: not installed, so nobody keeps the metrics; the rest works without it")
    elif not RULES.exists():
        typer.echo(
            "Prometheus: without alerts, which only a checkout of hssl-ray has (dashboards/prometheus/rules.yml)"
        )
    typer.echo(f"\nThe dashboard asks for the token in {token}")
    typer.echo(f"Run a study there: {program('hssl-ray')} submit STUDY")
    typer.echo(f"For Ray's own commands: export {_exports(found[RAY])}")
    typer.echo(f"End all of it: {program('hssl-ray')} down")


def _exports(head: Started) -> str:
    return " ".join(
        f"{name}={shlex.quote(value)}" for name, value in {"RAY_AUTH_MODE": "token", **head.variables}.items()
    )
