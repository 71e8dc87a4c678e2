"""Ports of loopback: the usual one where it is free, else one that nobody will take meanwhile."""

from __future__ import annotations

import itertools
import secrets
import socket
from collections.abc import Iterable

from hssl_ray.machine.problems import ServiceError

LOOPBACK = "127.0.0.1"
WORKERS = range(10_002, 20_000)
"""Ray gives these to its workers, and refuses a head one of whose own ports lies among them."""
SPARE = range(20_000, 32_000)
"""Above Ray's, below those that Linux gives to outgoing connections while a service is still starting."""


def is_free(port: int) -> bool:
    """Whether nobody listens there, on loopback or on all addresses."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: what was just closed is free
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def choose(option: str, asked: int | None, usual: int | None, taken: Iterable[int] = ()) -> int:
    """The port asked for, else the usual one if it is free, else any that is.

    Args:
        option: by which a port is asked for, for the message.
        taken: chosen for others, who do not listen yet.

    Raises:
        ServiceError: the one asked for cannot be had.
    """
    used = set(taken)
    if asked is not None:
        if not 1024 <= asked <= 65_535 or asked in WORKERS:
            raise ServiceError(
                f"{option}: must be within 1024 to 65535 and outside {WORKERS.start} to {WORKERS.stop - 1}, which Ray "
                f"gives to its workers, got {asked}"
            )
        if asked in used or not is_free(asked):
            raise ServiceError(f"{option}: must be free, got {asked}, where something listens already")
        return asked
    if usual is not None and usual not in used and is_free(usual):
        return usual
    start = secrets.randbelow(len(SPARE))
    for port in itertools.chain(SPARE[start:], SPARE[:start]):
        if port not in used and is_free(port):
            return port
    raise ServiceError(f"{option}: none of the ports {SPARE.start} to {SPARE.stop - 1} is free")
