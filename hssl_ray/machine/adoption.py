"""How the commands find what `up` started, without a variable that the user would have to set."""

from __future__ import annotations

from collections.abc import Collection, MutableMapping
from pathlib import Path

from hssl_ray.machine.problems import ServiceError
from hssl_ray.machine.record import read
from hssl_ray.machine.services import MLFLOW, RAY

ADDRESSES = {RAY: ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"), MLFLOW: ("MLFLOW_TRACKING_URI",)}
"""What the user may have set instead; an empty value means none of both."""


BOTH, STORE = (RAY, MLFLOW), (MLFLOW,)


def use_services(
    environment: MutableMapping[str, str],
    home: Path,
    names: Collection[str] = BOTH,
    *,
    dashboard: str | None = None,
    strict: bool = True,
) -> None:
    """Set what leads to the services of a home, where the user has not said otherwise.

    Args:
        environment: changed in place.
        home: see `hssl_ray.data.home`.
        names: the services that are wanted.
        dashboard: the one that the user named; None for whichever is found.
        strict: whether one that has ended is an error, rather than left out.

    Raises:
        ServiceError: one that would be used has ended; a study must not go to whatever else listens on a usual port.
    """
    for one in read(home):
        own = ADDRESSES.get(one.name, ())  # Prometheus has none, and is never wanted
        elsewhere = one.name == RAY and dashboard not in (None, one.url)
        if one.name not in names or elsewhere or any(name in environment for name in own):
            continue
        if not one.runs:
            if strict:
                raise ServiceError(
                    f"{one.name}: was started by `up` and has ended; its log: {one.log}. Start it again with "
                    f"`hssl-ray up`, or forget it with `hssl-ray down`"
                )
            continue
        for name, value in one.variables.items():
            environment.setdefault(name, value)
