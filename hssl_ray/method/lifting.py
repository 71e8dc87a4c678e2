"""Convolutions of images with the kernels of all lifted elements at once, each image read once for all of them.

N images, C channels (few), G lifted elements, C' output channels, k kernel size, H' x W' places.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hssl_ray.method.matrix import autocast_type
from hssl_ray.method.native import NUMBER_TYPES, Library, native_library


@dataclass(frozen=True)
class LiftedConvolution:
    """Convolution of (N, C, H, W) with kernels (G, C', C, k, k) -> (G, N, H', W', C'); needs the compiled kernels."""

    size: int
    stride: int
    padding: int

    def computes(self, x: Tensor) -> bool:
        """Whether it can be used on these images, here and now; images that need a gradient go another way."""
        known = x.device.type == "cpu" and autocast_type(x) in NUMBER_TYPES
        return known and not (x.requires_grad and torch.is_grad_enabled()) and native_library() is not None

    def __call__(self, x: Tensor, kernels: Tensor) -> Tensor:
        """In autocast's type where it is on; sums are float32 at least."""
        kind = autocast_type(x)
        images = x.permute(0, 2, 3, 1).to(kind).contiguous()
        taps = kernels.permute(3, 4, 2, 0, 1).to(torch.promote_types(kind, torch.float32))  # (k, k, C, G, C')
        result: Tensor = _Convolve.apply(images, taps, self)  # type: ignore[no-untyped-call]
        return result

    def out_size(self, side: int) -> int:
        return (side + 2 * self.padding - self.size) // self.stride + 1

    def sizes(self, images: Sequence[int], kernels: Sequence[int]) -> ctypes.Array[ctypes.c_int64]:
        out = self.out_size(images[1]), self.out_size(images[2])
        *_, elements, out_channels = kernels
        return (ctypes.c_int64 * 11)(*images, elements, *out, out_channels, self.size, self.stride, self.padding)


class _Convolve(torch.autograd.Function):
    """Images (N, H, W, C) and kernels (k, k, C, G, C'); the gradient of the kernels alone."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, kernels: Tensor, convolution: LiftedConvolution) -> Tensor:
        ctx.save_for_backward(images)
        ctx.kernels, ctx.sizes = kernels.shape, convolution.sizes(images.shape, kernels.shape)
        elements, out_rows, out_columns, out_channels = ctx.sizes[4:8]
        y = images.new_empty((elements, len(images), out_rows, out_columns, out_channels))
        _library().run("lift", images.dtype, images, kernels.to(images.dtype).contiguous(), y, ctx.sizes)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None]:
        (images,) = ctx.saved_tensors
        found = images.new_empty(ctx.kernels, dtype=torch.promote_types(images.dtype, torch.float32))
        _library().run("lift_back", images.dtype, images, grad.contiguous(), found, ctx.sizes)
        return None, found, None


def _library() -> Library:
    library = native_library()
    assert library is not None
    return library
