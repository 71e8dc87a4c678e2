"""Studies run as a user runs them, each in a home of its own, and when its output said what."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Told:
    """One line of a command's output."""

    at: float
    """Seconds since the command was started."""
    text: str


@dataclass(frozen=True)
class Ran:
    """A command that ended well."""

    began: float
    """Seconds since 1970."""
    seconds: float
    lines: tuple[Told, ...]

    def first(self, part: str) -> float:
        """When the first line with this part came, in seconds since the start."""
        return next(line.at for line in self.lines if part in line.text)


def run_command(command: Sequence[str], home: Path, variables: Mapping[str, str] | None = None) -> Ran:
    """Run a command on a home, with one thread a process and a token of its own.

    Args:
        variables: more for its environment; a `PYTHONPATH` goes before the one that is there.

    Raises:
        RuntimeError: it failed; the message holds what it printed.
    """
    own = {"HSSL_HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "TZ": "UTC"}
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "TUNE_", "MLFLOW_"))}
    more = dict(variables or {})
    search = [more.pop("PYTHONPATH", ""), str(Path(__file__).parents[1]), kept.get("PYTHONPATH", "")]
    began, start = time.time(), time.perf_counter()
    lines: list[Told] = []
    with subprocess.Popen(  # noqa: S603
        command,
        env=kept | own | token | more | {"PYTHONPATH": os.pathsep.join(search).lstrip(os.pathsep)},
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for text in process.stdout:
            lines.append(Told(time.perf_counter() - start, text.rstrip()))
        code = process.wait()
    if code:
        raise RuntimeError("\n".join([f"exit code {code}: {command}", *(line.text for line in lines)]))
    return Ran(began, time.perf_counter() - start, tuple(lines))


def run_study_file(study: Path, home: Path, variables: Mapping[str, str] | None = None) -> Ran:
    """`hssl-ray run` on a study file; see `run_command`."""
    return run_command([sys.executable, "-m", "hssl_ray", "run", str(study)], home, variables)


@contextmanager
def standing(home: Path, variables: Mapping[str, str] | None = None) -> Iterator[dict[str, str]]:
    """The services of `hssl-ray up`; yields the variables with which a study of this home runs on them."""
    command = [sys.executable, "-m", "hssl_ray"]
    found = dict(variables or {}) | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
    run_command([*command, "up"], home, found)
    try:
        yield found
    finally:
        run_command([*command, "down"], home, found)


@contextmanager
def alone(home: Path, variables: Mapping[str, str] | None = None) -> Iterator[dict[str, str]]:
    """No services: a study of this home starts a Ray of its own."""
    yield dict(variables or {})
