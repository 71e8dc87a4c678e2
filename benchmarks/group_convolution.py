"""Group convolutions, forward and backward: ours beside SESN's way, the networks' layers, float32 and bfloat16.

    python benchmarks/group_convolution.py [--rounds 7] [--threads 1] [--json]

Ratios are SESN's way in float32 over ours, pair by pair, so above 1 is how many times as fast; rounds alternate. With
`--json` a line for each layer. Both compute the same function: equal to 1e-5 in float32, checked before timing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from sesn import SesnGroupConv2d
from torch import Tensor, nn

from hssl_ray.method import geometry
from hssl_ray.method.groups import Group, Rotation, Scale
from hssl_ray.method.steerable import GroupConv2d


@dataclass(frozen=True)
class Layer:
    """One group convolution of a network, k7 e3 padding 3, on `images` maps of `size` cells a side."""

    network: str
    group: str
    in_channels: int
    out_channels: int
    size: int
    stride: int
    images: int


LAYERS = (
    Layer("mnist_cnn", "scale", 32, 64, 29, 2, 32),
    Layer("mnist_cnn", "scale", 64, 128, 15, 2, 32),
    Layer("resnet20", "scale", 128, 256, 17, 2, 4),
    Layer("resnet20", "scale", 512, 512, 9, 1, 4),
    Layer("resnet20", "rotation", 128, 256, 17, 2, 4),
    Layer("resnet20", "rotation", 512, 512, 9, 1, 4),
)


def group_of(layer: Layer) -> Group:
    return Scale(geometry.scale()) if layer.group == "scale" else Rotation(geometry.rotation())


def pair(layer: Layer) -> tuple[GroupConv2d, SesnGroupConv2d]:
    """The two layers with the same weights."""
    channels = layer.in_channels, layer.out_channels
    ours = GroupConv2d(*channels, 7, 3, group_of(layer), stride=layer.stride, padding=3)
    theirs = SesnGroupConv2d(*channels, ours.basis.float(), stride=layer.stride, padding=3)
    theirs.weight = nn.Parameter(ours.weight.detach().clone())
    return ours, theirs


def inputs(layer: Layer, like: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Features and a gradient of the output, each as the layer would get them from its neighbours in a network."""
    generator = torch.Generator().manual_seed(0)
    size = (layer.size - 1) // layer.stride + 1
    order = group_of(layer).lifted_order
    z = torch.randn(layer.images, layer.in_channels, order, layer.size, layer.size, generator=generator)
    grad = torch.randn(layer.images, layer.out_channels, order, size, size, generator=generator)
    return like(z), like(grad)


def lifted_first(z: Tensor) -> Tensor:
    """As our features lie in memory: G-major and channels-last."""
    return z.permute(2, 0, 3, 4, 1).contiguous().permute(1, 4, 0, 2, 3)


def seconds(module: nn.Module, z: Tensor, grad: Tensor, dtype: torch.dtype) -> float:
    module.zero_grad()
    z = z.detach().to(dtype).requires_grad_()
    grad = grad.to(dtype)
    start = time.perf_counter()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
        y = module(z)
    y.backward(grad)
    return time.perf_counter() - start


def check_equal(layer: Layer) -> None:
    ours, theirs = pair(layer)
    z, _ = inputs(layer, lambda x: x)
    with torch.no_grad():
        expected, found = theirs(z), ours(z)
    assert (found - expected).norm() <= 1e-5 * expected.norm(), layer


def measure(layer: Layer, rounds: int) -> dict[str, float]:
    """Median milliseconds and ratios."""
    check_equal(layer)
    ours, theirs = pair(layer)
    plain, lifted = inputs(layer, torch.Tensor.contiguous), inputs(layer, lifted_first)
    times: dict[str, list[float]] = {"sesn_fp32": [], "ours_fp32": [], "ours_bf16": []}
    for _ in range(rounds + 2):
        times["sesn_fp32"].append(seconds(theirs, *plain, torch.float32))
        times["ours_fp32"].append(seconds(ours, *lifted, torch.float32))
        times["ours_bf16"].append(seconds(ours, *lifted, torch.bfloat16))
    kept = {name: values[2:] for name, values in times.items()}
    found = {f"{name}_ms": 1e3 * statistics.median(values) for name, values in kept.items()}
    for name in ("ours_fp32", "ours_bf16"):
        ratios = [a / b for a, b in zip(kept["sesn_fp32"], kept[name], strict=True)]
        found[f"{name}_ratio"] = statistics.median(ratios)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if not arguments.json:
        print(f"torch {torch.__version__}, {arguments.threads} threads, median of {arguments.rounds}")
        print(f"{'layer':44}{'SESN fp32 ms':>14}{'ours fp32 ms':>14}{'ratio':>7}{'ours bf16 ms':>14}{'ratio':>7}")
    for layer in LAYERS:
        found = measure(layer, arguments.rounds)
        if arguments.json:
            print(json.dumps({**asdict(layer), "threads": arguments.threads, **found}), flush=True)
            continue
        name = f"{layer.network} {layer.group} {layer.in_channels}->{layer.out_channels} {layer.size}x{layer.size}"
        print(
            f"{name:44}{found['sesn_fp32_ms']:14.1f}{found['ours_fp32_ms']:14.1f}{found['ours_fp32_ratio']:7.2f}"
            f"{found['ours_bf16_ms']:14.1f}{found['ours_bf16_ratio']:7.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
