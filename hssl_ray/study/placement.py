"""How many trials a cluster holds at once."""

from __future__ import annotations

import math

from hssl_ray.study.engine import ClusterError
from hssl_ray.study.sections import Resources


def concurrent_trials(nodes: list[dict[str, float]], resources: Resources) -> int:
    """How many trials the nodes hold at once. A worker cannot be spread over nodes, a trial can.

    Raises:
        ClusterError: not even one. Ray would wait for it without an end.
    """
    workers = 0
    for node in nodes:
        fits = [math.floor(node.get("CPU", 0) / resources.cpus_per_worker + 1e-9)] if resources.cpus_per_worker else []
        fits += [math.floor(node.get("GPU", 0) / resources.gpus_per_worker + 1e-9)] if resources.gpus_per_worker else []
        workers += min(fits, default=resources.workers)
    trials = workers // resources.workers
    if trials == 0:
        cpus, gpus = (sum(node.get(kind, 0) for node in nodes) for kind in ("CPU", "GPU"))
        raise ClusterError(
            f"resources: {resources.workers} workers with {resources.cpus_per_worker:g} CPUs and"
            f" {resources.gpus_per_worker:g} GPUs each must fit into the cluster, which has {cpus:g} CPUs and {gpus:g}"
            f" GPUs on {len(nodes)} nodes"
        )
    return trials
