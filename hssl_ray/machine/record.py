"""What `up` started, in a file of the home that only its owner may read, for `down` and for whoever looks for it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hssl_ray.data.files import flush, locked, make_folder
from hssl_ray.machine.processes import carries
from hssl_ray.study.born import born
from hssl_ray.trial.durable import check_format, read_json, write_whole

FORMAT = 1
FOLDER = "services"
RECORD = "services.json"
LOCK = "lock"


@dataclass(frozen=True)
class Started:
    """A service that was started on this machine."""

    name: str
    url: str
    """What a person opens."""
    mark: str
    """See `processes`."""
    pid: int = 0
    """Of its first process; 0 between the decision to start it and its start."""
    born: str | None = None
    """When that began; see `study.born`."""
    log: str = ""
    """File."""
    folder: str = ""
    """Temporary, removed when it ends; empty for none."""
    variables: dict[str, str] = field(default_factory=dict)
    """Environment variables by which others find it."""

    @property
    def runs(self) -> bool:
        """Whether its first process lives; another one with the same number is not it."""
        return bool(self.pid) and born(self.pid) == self.born and carries(Path(f"/proc/{self.pid}"), self.mark)


def place_of(home: Path) -> Path:
    """Where the services of this machine keep what is theirs; several machines may share a home."""
    return home / FOLDER / socket.gethostname()


def folder_of(home: Path) -> Path:
    """`place_of`, made for its owner alone."""
    folder = place_of(home)
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def read(home: Path) -> list[Started]:
    """What was started and not ended in a home, dead or alive.

    Raises:
        NewerFormat: a newer version wrote it.
    """
    path = place_of(home) / RECORD
    held = read_json(path)
    if held is None:
        return []
    check_format(path, held.get("format"), FORMAT)
    return [Started(**one) for one in held["services"]]


def write(home: Path, services: list[Started]) -> None:
    """Replace what `read` gives; the file goes with the last service."""
    path = folder_of(home) / RECORD
    if services:
        held = {"format": FORMAT, "services": [asdict(one) for one in services]}
        write_whole(path, json.dumps(held, indent=1).encode())
    elif path.exists():
        path.unlink()
        flush(path.parent)


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """While no other process starts or ends services of this home."""
    with locked(folder_of(home) / LOCK):
        yield


def write_secret(path: Path, text: str) -> None:
    """A file that only its owner may read, from its first byte on."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
