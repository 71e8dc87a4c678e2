"""Watches the running attempts of a study: which of them have stopped moving, and where their workers were."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hssl_ray.study.layout import trial_folder
from hssl_ray.trial.pulse import Seen, read_pulses

SHORTEST_LOOK, LONGEST_LOOK = 1.0, 4.0
"""Seconds from one look at the files to the next, a tenth of the limit between these: many workers are many files."""
BLIND_SECONDS = 30.0
"""Whoever has not looked for so long was stopped itself, perhaps with those it watches, and starts anew."""


@dataclass
class _Watched:
    attempt: int
    told: bool = False
    workers: list[Seen] = field(default_factory=list)
    since: dict[int, tuple[int, float]] = field(default_factory=dict)  # by rank: the beat, and when it was first seen


class Vigil:
    """Looks at the pulses of attempts from their first beat on.

    Before it, a worker may wait for machines, for its process to start or for another study that trains the same trial.
    Times are this process's own and only grow, so clocks that are set or differ between machines change nothing.

    Args:
        home: where the trials' folders lie.
        limit: seconds without a beat after which a worker hangs.
        clock: seconds that only grow.
    """

    def __init__(self, home: Path, limit: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._home, self._limit, self._clock = home, limit, clock
        self._rest = min(LONGEST_LOOK, max(SHORTEST_LOOK, limit / 10))
        self._watched: dict[str, _Watched] = {}
        self._looked = clock()

    def start(self, trial_id: str, attempt: int) -> None:
        """An attempt begins."""
        self._watched[trial_id] = _Watched(attempt)

    def end(self, trial_id: str) -> None:
        """It is over."""
        self._watched.pop(trial_id, None)

    def workers(self, trial_id: str) -> list[Seen]:
        """The workers of a running attempt; none before their first beat."""
        watched = self._watched[trial_id]
        return read_pulses(trial_folder(self._home, trial_id), watched.attempt) or watched.workers

    def hung(self) -> dict[str, tuple[str, list[Seen]]]:
        """The attempts of which a worker has not moved for the limit: why, and all their workers. Each is told once."""
        now = self._clock()
        blind = now - self._looked
        if blind < self._rest:
            return {}
        self._looked = now
        found = {}
        for trial_id, watched in self._watched.items():
            if watched.told:
                continue
            watched.workers = read_pulses(trial_folder(self._home, trial_id), watched.attempt)
            before = {} if blind > BLIND_SECONDS else watched.since
            watched.since = {seen.rank: _since(seen, before, now) for seen in watched.workers}
            still = [rank for rank, (_, since) in watched.since.items() if now - since >= self._limit]
            if still:
                watched.told = True
                ranks = ", ".join(map(str, still))
                found[trial_id] = f"no sign of worker {ranks} for {self._limit:g} s", watched.workers
        return found


def _since(seen: Seen, before: dict[int, tuple[int, float]], now: float) -> tuple[int, float]:
    beat, since = before.get(seen.rank, (seen.beaten, now))
    return (beat, since) if beat == seen.beaten else (seen.beaten, now)
