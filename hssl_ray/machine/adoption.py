"""How the commands find what `up` started, without a variable that the user would have to set."""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path

from hssl_ray.machine.record import read
from hssl_ray.machine.services import MLFLOW, RAY

ADDRESSES = {RAY: ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"), MLFLOW: ("MLFLOW_TRACKING_URI",)}
"""What the user may have set instead; an empty value means none of both."""


def use_services(environment: MutableMapping[str, str], home: Path, dashboard: str | None = None) -> None:
    """Set what leads to the services of a home that run, where the user has not said otherwise.

    Args:
        environment: changed in place.
        home: see `hssl_ray.data.home`.
        dashboard: the one that the user named; None for whichever is found.
    """
    for one in read(home):
        own = ADDRESSES.get(one.name, ())
        elsewhere = one.name == RAY and dashboard not in (None, one.url)
        if elsewhere or any(name in environment for name in own) or not one.runs:
            continue
        for name, value in one.variables.items():
            environment.setdefault(name, value)
