"""BatchNorm of a training step: ours beside torch's, time of forward and backward and error of the mean.

    python benchmarks/batch_norm.py [--rounds 15] [--threads 1] [--json]

Shapes are those of the quick-start network (six scales, 128 images). Rounds alternate; the ratio is the median of the
paired ones, above 1 where ours is faster.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator

import torch
from figures import Figure, paired_ratio, show
from torch import Tensor, nn

from hssl_ray.method.normalisation import BatchNorm

SHAPES = ((768, 8, 29, 29), (768, 16, 15, 15), (768, 32, 8, 8))


def seconds(layer: nn.Module, x: Tensor, grad: Tensor) -> float:
    x.grad = None
    start = time.perf_counter()
    layer(x).backward(grad)
    return time.perf_counter() - start


def error_of_mean(layer: nn.Module, x: Tensor) -> float:
    """Relative error of the running mean after one batch; it holds a tenth of the batch's."""
    layer(x)
    exact = x.detach().double().mean((0, 2, 3)) / 10
    return ((layer.running_mean - exact).abs() / exact.abs()).max().item()


def figures(rounds: int) -> Iterator[Figure]:
    for shape in SHAPES:
        for dtype in (torch.float32, torch.bfloat16):
            generator = torch.Generator().manual_seed(0)
            x = (torch.randn(shape, generator=generator) + 1).to(dtype).contiguous(memory_format=torch.channels_last)
            grad = torch.randn(shape, generator=generator).to(dtype).contiguous(memory_format=torch.channels_last)
            ours, theirs = BatchNorm(shape[1]), nn.BatchNorm2d(shape[1])
            errors = {"our_error": error_of_mean(ours, x), "torch_error": error_of_mean(theirs, x)}
            x.requires_grad_()
            pairs = [(seconds(ours, x, grad), seconds(theirs, x, grad)) for _ in range(rounds + 2)][2:]
            mine, other = ([pair[side] for pair in pairs] for side in (0, 1))
            times = {"ours_ms": statistics.median(mine) * 1e3, "torch_ms": statistics.median(other) * 1e3}
            what = f"batch norm, {' x '.join(map(str, shape))}, {str(dtype).removeprefix('torch.')}"
            yield Figure(what, paired_ratio(other, mine), "times", detail=times | errors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    show("batch_norm", figures(arguments.rounds), as_json=arguments.json)


if __name__ == "__main__":
    main()
