"""Processor seconds of this process's descendants, as time goes: what a start costs, however busy the machine is."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PAUSE = 0.2


class Processors(threading.Thread):
    """Looks at /proc five times a second while it is entered."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._seen: dict[int, list[tuple[float, float]]] = {}
        self._titles: dict[int, str] = {}
        self._done = threading.Event()

    def __enter__(self) -> Processors:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self.join()

    def run(self) -> None:
        while not self._done.wait(PAUSE):
            self._look()

    def _look(self) -> None:
        parents: dict[int, int] = {}
        seconds: dict[int, float] = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended
            parents[int(folder.name)] = int(fields[1])
            seconds[int(folder.name)] = (int(fields[11]) + int(fields[12])) / TICKS
        now, own = time.time(), os.getpid()
        for pid, used in seconds.items():
            above = parents[pid]
            while above not in (0, own):
                above = parents.get(above, 0)
            if above == own:
                self._seen.setdefault(pid, []).append((now, used))
                self._title(pid)

    def _title(self, pid: int) -> None:
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            return
        name = (
            words[0]
            if words[0].startswith(("ray", "/bin"))
            else " ".join(Path(w).name for w in words[:4] if w[:1] != "-")
        )
        if name:
            self._titles[pid] = name.split(" (")[0]

    def between(self, begin: float, end: float) -> dict[str, float]:
        """Processor seconds by the processes' last titles, most first; times in seconds since 1970."""
        found: dict[str, float] = {}
        for pid, looks in self._seen.items():
            before = [used for at, used in looks if at <= begin]
            until = [used for at, used in looks if at <= end]
            if until:
                name = self._titles.get(pid, "")
                found[name] = found.get(name, 0.0) + until[-1] - (before[-1] if before else 0.0)
        return dict(sorted(found.items(), key=lambda item: -item[1]))
