"""What is wrong with a study file, and where: one `Problem` a mistake, all of them in one `StudyError`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

_LONGEST_VALUE = 60


@dataclass(frozen=True, order=True)
class Problem:
    """One mistake. `line` and `column` count from 1; `path` is the dotted key, empty for the file as a whole."""

    file: str
    line: int
    column: int
    path: str
    message: str

    @property
    def place(self) -> tuple[str, int, int]:
        return self.file, self.line, self.column

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}: "
        return where + (f"{self.path}: {self.message}" if self.path else self.message)


class StudyError(ValueError):
    """A study file cannot be used. `problems` holds every mistake found; `str()` is one line for each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: list[Problem] = list(dict.fromkeys(problems))
        super().__init__("\n".join(map(str, self.problems)))


class SamplerUnavailable(ValueError):
    """The sampler that a study names needs a package that is not installed."""


class WarmStartError(ValueError):
    """The study that a search should start from has not run here."""


class StoreVersionError(ValueError):
    """The tracking database has the schema of another MLflow version."""


class StoreUnavailable(ValueError):
    """The tracking store does not answer."""


class MirrorUnavailable(ValueError):
    """The mirror does not answer when a study must be read from it, or is no address of one."""


class MirrorConflict(ValueError):
    """A study was run from two homes, and its mirror and this home no longer agree."""


def shown(value: Any) -> str:
    """A value as a study file would write it, on one line, harmless to a terminal and never long."""
    match value:
        case None:
            text = "nothing"
        case bool():
            text = str(value).lower()
        case str():
            text = f'"{printable(value)}"'
        case dict():
            text = "a mapping"
        case list() | tuple():
            text = f"[{', '.join(shown(item) for item in value[:8])}{', ...' if len(value) > 8 else ''}]"
        case _:
            text = str(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."


def printable(text: str) -> str:
    """The text with control characters, line ends and lone surrogates written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """` (did you mean "x"?)`, or an empty text when nothing known is near."""
    near = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f' (did you mean "{near[0]}"?)' if near else ""
