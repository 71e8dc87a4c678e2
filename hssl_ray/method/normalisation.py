"""BatchNorm whose statistics are those of the global batch, on any device and process group.

torch's own synchronised BatchNorm refuses CPU tensors; this one needs two small all-reduces and runs on gloo and
nccl.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hssl_ray.method.gather import all_reduce_sum, world_size
from hssl_ray.method.layout import fold, unfold

MOMENTUM = 0.1
EPS = 1e-5
CACHED = 65536  # numbers


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

    The second moment is taken about the mean, so that nothing cancels. Ranks' batches may differ in size.

    Raises:
        ValueError: a single value per channel.
    """
    rows = _rows(x.detach())
    here = rows.shape[0] * rows.shape[1]
    sums = all_reduce_sum(torch.cat([_channel_sums(rows), rows.new_tensor([here], dtype=torch.float64)]))
    # A rank alone knows its count without asking the device, which would wait for it.
    count = here if world_size() == 1 else int(sums[-1].item())
    if count < 2:
        raise ValueError(f"batch: training needs more than one value per channel, got shape {tuple(x.shape)}")
    mean = sums[:-1] / count
    centre = mean.to(_wide(rows.dtype))
    squares = sum(_channel_sums((block - centre).square_()) for block in _blocks(rows))
    return mean, all_reduce_sum(torch.as_tensor(squares)) / count, count


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
        rows, grad_rows = _rows(x), _rows(grad)
        grad_bias = _channel_sums(grad_rows)
        products = sum(
            _channel_sums((block - mean).mul_(grad_block))
            for block, grad_block in zip(_blocks(rows), _blocks(grad_rows), strict=True)
        )
        grad_weight = products * rstd
        shared = all_reduce_sum(torch.stack([grad_bias, grad_weight])) / ctx.count
        scale = rstd * weight
        shape = [1, -1] + [1] * (x.dim() - 2)
        from_x = (-shared[1] * rstd * scale).to(scale.dtype).view(shape)
        offset = ((shared[1] * rstd * mean - shared[0]) * scale).to(scale.dtype).view(shape)
        grad_x = torch.addcmul(offset, x.to(scale.dtype), from_x).addcmul_(grad, scale.view(shape)).to(x.dtype)
        return grad_x, grad_weight.to(weight.dtype), grad_bias.to(weight.dtype), None, None, None


def _rows(x: Tensor) -> Tensor:
    """(N, C, ...) -> (N, P, C), P places of an image: a view of a channels-last map."""
    return x.movedim(1, -1).flatten(1, -2) if x.dim() > 2 else x[:, None]


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _blocks(rows: Tensor) -> Iterator[Tensor]:
    """Rows (N, P, C) in blocks of images that stay in a core's cache, in at least float32."""
    if rows.device.type != "cpu":
        yield rows.to(_wide(rows.dtype))
        return
    for block in torch.split(rows, max(1, CACHED // (rows.shape[1] * rows.shape[2]))):
        yield block.to(_wide(rows.dtype))


def _channel_sums(rows: Tensor) -> Tensor:
    """Sums (C,) of (N, P, C) in float64: image by image in float32, then over images.

    One running float32 sum over a whole batch, as torch's own BatchNorm keeps on a CPU, is off by up to 2e-5; see
    benchmarks/batch_norm.py.
    """
    return rows.sum(1, dtype=_wide(rows.dtype)).sum(0, dtype=torch.float64)
