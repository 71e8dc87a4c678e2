"""How many trials a cluster holds at once, and with how many workers."""

from __future__ import annotations

import math

from hssl_ray.study.engine import ClusterError
from hssl_ray.study.file.sections import Resources

HEAD = "node:__internal_head__"
"""A resource of the head's node alone; what watches over a trial of several workers runs there."""


def concurrent_trials(nodes: list[dict[str, float]], resources: Resources) -> int:
    """How many trials the nodes hold at once. A worker cannot be spread over nodes, a trial can.

    Raises:
        ClusterError: not even one. Ray would wait for it without an end.
    """
    workers = _workers_held(nodes, resources)
    if workers < _fewest(resources):
        cpus, gpus = (sum(node.get(kind, 0) for node in nodes) for kind in ("CPU", "GPU"))
        raise ClusterError(
            f"resources: {_fewest(resources)} workers with {resources.cpus_per_worker:g} CPUs and"
            f" {resources.gpus_per_worker:g} GPUs each must fit into the cluster, which has {cpus:g} CPUs and {gpus:g}"
            f" GPUs on {len(nodes)} nodes"
        )
    return max(1, workers // resources.workers)


def workers_now(nodes: list[dict[str, float]], resources: Resources, batch_size: int) -> int:
    """Workers of the next attempt: all that are asked for or, where the nodes hold fewer, as many as share a batch
    evenly, `min_workers` at least.
    """
    held, fewest = _workers_held(nodes, resources), _fewest(resources)
    if held >= resources.workers:
        return resources.workers
    return next((workers for workers in range(held, fewest, -1) if batch_size % workers == 0), fewest)


def holds_a_part(node: dict[str, float], resources: Resources) -> bool:
    """Whether a process of a trial may run on a node: a worker, or what watches over a trial of several."""
    return _workers_held([node], resources) > 0 or (resources.workers > 1 and HEAD in node)


def _fewest(resources: Resources) -> int:
    return resources.min_workers or resources.workers


def _workers_held(nodes: list[dict[str, float]], resources: Resources) -> int:
    workers = 0
    for node in nodes:
        fits = [math.floor(node.get("CPU", 0) / resources.cpus_per_worker + 1e-9)] if resources.cpus_per_worker else []
        fits += [math.floor(node.get("GPU", 0) / resources.gpus_per_worker + 1e-9)] if resources.gpus_per_worker else []
        workers += min(fits, default=resources.workers)
    return workers
