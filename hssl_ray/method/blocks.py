"""What networks are built of beside steerable layers: pre-activation blocks, and the plain layers of Table 2.

N images, C channels of one element, G lifted elements or the parts read as such, H x W cells.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hssl_ray.method.architecture import DENSE_SIDE, DenseLayer
from hssl_ray.method.layout import fold, spatial_mean, unfold
from hssl_ray.method.normalisation import BatchNorm


class PreActivationBlock(nn.Module):
    """y = conv2(relu(norm2(conv1(a)))) + shortcut(a),  a = relu(norm1(x));  without a shortcut, + x. No last ReLU.

    Source: He et al., Identity mappings in deep residual networks, 2016; SESN's BasicBlock.
    """

    def __init__(
        self, channels: int, conv1: nn.Module, hidden_channels: int, conv2: nn.Module, shortcut: nn.Module | None
    ) -> None:
        super().__init__()
        self.norm1 = BatchNorm(channels, relu=True)
        self.conv1 = conv1
        self.norm2 = BatchNorm(hidden_channels, relu=True)
        self.conv2 = conv2
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        activated = self.norm1(x)
        y: Tensor = self.conv2(self.norm2(self.conv1(activated)))
        return y + (x if self.shortcut is None else self.shortcut(activated))


class PointwiseConv2d(nn.Module):
    """1 x 1 convolution, no bias, one matrix for all elements:  (N, C, G, H, W) -> (N, C', G, H', W'); also without
    the lifted axis.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        lifted = x.dim() == 5
        y = F.conv2d(fold(x) if lifted else x, self.weight[:, :, None, None], stride=self.stride)
        return unfold(y, x.shape[2]) if lifted else y

    def extra_repr(self) -> str:
        out_channels, in_channels = self.weight.shape
        return f"{in_channels}, {out_channels}, stride={self.stride}"


class FreeConv2d(nn.Module):
    """Convolution with a free kernel, no bias, initialised as the steerable ones:  (N, C, H, W) -> (N, C', H', W')."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=padding, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x.contiguous(memory_format=torch.channels_last))
        return y


class JoinParts(nn.Module):
    """Parts side by side as the channels of a plain layer:  (N, C, G, H, W) -> (N, G*C, H, W), a view."""

    def forward(self, z: Tensor) -> Tensor:
        return z.transpose(1, 2).flatten(1, 2)


class SplitParts(nn.Module):
    """A plain layer's channels read as if they were those of lifted elements:  (N, G*C, H, W) -> (N, C, G, H, W)."""

    def __init__(self, parts: int) -> None:
        super().__init__()
        self.parts = parts

    def forward(self, x: Tensor) -> Tensor:
        return x.view(len(x), self.parts, -1, *x.shape[2:]).transpose(1, 2)

    def extra_repr(self) -> str:
        return str(self.parts)


class Dense(nn.Module):
    """A fully connected layer, BatchNorm, ReLU, read as rows:  (N, ...) -> (N, C, 1, 4, 4)."""

    def __init__(self, spec: DenseLayer) -> None:
        super().__init__()
        self.linear = nn.Linear(spec.inputs, spec.outputs, bias=False)
        self.norm = BatchNorm(spec.outputs, relu=True)

    def forward(self, x: Tensor) -> Tensor:
        rows: Tensor = self.norm(self.linear(x.movedim(1, -1).flatten(1)))
        return rows.view(len(rows), 1, DENSE_SIDE, DENSE_SIDE, -1).movedim(-1, 1)


class SpatialMean(nn.Module):
    """The mean over space:  (N, C, H, W) -> (N, C), in at least float32."""

    def forward(self, x: Tensor) -> Tensor:
        return spatial_mean(x[:, :, None])[:, 0]
