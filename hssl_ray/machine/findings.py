"""What `doctor` finds: a line that is well, a warning or a problem, with how to mend it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line."""

    level: Level
    """A problem keeps a study from running; a warning makes it slower, or less."""
    subject: str
    said: str
    mend: str = ""
    """What to do; empty where there is nothing to be done."""


def well(subject: str, said: str) -> Finding:
    return Finding("ok", subject, said)


def warning(subject: str, said: str, mend: str) -> Finding:
    return Finding("warning", subject, said, mend)


def problem(subject: str, said: str, mend: str) -> Finding:
    return Finding("problem", subject, said, mend)


def at_least(subject: str, said: str, value: float, enough: float, least: float, mend: str) -> Finding:
    """A quantity that should be `enough` and must be `least`."""
    if value < least:
        return problem(subject, said, mend)
    return warning(subject, said, mend) if value < enough else well(subject, said)


def gib(size: float) -> str:
    """Bytes as GiB."""
    return f"{size / 2**30:.1f} GiB"
