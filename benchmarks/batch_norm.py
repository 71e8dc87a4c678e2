"""BatchNorm of a training step: ours beside torch's, time of forward and backward and error of the mean. One thread.

    python benchmarks/batch_norm.py [--rounds 15]

Shapes are those of the quick-start network (six scales, 128 images). Rounds alternate; medians, and the median of the
paired ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, median of {rounds}")
    print(f"{'shape':22}{'type':10}{'ours ms':>9}{'torch ms':>10}{'ratio':>7}{'our error':>11}{'torch error':>13}")
    for shape in SHAPES:
        for dtype in (torch.float32, torch.bfloat16):
            generator = torch.Generator().manual_seed(0)
            x = (torch.randn(shape, generator=generator) + 1).to(dtype).contiguous(memory_format=torch.channels_last)
            grad = torch.randn(shape, generator=generator).to(dtype).contiguous(memory_format=torch.channels_last)
            ours, theirs = BatchNorm(shape[1]), nn.BatchNorm2d(shape[1])
            errors = error_of_mean(ours, x), error_of_mean(theirs, x)
            x.requires_grad_()
            pairs = [(seconds(ours, x, grad), seconds(theirs, x, grad)) for _ in range(rounds + 2)][2:]
            a, b = (statistics.median(column) * 1e3 for column in zip(*pairs, strict=True))
            ratio = statistics.median(one / two for one, two in pairs)
            name = " x ".join(map(str, shape))
            kind = str(dtype).removeprefix("torch.")
            print(f"{name:22}{kind:10}{a:9.2f}{b:10.2f}{ratio:7.2f}{errors[0]:11.1e}{errors[1]:13.1e}")


if __name__ == "__main__":
    main()
