"""Whether a study's home is one folder for all nodes of a Ray cluster that a trial may run on.

Trials keep journals and checkpoints there, wherever they run. On a node whose home is a folder of its own they would
train, report, and leave nothing that the driver or another node ever finds.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hssl_ray.study.attempt import LOOK_SECONDS
from hssl_ray.study.engine import ClusterError
from hssl_ray.study.file.sections import Resources
from hssl_ray.study.ray.placement import holds_a_part

ANSWER_SECONDS = 120.0
"""A node has to start a process first."""


def check_home(home: Path, scratch: Path, resources: Resources) -> None:
    """Have every other node that may hold a part of a trial read a file of ours and write one that we can see.

    The driver's own node is not asked: a driver and its raylet share memory and sockets, so they are one machine. Where
    there is no other node, this does nothing.

    Args:
        home: see `hssl_ray.data.home`.
        scratch: an existing folder in it, for the files.

    Raises:
        ClusterError: a node does not share the home, with each such node and its reason.
    """
    own = ray.get_runtime_context().get_node_id()
    nodes = {
        node["NodeID"]: node
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"] and node["NodeID"] != own and holds_a_part(node["Resources"], resources)
    }
    if not nodes:
        return
    token = secrets.token_hex(16)
    marker = scratch / f"seen-{token}"  # a name that no host remembers as absent
    marker.write_text(token)
    wrong = {node: reason for node, reason in _answers(marker, token, nodes).items() if reason}
    wrong = {node: reason for node, reason in wrong.items() if _is_alive(node)}
    if wrong:
        named = "; ".join(f"{_name(nodes[node])}: {reason}" for node, reason in sorted(wrong.items()))
        raise ClusterError(
            f"home: must be one folder for all nodes of the cluster, {home} is not on {len(wrong)} of {1 + len(nodes)}"
            f" ({named}). Set HSSL_HOME to a folder on a file system that all nodes mount at the same path. No trial"
            " was started"
        )


def _answers(marker: Path, token: str, nodes: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with the home on each node; empty where nothing is."""
    look: Any = ray.remote(_look)
    asked = {}
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        task = look.options(num_cpus=0, max_retries=0, scheduling_strategy=there)
        asked[node] = task.remote(str(marker), token, str(_answer(marker, node)))
    answered, late = ray.wait(list(asked.values()), num_returns=len(asked), timeout=ANSWER_SECONDS)
    for task in late:
        ray.cancel(task, force=True)
    return {
        node: _outcome(task, _answer(marker, node)) if task in answered else f"no answer in {ANSWER_SECONDS:.0f} s"
        for node, task in asked.items()
    }


def _answer(marker: Path, node: str) -> Path:
    return marker.with_name(f"{marker.name}-{node}")


def _outcome(task: Any, answer: Path) -> str:
    try:
        said: str = ray.get(task)
    except RayError as error:  # this package is not there, or the process died
        return (str(error).strip() or type(error).__name__).splitlines()[-1]
    return said or _until_read(answer, answer.name)


def _look(marker: str, token: str, answer: str) -> str:
    """On a node: what is wrong with the home here; empty if the marker is there and the answer could be written."""
    wrong = _until_read(Path(marker), token)
    if wrong:
        return wrong
    try:
        Path(answer).write_text(Path(answer).name)
    except OSError as error:
        return f"cannot be written to ({error.strerror})"
    return ""


def _until_read(path: Path, expected: str) -> str:
    """Why a file that another host wrote cannot be read here; empty as soon as it can."""
    deadline = time.monotonic() + LOOK_SECONDS
    while True:
        try:
            if path.read_text() == expected:
                return ""
            wrong = "other content"
        except OSError as error:
            wrong = error.strerror or type(error).__name__
        if time.monotonic() >= deadline:
            return f"another folder ({path.name}: {wrong})"
        time.sleep(0.1)


def _is_alive(node: str) -> bool:
    """A node that was lost meanwhile holds no trial."""
    return any(known["NodeID"] == node and known["Alive"] for known in ray.nodes())  # type: ignore[no-untyped-call]


def _name(node: Mapping[str, Any]) -> str:
    return f"{node['NodeManagerHostname']} {node['NodeManagerAddress']} {node['NodeID'][:8]}"
