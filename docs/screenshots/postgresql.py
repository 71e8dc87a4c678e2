"""A PostgreSQL of one's own on loopback, gone with the block; the programs come from the system."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
"""Of every version that Debian has installed, the newest last."""
USER = DATABASE = "mlflow"
PASSWORD = "of-this-server-alone"  # noqa: S105
START_SECONDS = 60


class NoPostgresql(Exception):
    """It is not installed, or does not start."""


@contextmanager
def postgresql() -> Iterator[int]:
    """Its port. `USER` has the password `PASSWORD` and an empty database `DATABASE`.

    Raises:
        NoPostgresql: it is not installed, or does not start.
    """
    if not PROGRAMS:
        raise NoPostgresql("PostgreSQL: must be installed (Debian: apt-get install postgresql), got none")
    programs, port = PROGRAMS[-1], _free_port()
    with tempfile.TemporaryDirectory(prefix="hssl-postgres-") as name:
        folder, password = Path(name), Path(name, "password")
        password.write_text(PASSWORD)
        as_user: list[str] = []
        if os.getuid() == 0:  # which PostgreSQL refuses to run as
            for path in (folder, password):
                shutil.chown(path, "postgres", "postgres")
            as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        cluster = str(folder / "cluster")
        _run(
            *(*as_user, str(programs / "initdb"), "--pgdata", cluster, f"--username={USER}"),
            *("--auth=scram-sha-256", f"--pwfile={password}"),
            folder=folder,
        )
        serve = [*as_user, str(programs / "postgres"), "-D", cluster, "-p", str(port), "-h", "127.0.0.1", "-k", ""]
        with (folder / "log").open("w") as log:
            server = subprocess.Popen(serve, stdout=log, stderr=subprocess.STDOUT, cwd=folder)  # noqa: S603
        try:
            asked = ("--host=127.0.0.1", f"--port={port}", f"--username={USER}")
            deadline = time.monotonic() + START_SECONDS
            while subprocess.run([str(programs / "pg_isready"), *asked], capture_output=True).returncode:  # noqa: S603
                if server.poll() is not None or time.monotonic() > deadline:
                    raise NoPostgresql(f"PostgreSQL: does not start: {(folder / 'log').read_text()[-1000:]}")
                time.sleep(0.2)
            _run(str(programs / "createdb"), *asked, DATABASE, folder=folder, variables={"PGPASSWORD": PASSWORD})
            yield port
        finally:
            server.terminate()
            server.wait()


def _run(*command: str, folder: Path, variables: Mapping[str, str] | None = None) -> None:
    environment = os.environ | dict(variables or {})
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise NoPostgresql(f"{Path(command[0]).name}: {done.stderr.strip() or done.stdout.strip()}")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
