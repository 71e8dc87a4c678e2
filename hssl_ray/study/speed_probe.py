"""A short measurement of how fast this machine trains a study's network. Imports torch; only `plan --probe` uses it."""

from __future__ import annotations

import os
import time

import torch

from hssl_ray.method.networks import Network, build_network
from hssl_ray.study.file.sections import Resources
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.precision import autocast

_IMAGES = 64
_GMAC = 50.0  # of a forward pass on a processor: a larger network is measured on fewer images
_SECONDS = 1.0
_LEAST_STEPS = 5


def probe_throughput(config: TrialConfig, resources: Resources) -> float:
    """GMAC/s of all the workers that fit on this machine, from one of them alone with its threads.

    Counts the backbone forward and backward on random images for about a second, for longer if a step takes long, and
    takes the fastest step: the others were held up by something else.

    Args:
        config: which network, at which precision.
        resources: of a trial; with a GPU in them the first GPU is measured, if there is one.
    """
    if resources.gpus_per_worker and torch.cuda.is_available():
        images = max(2, config.batch_size // resources.workers)
        return torch.cuda.device_count() * _worker_throughput(config, torch.device("cuda"), images)
    threads = max(1, int(resources.cpus_per_worker))
    per_image = config.architecture.cost(config.grid).macs / 1e9
    images = min(_IMAGES, max(2, int(_GMAC / per_image)))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return max(1, _cores() // threads) * _worker_throughput(config, torch.device("cpu"), images)
    finally:
        torch.set_num_threads(before)


def _worker_throughput(config: TrialConfig, device: torch.device, images: int) -> float:
    network = build_network(config).to(device)
    x = torch.rand(images, config.data.channels, config.grid, config.grid, device=device)
    _seconds_of_step(network, x, config)  # the first one allocates and compiles
    seconds: list[float] = []
    while sum(seconds) < _SECONDS or (len(seconds) < _LEAST_STEPS and sum(seconds) < _LEAST_STEPS * _SECONDS):
        seconds.append(_seconds_of_step(network, x, config))
    macs = 3 * config.architecture.cost(config.grid).macs * images
    return macs / min(seconds) / 1e9


def _seconds_of_step(network: Network, x: torch.Tensor, config: TrialConfig) -> float:
    start = time.perf_counter()
    with autocast(config, x.device):
        z = network(x)
    z.float().square().mean().backward()
    if x.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
