"""A short measurement of how fast this machine trains a study's network. Imports torch; only `plan --probe` uses it."""

from __future__ import annotations

import time

import torch

from hssl_ray.method.networks import Network, build_network
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.precision import autocast

_IMAGES = 64
_SECONDS = 1.0
_LEAST_STEPS = 3


def probe_throughput(config: TrialConfig, *, gpu: bool = False) -> float:
    """GMAC/s of the backbone forward and backward on random images, the median over about one second of steps.

    Args:
        config: which network, at which precision.
        gpu: measure the first GPU, if there is one, instead of the processor.
    """
    device = torch.device("cuda" if gpu and torch.cuda.is_available() else "cpu")
    images_at_once = _IMAGES if device.type == "cpu" else config.batch_size
    network = build_network(config).to(device)
    images = torch.rand(images_at_once, config.data.channels, config.grid, config.grid, device=device)
    _seconds_of_step(network, images, config)  # the first one allocates and compiles
    seconds: list[float] = []
    while sum(seconds) < _SECONDS or len(seconds) < _LEAST_STEPS:
        seconds.append(_seconds_of_step(network, images, config))
    macs = 3 * config.architecture.cost(config.grid, config.lifted_order).macs * images_at_once
    return macs / sorted(seconds)[len(seconds) // 2] / 1e9


def _seconds_of_step(network: Network, images: torch.Tensor, config: TrialConfig) -> float:
    start = time.perf_counter()
    with autocast(config, images.device):
        z = network(images)
    z.float().square().mean().backward()
    if images.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start
