"""Lifting convolutions, forward and backward: the networks' first layers, ours beside SESN's way.

    python benchmarks/lifting.py [--rounds 7] [--threads 1] [--types fp32 bf16] [--json]

Ratios are SESN's way in float32 over ours, pair by pair; rounds alternate. Both compute the same function: equal to
1e-5 in float32, checked before timing. Images need no gradient, as in training.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

import torch
from against_sesn import alternate, run
from figures import Figure
from sesn import SesnLiftingConv2d
from torch import Tensor, nn

from hssl_ray.method.networks import build_network
from hssl_ray.method.steerable import LiftingConv2d
from hssl_ray.trial.config import TrialConfig

IMAGES = 128
LAYERS = (
    ("mnist", "scale", 0.25),
    ("mnist", "scale", 1.0),
    ("mnist", "rotation", 1.0),
    ("cifar10", "scale", 1.0),
    ("cifar10", "rotation", 1.0),
)


def pair(config: TrialConfig) -> tuple[LiftingConv2d, SesnLiftingConv2d]:
    """The two layers with the same weights."""
    ours = next(layer for layer in build_network(config).modules() if isinstance(layer, LiftingConv2d))
    out_channels, in_channels, _ = ours.weight.shape
    theirs = SesnLiftingConv2d(in_channels, out_channels, ours.basis.float(), stride=ours.stride, padding=ours.padding)
    theirs.weight = nn.Parameter(ours.weight.detach().clone())
    return ours, theirs


def seconds(module: nn.Module, images: Tensor, dtype: torch.dtype) -> float:
    module.zero_grad()
    start = time.perf_counter()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
        y = module(images)
    y.backward(y.detach())
    return time.perf_counter() - start


def figures(rounds: int, types: list[str]) -> Iterator[Figure]:
    for dataset, group, width in LAYERS:
        config = TrialConfig(dataset=dataset, group=group, width=width)
        ours, theirs = pair(config)
        images = torch.randn(IMAGES, ours.weight.shape[1], config.grid, config.grid)
        with torch.no_grad():
            expected, found = theirs(images), ours(images)
        assert (found - expected).norm() <= 1e-5 * expected.norm(), config
        both = alternate(partial(seconds, theirs, images, torch.float32), partial(seconds, ours, images), rounds, types)
        channels = f"{ours.weight.shape[1]}->{ours.weight.shape[0]}"
        for name, times in both.items():
            what = f"lifting, {dataset} {group} {channels}, {name}"
            yield Figure(what, times.ratio, "x SESN", detail=times.detail | {"images": IMAGES})


if __name__ == "__main__":
    run("lifting", __doc__, figures)
