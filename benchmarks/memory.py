"""Memory of a full-MNIST trial of the scale network at width 1/4, and what a second one beside it adds.

    python benchmarks/memory.py [--method h_ssl] [--batch 512] [--epochs 1] [--json]

Runs `hssl-ray run` on a study of one trial, then of two at once, and looks at the trials' processes: those that map the
data set's file. Needs the data set `mnist` under HSSL_HOME; takes some minutes.

How it is counted, in MB of 10**6 bytes. One trial: the most resident memory its process ever had (VmHWM), every library
and mapped page in full. The second of two: the same, less the pages that it shared with other processes when it was
largest, read from smaps; that is what the machine would have left if the process were not there. The smaller of the two
is the second: the one that came later to the pages they share may be either.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from figures import Figure, show

from hssl_ray.data.home import home

KB = 1024 / 1e6
POLL_SECONDS = 0.2
STUDY = """
study: memory
base: {{dataset: mnist, group: scale, width: 0.25, batch_size: {batch}, epochs: {epochs}, warmup_epochs: 0,
  method: {method}}}
seeds: {seeds}
resources: {{workers: 1, cpus_per_worker: 1}}
"""


@dataclass
class Peak:
    """Most memory of one process so far, MB."""

    resident: float = 0.0
    """All of its pages, as the kernel kept it."""
    largest_seen: float = 0.0
    shared: float = 0.0
    """Those of its pages that others had too, when it was largest."""

    @property
    def added(self) -> float:
        return self.resident - self.shared


def peaks(command: list[str], own: Path, mapped: str) -> dict[int, Peak]:
    """Run a command with a home of its own and follow those of its processes that map a file whose path ends in
    `mapped`.

    Raises:
        RuntimeError: it failed, or none of its processes did.
    """
    environment = os.environ | {"HSSL_HOME": str(own), "MLFLOW_DISABLE_TELEMETRY": "true"}
    mark = f"HSSL_HOME={own}".encode()
    others = set(processes())
    found: dict[int, Peak] = {}
    with tempfile.TemporaryFile("w+") as output:
        running = subprocess.Popen(command, env=environment, stdout=output, stderr=output)  # noqa: S603
        while running.poll() is None:
            for process in set(processes()) - others:
                if process not in found and not belongs(process, mark):
                    others.add(process)
                else:
                    look(process, found, mapped)
            time.sleep(POLL_SECONDS)
        if running.returncode or not found:
            output.seek(0)
            raise RuntimeError(f"{' '.join(command)}: exit code {running.returncode}\n{output.read()[-2000:]}")
    return found


def processes() -> Iterator[int]:
    yield from (int(name) for name in os.listdir("/proc") if name.isdecimal())


def belongs(process: int, mark: bytes) -> bool:
    """Whether a process has this line in its environment."""
    try:
        return mark in Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    except OSError:
        return False  # ended, or not ours


def look(process: int, found: dict[int, Peak], mapped: str) -> None:
    """Bring a process's peak up to date, if it is one to follow and still there."""
    folder = Path(f"/proc/{process}")
    try:
        if process not in found:
            if mapped not in (folder / "maps").read_text():
                return
            found[process] = Peak()
        status, rollup = (folder / "status").read_text(), (folder / "smaps_rollup").read_text()
    except OSError:
        return  # ended
    peak = found[process]
    peak.resident = max(peak.resident, kilobytes(status, "VmHWM") * KB)
    now = kilobytes(rollup, "Rss") * KB
    if now > peak.largest_seen:
        peak.largest_seen = now
        peak.shared = (kilobytes(rollup, "Shared_Clean") + kilobytes(rollup, "Shared_Dirty")) * KB


def kilobytes(text: str, field: str) -> int:
    line = re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)
    return int(line.group(1)) if line else 0  # a process that is ending has no memory left to tell of


def run_trials(folder: Path, seeds: int, method: str, batch: int, epochs: int) -> list[Peak]:
    """Peaks of the processes of so many trials at once, largest first."""
    own = folder / f"home-{seeds}"
    own.mkdir()
    (own / "data").symlink_to(home() / "data")
    study = folder / f"memory-{seeds}.yaml"
    study.write_text(STUDY.format(batch=batch, epochs=epochs, method=method, seeds=seeds))
    code = "from hssl_ray.cli import main; main()"
    found = peaks([sys.executable, "-c", code, "run", str(study)], own, "/train.arrow\n")
    return sorted(found.values(), key=lambda peak: -peak.added)


def figures(method: str, batch: int, epochs: int) -> Iterator[Figure]:
    setting: dict[str, float | int | str] = {"method": method, "batch": batch, "epochs": epochs}
    with tempfile.TemporaryDirectory() as folder:
        (alone,) = run_trials(Path(folder), 1, method, batch, epochs)
        yield Figure("memory, one full-MNIST trial, width 1/4", alone.resident, "MB", 1200.0, "lower", setting)
        first, second = run_trials(Path(folder), 2, method, batch, epochs)
        detail = setting | {"first": first.added, "resident": second.resident, "shared": second.shared}
        yield Figure("memory, the second trial beside it", second.added, "MB", 800.0, "lower", detail)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="h_ssl")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    show("memory", figures(arguments.method, arguments.batch, arguments.epochs), as_json=arguments.json)


if __name__ == "__main__":
    main()
