"""The nodes of a Ray cluster, as far as a study needs to act on them."""

from __future__ import annotations

import os
import signal
import socket
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hssl_ray.trial.pulse import Seen, born

ANSWER_SECONDS = 2.0


def living_nodes() -> list[dict[str, float]]:
    """What each node of the cluster has, busy or not."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


class RayMachines:
    """See `tune_bridge.Machines`."""

    def kill(self, workers: list[Seen]) -> None:
        """With SIGKILL, by a task on each node: Ray asks a process to end, which one that is stopped never hears."""
        for node in {worker.node for worker in workers}:
            pids = {worker.pid: worker.born for worker in workers if worker.node == node}
            if node == ray.get_runtime_context().get_node_id():
                _kill(pids)
            else:
                there = NodeAffinitySchedulingStrategy(node, soft=False)
                remote: Any = ray.remote(_kill)
                remote.options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote(pids)

    def gone(self, node: str) -> bool:
        """Whether the cluster has given the node up, or its raylet does not answer: the cluster takes seconds more."""
        for known in ray.nodes():  # type: ignore[no-untyped-call]
            if known["NodeID"] == node:
                return not known["Alive"] or not _answers(known["NodeManagerAddress"], known["NodeManagerPort"])
        return False


def _kill(pids: dict[int, str]) -> None:
    """Processes of this node, unless their numbers have gone to others."""
    for pid, since in pids.items():
        if born(pid) == since:
            os.kill(pid, signal.SIGKILL)


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=ANSWER_SECONDS).close()
    except OSError:
        return False
    return True
