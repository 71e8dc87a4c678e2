"""Translates the events of Tune's loop into the sweep's; Ray itself is not imported."""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any, Protocol

from hssl_ray.study.attempt import Decision, Ending
from hssl_ray.study.failures import largest_killed, lost
from hssl_ray.study.ray.vigil import Vigil
from hssl_ray.study.sweep import Sweep
from hssl_ray.trial.journal import Record
from hssl_ray.trial.pulse import Seen

log = logging.getLogger(__name__)

FALSE_STARTS = 8
"""Of a trial, in one run of Tune's loop, that use up no retry."""


class Machines(Protocol):
    """The nodes that trials run on."""

    def kill(self, workers: list[Seen]) -> None:
        """Kill processes, wherever they are and whatever they do; returns before they have died."""

    def gone(self, node: str) -> bool:
        """Whether a node is lost."""


class TuneBridge:
    """Tune knows a trial by an id of its own; its config holds ours, as `trial_id`."""

    def __init__(self, sweep: Sweep, vigil: Vigil, machines: Machines) -> None:
        self._sweep, self._vigil, self._machines = sweep, vigil, machines
        self._running: dict[str, str] = {}  # our ids, and the actors that train
        self._endings: dict[str, Ending] = {}  # by our ids
        self._hung: dict[str, Ending] = {}
        self._false_starts = Counter[str]()
        self._ended = 0

    def step(self) -> None:
        """Once on every turn of Tune's loop."""
        self._sweep.end_if_interrupted()
        for trial_id, (why, workers) in self._vigil.hung().items():
            self._hung[trial_id] = Ending("failed", f"hung: {why}")
            log.warning("trial %s hangs and is killed: %s", trial_id, why)
            self._machines.kill(workers)

    def start(self, trial: Any) -> None:
        trial_id = trial.config["trial_id"]
        if trial_id not in self._running:
            actor = trial.temporary_state.ray_actor
            self._running[trial_id] = "" if actor is None else actor._actor_id.hex()
            self._sweep.started(trial_id)
            self._vigil.start(trial_id, trial.config["attempt"])

    def result(self, trial: Any, message: dict[str, Any]) -> Decision:
        trial_id = trial.config["trial_id"]
        if "ending" in message:
            self._endings[trial_id] = Ending(**json.loads(message["ending"]))
            return "continue"
        record = Record(**json.loads(message["record"]))
        decision = self._sweep.reported(trial_id, record)
        if decision == "stop":
            self._endings[trial_id] = Ending("pruned", f"pruned: stopped early after epoch {record.epoch}")
        return decision

    def complete(self, trial: Any) -> None:
        self._end(trial.config["trial_id"], "error: the trial ended without a word")

    def error(self, trial: Any) -> None:
        self.start(trial)  # a process may die before its trial starts
        said = lost(Path(trial.error_file).read_text(encoding="utf-8", errors="replace"))
        if not self._set_back(trial.config["trial_id"], said):
            self._end(trial.config["trial_id"], said)

    def make_way(self, trial: Any) -> bool:
        """Whether a trial that waits for a process is to be stopped, for one that has lost its own."""
        return self._sweep.make_way(trial.config["trial_id"])

    def _set_back(self, trial_id: str, said: str) -> bool:
        """Hand a trial out again that had not begun when its process died: Tune kept the process, with others perhaps,
        for its next trial, and the node went down meanwhile. It costs no retry, so it is done a few times only.
        """
        lost_early = said.startswith(("worker_lost", "node_lost")) and trial_id not in self._endings
        if not lost_early or self._vigil.workers(trial_id) or self._false_starts[trial_id] >= FALSE_STARTS:
            return False
        self._false_starts[trial_id] += 1
        self._forget(trial_id)
        self._sweep.set_back(trial_id, "its process was gone before it began")
        return True

    def _end(self, trial_id: str, otherwise: str) -> None:
        """What the trial itself said of its end, else that it failed."""
        self._ended += 1
        ending = self._endings.pop(trial_id, Ending("failed", otherwise))
        hung = self._hung.pop(trial_id, None)
        if ending.state == "failed" and hung is not None:
            ending = hung
        elif ending.reason.startswith("worker_lost"):
            ending = self._traced_to_node(trial_id, ending)
        self._forget(trial_id)
        self._sweep.ended(trial_id, ending)

    def _forget(self, trial_id: str) -> None:
        del self._running[trial_id]
        self._vigil.end(trial_id)

    def _traced_to_node(self, trial_id: str, ending: Ending) -> Ending:
        """A worker that is lost with its node: its neighbours, and Ray too at times, only see it vanish."""
        for worker in self._vigil.workers(trial_id):
            if self._machines.gone(worker.node):
                return Ending("failed", f"node_lost: worker {worker.rank} was on node {worker.node}, which is gone")
        return ending

    def cut_short(self, error: Exception) -> bool:
        """Settle what ran when Tune's loop broke. Whether another loop can get further than this one did."""
        culprit = largest_killed(str(error))
        for trial_id, actor in list(self._running.items()):
            if actor == culprit:
                self._end(trial_id, lost(str(error)))
            else:
                self._vigil.end(trial_id)
                self._sweep.set_back(trial_id, "its process was taken down with another trial's")
        self._sweep.take_back()
        return self._ended > 0
