"""The table of faults: what each test measured, over all seeds, beside its bar and what the stock stack did."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

FAULTS: dict[str, tuple[str, str]] = {
    "F1": ("SIGKILL of one DDP rank in the middle of an epoch", "5.7-7.1 s; 0-1 epochs repeated"),
    "F2": ("SIGKILL of the process that trains or watches a trial", "not measured"),
    "F3": ("SIGKILL of the driver", "0 lost; 2 duplicate runs; 2 orphans"),
    "F4": ("SIGTERM, Ctrl-C, `ray job stop`", "orphaned runs"),
    "F5": ("SIGKILL of a node's raylet", "not measured"),
    "F6": ("Ray's state cut, emptied, deleted, flipped", "0 of 1 recovered, silently, exit 0"),
    "F7": ("`tuner.pkl` emptied, or a pickle that runs code", "EOFError; it would run"),
    "F8": ("SIGKILL in the middle of a journal write", "no journal"),
    "F9": ("checkpoint cut, flipped, emptied, swapped", "3 retries on the bad file, then ERROR"),
    "F10": ("SIGKILL at each step of a checkpoint's write", "partial folders"),
    "F11": ("disk full", "14 ENOSPC errors, 4 trials FAILED"),
    "F12": ("MLflow away for 30 s", "the driver dies"),
    "F13": ("MLflow never comes back", "the driver dies"),
    "F14": ("MLflow slow, 500, 429, connections reset, half answers", "up to 244 s a call"),
    "F15": ("16 writers on one SQLite store", "not measured"),
    "F16": ("NaN or infinity, on all ranks or on one", "RUNNING for ever in Optuna"),
    "F17": ("out of memory", "not measured"),
    "F18": ("a rank that hangs", "600 s until noticed"),
    "F19": ("data file damaged, missing, of another hash", "not measured"),
    "F20": ("60 malformed study files", "no line numbers; duplicate keys accepted"),
    "F21": ("100 hostile study files", "not measured"),
    "F22": ("20 hostile checkpoints", "most are blocked"),
    "F23": ("secrets in environment, settings and addresses", "shown to users of the API"),
    "F24": ("no token, wrong token, foreign host, foreign origin", "not measured"),
    "F25": ("one study submitted twice at once", "both run, and overwrite one another"),
    "F26": ("a lock left by a killed driver", "not measured"),
    "F27": ("files of another version", "Train refuses another version of Ray"),
    "F28": ("the clock jumps by an hour", "not measured"),
    "F29": ("random kills and outages, ten minutes", "not measured"),
    "F30": ("a trial after F1 or F3 against one left in peace", "not measured"),
    "F31": ("50 short studies", "0 processes left"),
}
"""Row: the fault, and what the stock stack did under it (plain Ray and MLflow, measured once)."""

Kind = Literal["bad", "time", "share"]


@dataclass(frozen=True)
class Measured:
    """One figure of one row under one seed."""

    row: str
    what: str
    value: float
    of: int | None
    unit: str
    bar: str
    kind: Kind


class Table:
    """Figures in a file, a line each, so that none is lost with a run that breaks off; tests of several processes may
    write it.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def bad(self, row: str, what: str, count: int, of: int, bar: str = "0") -> None:
        """So many of `of` went wrong; summed over seeds."""
        self._add(Measured(row, what, count, of, "", bar, "bad"))

    def time(self, row: str, what: str, value: float, bar: str, unit: str = "s") -> None:
        """A duration; shown as the median and the largest over seeds."""
        self._add(Measured(row, what, value, None, unit, bar, "time"))

    def share(self, row: str, what: str, value: float, bar: str, unit: str = "") -> None:
        """A ratio; shown as the median and the range over seeds."""
        self._add(Measured(row, what, value, None, unit, bar, "share"))

    def _add(self, one: Measured) -> None:
        assert one.row in FAULTS, one.row
        with self._file.open("a") as file:
            file.write(json.dumps(asdict(one)) + "\n")


def measured(file: Path) -> list[Measured]:
    """The figures of a file, in the order of their writing; none where no test wrote one."""
    return [Measured(**json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []


def lines(figures: Iterable[Measured]) -> list[str]:
    """A Markdown table of each figure over all seeds that measured it, in the order of the rows."""
    groups: dict[tuple[str, str], list[Measured]] = {}
    for one in figures:
        groups.setdefault((one.row, one.what), []).append(one)
    shown = [
        f"| {row} | {FAULTS[row][0]} | {what}: {_summary(group)} | {group[0].bar} | {FAULTS[row][1]} |"
        for (row, what), group in sorted(groups.items(), key=lambda item: int(item[0][0][1:]))
    ]
    return ["| | fault | measured | bar | stock |", "|---|---|---|---|---|", *shown] if shown else []


def _summary(group: Iterable[Measured]) -> str:
    group = list(group)
    values, unit = [one.value for one in group], f" {group[0].unit}".rstrip()
    match group[0].kind:
        case "bad":
            return f"{sum(values):.0f} of {sum(one.of or 0 for one in group)}"
        case "time":
            return f"{statistics.median(values):.3g}{unit}, at most {max(values):.3g} (n = {len(values)})"
        case "share":
            return f"{statistics.median(values):.3g}{unit} [{min(values):.3g}, {max(values):.3g}] (n = {len(values)})"
