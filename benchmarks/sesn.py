"""The baseline: steerable convolutions as the public SESN code computes them, written from its published formulas.

One kernel for all scales, expanded at every call, and one convolution: plain to lift, grouped by scale after that, on
NCHW tensors, with BatchNorm over five axes. `tests/test_baselines.py` holds it equal to tensors of the original.

N images, C and C' channels, S scales, F basis functions, k kernel size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SesnLiftingConv2d(nn.Module):
    """Z2 -> Z2 x S:  (N, C, H, W) -> (N, C', S, H', W')."""

    def __init__(self, in_channels: int, out_channels: int, basis: Tensor, *, stride: int, padding: int) -> None:
        super().__init__()
        self.register_buffer("basis", basis)  # (F, S, k, k)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, len(basis)) / in_channels**0.5)
        self.stride, self.padding = stride, padding

    def forward(self, x: Tensor) -> Tensor:
        functions, scales, size, _ = self.basis.shape
        kernel = (self.weight @ self.basis.view(functions, -1)).view(*self.weight.shape[:2], scales, size, size)
        kernel = kernel.permute(0, 2, 1, 3, 4).flatten(0, 1)  # (C'*S, C, k, k)
        y = F.conv2d(x, kernel, stride=self.stride, padding=self.padding)
        return y.view(len(x), -1, scales, *y.shape[2:])


class SesnGroupConv2d(nn.Module):
    """Z2 x S -> Z2 x S:  (N, C, S, H, W) -> (N, C', S, H', W'), each scale to itself."""

    def __init__(self, in_channels: int, out_channels: int, basis: Tensor, *, stride: int, padding: int) -> None:
        super().__init__()
        self.register_buffer("basis", basis)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, len(basis)) / in_channels**0.5)
        self.stride, self.padding = stride, padding

    def forward(self, z: Tensor) -> Tensor:
        functions, scales, size, _ = self.basis.shape
        out_channels, in_channels = self.weight.shape[:2]
        kernel = (self.weight.flatten(0, 2) @ self.basis.view(functions, -1)).view(
            out_channels, in_channels, scales, size, size
        )
        kernel = kernel.permute(2, 0, 1, 3, 4).flatten(0, 1)  # (S*C', C, k, k)
        x = z.permute(0, 2, 1, 3, 4).flatten(1, 2)  # (N, S*C, H, W), a copy
        y = F.conv2d(x, kernel, groups=scales, stride=self.stride, padding=self.padding)
        return y.view(len(z), scales, out_channels, *y.shape[2:]).permute(0, 2, 1, 3, 4).contiguous()
