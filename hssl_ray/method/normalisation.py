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


class BatchNorm(nn.Module):
    """Normalises each channel over everything else:  (N, C), (N, C, H, W) or (N, C, G, H, W), shape kept.

    Statistics are shared by the elements of the lifted axis, without which the layer would not be equivariant. In
    training mode with several ranks they are taken over all of them; values, input gradients and running statistics
    then equal one process with the whole batch.
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
        if not self.training or world_size() == 1:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, self.training, MOMENTUM, EPS
            )
        mean, var, count = global_statistics(x)
        with torch.no_grad():
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), MOMENTUM)
            self.running_var.lerp_((var * (count / (count - 1))).to(self.running_var.dtype), MOMENTUM)
        normalised: Tensor = _Normalise.apply(x, self.weight, self.bias, mean, var, count)  # type: ignore[no-untyped-call]
        return normalised


def global_statistics(x: Tensor) -> tuple[Tensor, Tensor, int]:
    """Mean and biased variance of each channel of (N, C, ...) over all ranks, and the number of values behind them.

    Ranks send mean and second moment about their own mean, so that nothing cancels; their batches may differ in size.

    Raises:
        ValueError: a single value per channel.
    """
    dims = [d for d in range(x.dim()) if d != 1]
    wide = x.detach().to(torch.float64)
    count = wide.numel() // wide.shape[1]
    var, mean = torch.var_mean(wide, dims, correction=0)
    sums = all_reduce_sum(torch.cat([mean * count, mean.new_tensor([count])]))
    total = int(sums[-1].item())
    if total < 2:
        raise ValueError(f"batch: training needs more than one value per channel, got shape {tuple(x.shape)}")
    global_mean = sums[:-1] / total
    global_var = all_reduce_sum((var + (mean - global_mean).square()) * count) / total
    return global_mean, global_var, total


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) * weight + bias, where mean and variance depend on every rank's x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, count: int) -> Tensor:
        mean, var = mean.to(weight.dtype), var.to(weight.dtype)
        ctx.save_for_backward(x, weight, mean, var)
        ctx.count = count
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, EPS)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var = ctx.saved_tensors
        shape = [1, -1] + [1] * (x.dim() - 2)
        dims = [d for d in range(x.dim()) if d != 1]
        grad = grads[0].to(weight.dtype)
        scale = (var + EPS).rsqrt()
        normal = (x.to(weight.dtype) - mean.view(shape)) * scale.view(shape)
        grad_bias, grad_weight = grad.sum(dims), (grad * normal).sum(dims)
        shared = all_reduce_sum(torch.stack([grad_bias, grad_weight])) / ctx.count
        centred = grad - shared[0].view(shape) - normal * shared[1].view(shape)
        return (centred * (scale * weight).view(shape)).to(x.dtype), grad_weight, grad_bias, None, None, None
