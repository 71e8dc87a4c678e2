"""BatchNorm and the ReLU behind it by compiled kernels: one pass over a feature map for its moments, one for its
values, and two on the way back.

N images, C channels, P places of an image; a map's channels lie next to each other in memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hssl_ray.method.gather import all_reduce_sum
from hssl_ray.method.layout import rows_of
from hssl_ray.method.native import NUMBER_TYPES, Library, native_library


def library_for(x: Tensor) -> Library | None:
    """The kernels, if they can be used on x (N, C, ...) here and now."""
    fits = x.device.type == "cpu" and x.dtype in NUMBER_TYPES and x.numel() > 0 and rows_of(x).is_contiguous()
    return native_library() if fits else None


def moments(library: Library, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of each channel of x (N, C, ...) and the sum of squares about it, (C,), float64."""
    mean, squares = torch.empty(2, x.shape[1], dtype=torch.float64)
    rows = rows_of(x)
    library.run("moments", x.dtype, rows, rows.shape[0] * rows.shape[1], rows.shape[2], mean, squares)
    return mean, squares


class CompiledNormalise(torch.autograd.Function):
    """relu((x - mean) / sqrt(var + eps) * weight + bias), where mean and variance depend on every rank's x."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, rstd: Tensor, count: int, relu: bool
    ) -> Tensor:
        """mean and rstd, 1 / sqrt(var + eps), are float64."""
        wide = torch.promote_types(x.dtype, torch.float32)
        scale, offset = (rstd * weight).to(wide), (bias - mean * rstd * weight).to(wide)
        ctx.save_for_backward(x, scale, offset, mean, rstd)
        ctx.count, ctx.relu, ctx.parameters = count, relu, weight.dtype
        y = torch.empty_like(x)
        _run("normalise", x, y, scale, offset, int(relu))
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """dx = (dy - mean(dy) - y mean(dy y)) rstd weight, with y the normalised x, means over every rank, and dy zero
        where the ReLU was.
        """
        x, scale, offset, mean, rstd = ctx.saved_tensors
        if not rows_of(grad).is_contiguous():
            grad = torch.empty_like(x).copy_(grad)
        grad_bias, products = torch.empty(2, x.shape[1], dtype=torch.float64)
        _run("gradient_sums", x, grad, scale, offset, mean.to(scale.dtype), int(ctx.relu), grad_bias, products)
        grad_weight = products * rstd
        grad_x = None
        if ctx.needs_input_grad[0]:
            shared = all_reduce_sum(torch.stack([grad_bias, grad_weight])) / ctx.count
            from_x = -shared[1] * rstd * scale
            constant = (shared[1] * rstd * mean - shared[0]) * scale
            grad_x = torch.empty_like(x)
            by_channel = scale, offset, from_x.to(scale.dtype), constant.to(scale.dtype)
            _run("normalise_back", x, grad, grad_x, *by_channel, int(ctx.relu))
        return grad_x, grad_weight.to(ctx.parameters), grad_bias.to(ctx.parameters), None, None, None, None


def _run(kernel: str, x: Tensor, *arguments: Tensor | int) -> None:
    """Call a kernel on maps (N, C, ...), which come first, and then on what is there once for each channel."""
    library = native_library()
    assert library is not None
    maps = [rows_of(a) for a in (x, *arguments) if isinstance(a, Tensor) and a.dim() > 1]
    rest = [a for a in arguments if not (isinstance(a, Tensor) and a.dim() > 1)]
    library.run(kernel, x.dtype, *maps, maps[0].shape[0] * maps[0].shape[1], x.shape[1], *rest)
