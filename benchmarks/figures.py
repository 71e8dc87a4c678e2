"""A measured figure beside its bar, and the machine it was measured on; printed as a table or as JSON lines."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Figure:
    """One measurement: the median of its rounds, as a value of its own or as a ratio to a baseline of the same run."""

    what: str
    value: float
    unit: str
    bar: float | None = None
    better: Literal["higher", "lower"] = "higher"
    detail: dict[str, float | int | str] = field(default_factory=dict)
    """What the value was made of: milliseconds of both sides, rounds, spread."""

    @property
    def holds(self) -> bool | None:
        """Whether the bar is met; None without one."""
        if self.bar is None:
            return None
        return self.value >= self.bar if self.better == "higher" else self.value <= self.bar


@cache
def machine() -> dict[str, str | int]:
    """What a figure depends on beside the code."""
    model = ""
    if (info := Path("/proc/cpuinfo")).exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith(("model name", "cpu family"))]
        model = ", ".join(dict.fromkeys(line.partition(":")[2].strip() for line in lines))
    return {
        "cpu": model or platform.processor(),
        "cores": os.cpu_count() or 0,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "ray", "mlflow")},
    }


def paired_ratio(baseline: Sequence[float], ours: Sequence[float]) -> float:
    """How many times as fast: the median over rounds of baseline over ours, both timed in the same round."""
    return statistics.median(a / b for a, b in zip(baseline, ours, strict=True))


def show(benchmark: str, figures: Iterable[Figure], *, as_json: bool) -> None:
    """Print figures as they come."""
    if not as_json:
        print("  ".join(f"{name} {value}" for name, value in machine().items()), file=sys.stderr)
    for figure in figures:
        if as_json:
            line = {"benchmark": benchmark, **asdict(figure), "holds": figure.holds, "machine": machine()}
            print(json.dumps(line), flush=True)
            continue
        sign = ">=" if figure.better == "higher" else "<="
        bar = "" if figure.bar is None else f"bar {sign} {figure.bar:g}: {'holds' if figure.holds else 'MISSED'}"
        detail = "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in figure.detail.items())
        print(f"{figure.what:58}{figure.value:10.3g} {figure.unit:10}{bar:22}  {detail}", flush=True)
