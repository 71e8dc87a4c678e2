"""Lifting convolutions, forward and backward: the networks' first layers, ours beside SESN's way.

    python benchmarks/lifting.py [--rounds 7] [--threads 1] [--types fp32 bf16] [--json]

Ratios are SESN's way in float32 over ours, pair by pair; rounds alternate. Both compute the same function: equal to
1e-5 in float32, checked before timing. Images need no gradient, as in training.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator

import torch
from figures import Figure, paired_ratio, show
from number_types import TYPES, add_types, chosen_types
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
        side = config.grid
        images = torch.randn(IMAGES, ours.weight.shape[1], side, side)
        with torch.no_grad():
            expected, found = theirs(images), ours(images)
        assert (found - expected).norm() <= 1e-5 * expected.norm(), config
        of_theirs: list[float] = []
        of_ours: dict[str, list[float]] = {name: [] for name in types}
        for _ in range(rounds + 1):
            of_theirs.append(seconds(theirs, images, torch.float32))
            for name, times in of_ours.items():
                times.append(seconds(ours, images, TYPES[name]))
        for name, times in of_ours.items():
            ratio = paired_ratio(of_theirs[1:], times[1:])
            detail = {
                "sesn_fp32_ms": 1e3 * statistics.median(of_theirs[1:]),
                "ours_ms": 1e3 * statistics.median(times[1:]),
                "images": IMAGES,
                "rounds": rounds,
            }
            channels = f"{ours.weight.shape[1]}->{ours.weight.shape[0]}"
            yield Figure(f"lifting, {dataset} {group} {channels}, {name}", ratio, "x SESN", detail=detail)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="of a trial's process; two trials share this machine")
    add_types(parser)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found = figures(arguments.rounds, chosen_types(arguments.types))
    show("lifting", found, as_json=arguments.json)


if __name__ == "__main__":
    main()
