"""BatchNorm whose statistics are those of the global batch, on any device and process group.

torch's own synchronised BatchNorm refuses CPU tensors; this one needs two small all-reduces and runs on gloo and
nccl.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hssl_ray.method.gather import all_reduce_sum, world_size
from hssl_ray.method.layout import fold, unfold

MOMENTUM = 0.1
EPS = 1e-5
CACHED = 2**18  # numbers


class BatchNorm(nn.Module):
    """Normalises each channel over everything else:  (N, C), (N, C, H, W) or (N, C, G, H, W), shape kept.

    Statistics are shared by the elements of the lifted axis, without which the layer would not be equivariant. In
    training mode they are taken over all ranks; values, gradients and running statistics then equal those of one
    process with the whole batch.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, *, relu: bool = False) -> None:
        """`relu`: apply a ReLU to the result, in place, which saves one pass over a large feature map."""
        super().__init__()
        self.relu = relu
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x; training mode also updates the running statistics.

        Raises:
            ValueError: training mode with a single value per channel, which has no variance.
        """
        lifted = x.dim() == 5
        y = self._normalise(fold(x) if lifted else x)
        if self.relu:
            y = F.relu(y, inplace=True)  # before unfolding: in place on a view costs a copy
        return unfold(y, x.shape[2]) if lifted else y

    def _normalise(self, x: Tensor) -> Tensor:
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, EPS)
        mean, var, count = global_statistics(x)
        with torch.no_grad():
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), MOMENTUM)
            self.running_var.lerp_((var * (count / (count - 1))).to(self.running_var.dtype), MOMENTUM)
        normalised: Tensor = _Normalise.apply(x, self.weight, self.bias, mean, var, count)  # type: ignore[no-untyped-call]
        return normalised


def global_statistics(x: Tensor) -> tuple[Tensor, Tensor, int]:
    """Mean and biased variance (C,) of (N, C, ...) over all ranks, float64, and the number of values behind them.

    One pass over x. Squares are taken about the mean of the first values, so that little cancels; ranks' batches may
    differ in size.

    Raises:
        ValueError: a single value per channel.
    """
    rows = _rows(x.detach())
    here, blocks = len(rows), _blocks(rows)
    centre = blocks[0].mean(0, dtype=_wide(x.dtype))
    total = torch.zeros(2, rows.shape[1], dtype=torch.float64, device=x.device)
    for block in blocks:
        apart = torch.sub(block, centre)
        total[0] += apart.sum(0)
        total[1] += apart.square_().sum(0)
    centre = centre.double()
    sums = total[0] + here * centre
    squares = total[1] + centre * (total[0] + sums)  # about zero, so that those of several ranks can be added
    found = all_reduce_sum(torch.cat([sums, squares, sums.new_tensor([here])]))
    # A rank alone knows its count without asking the device, which would wait for it.
    count = here if world_size() == 1 else int(found[-1].item())
    if count < 2:
        raise ValueError(f"batch: training needs more than one value per channel, got shape {tuple(x.shape)}")
    mean, square = (found[:-1] / count).chunk(2)
    return mean, (square - mean.square()).clamp_min_(0), count


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) * weight + bias, where mean and variance depend on every rank's x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, count: int) -> Tensor:
        rstd = (var + EPS).rsqrt().to(weight.dtype)
        mean, var = mean.to(weight.dtype), var.to(weight.dtype)
        ctx.save_for_backward(x, weight, mean, rstd)
        ctx.count = count
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, EPS)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """dx = (dy - mean(dy) - y mean(dy y)) rstd weight, with y the normalised x and means over every rank."""
        x, weight, mean, rstd = ctx.saved_tensors
        grad = grads[0]
        if world_size() == 1:  # fused; its sums are good enough here, because they are small beside the gradient
            return (
                *torch.ops.aten.native_batch_norm_backward(
                    grad, x, weight, None, None, mean, rstd, True, EPS, [True, True, True]
                ),
                None,
                None,
                None,
            )
        wide = _wide(x.dtype)
        blocks = list(zip(_blocks(_rows(x)), _blocks(_rows(grad)), strict=True))
        sums = torch.zeros(2, len(weight), dtype=torch.float64, device=x.device)
        for rows, grad_rows in blocks:
            sums[0] += grad_rows.sum(0, dtype=wide)
            sums[1] += torch.sub(rows, mean).mul_(grad_rows).sum(0)
        grad_bias, grad_weight = sums[0], sums[1] * rstd
        shared = all_reduce_sum(torch.stack([grad_bias, grad_weight])) / ctx.count
        scale = rstd * weight
        from_x = (-shared[1] * rstd * scale).to(scale.dtype)
        offset = ((shared[1] * rstd * mean - shared[0]) * scale).to(scale.dtype)
        grad_x = torch.cat(
            [
                torch.addcmul(offset, rows.to(wide), from_x).addcmul_(grad_rows, scale).to(x.dtype)
                for rows, grad_rows in blocks
            ]
        )
        images = grad_x.view(len(x), *x.shape[2:], -1).movedim(-1, 1)
        return images, grad_weight.to(weight.dtype), grad_bias.to(weight.dtype), None, None, None


def _rows(x: Tensor) -> Tensor:
    """(N, C, ...) -> (N*P, C), P places of an image: a view of a channels-last map."""
    return x.movedim(1, -1).flatten(0, -2)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _blocks(rows: Tensor) -> tuple[Tensor, ...]:
    """Rows (R, C) in blocks that stay in a core's cache.

    Each is summed by itself, in float32, and the sums of blocks in float64: one running float32 sum over a whole batch,
    as torch's own BatchNorm keeps on a CPU, is off by up to 2e-5; see benchmarks/batch_norm.py.
    """
    size = max(1, CACHED // rows.shape[1]) if rows.device.type == "cpu" else max(1, len(rows))
    return torch.split(rows, size)
