"""Convolutions of images with many kernels at once: what each place sees as the row of a matrix, made once for all
kernels, then one matrix product for each lifted element.

N images, C channels (few), G lifted elements, C' output channels, k kernel size, H' x W' places.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hssl_ray.method.matrix import autocast_type, image_blocks, product
from hssl_ray.method.native import NUMBER_TYPES, native_library

ALIGNED = 8
"""Numbers that a row's length is a multiple of."""


@dataclass(frozen=True)
class PatchConvolution:
    """Convolution of (N, C, H, W) with kernels (G, C', C, k, k) -> (G, N, H', W', C'); needs the compiled kernels."""

    size: int
    stride: int
    padding: int

    def computes(self, x: Tensor) -> bool:
        """Whether it can be used on these images, here and now; images that need a gradient go another way."""
        known = x.device.type == "cpu" and autocast_type(x) in NUMBER_TYPES
        return known and not (x.requires_grad and torch.is_grad_enabled()) and native_library() is not None

    def __call__(self, x: Tensor, kernels: Tensor) -> Tensor:
        kind = autocast_type(x)
        rows = kernels.permute(0, 1, 3, 4, 2).flatten(2)  # as a place's row lies
        rows = torch.nn.functional.pad(rows, (0, -rows.shape[2] % ALIGNED))
        images = x.permute(0, 2, 3, 1).to(kind).contiguous()
        result: Tensor = _Convolve.apply(images, rows.to(kind), self)  # type: ignore[no-untyped-call]
        return result

    def out_size(self, side: int) -> int:
        return (side + 2 * self.padding - self.size) // self.stride + 1

    def matrix(self, images: Tensor, length: int) -> Tensor:
        """(n, H, W, C) -> (n*H'*W', length)."""
        library = native_library()
        assert library is not None
        out = self.out_size(images.shape[1]), self.out_size(images.shape[2])
        found = images.new_empty((len(images) * out[0] * out[1], length))
        sizes = (ctypes.c_int64 * 10)(*images.shape, *out, self.size, self.stride, self.padding, length)
        library.run("patches", images.dtype, images, found, sizes)
        return found


class _Convolve(torch.autograd.Function):
    """One product for each element and block of images; places are read again for the gradient of the kernels."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, kernels: Tensor, convolution: PatchConvolution) -> Tensor:
        ctx.save_for_backward(images, kernels)
        ctx.convolution = convolution
        out = convolution.out_size(images.shape[1]), convolution.out_size(images.shape[2])
        y = images.new_empty((len(kernels), len(images), *out, kernels.shape[1]))
        for block in _blocks(images, kernels, out):
            seen = convolution.matrix(images[block], kernels.shape[2])
            for element, kernel in enumerate(kernels):
                product(seen, kernel.T, y[element, block].flatten(0, 2))
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None]:
        images, kernels = ctx.saved_tensors
        grad = grad.contiguous()
        found = torch.zeros_like(kernels, dtype=torch.promote_types(kernels.dtype, torch.float32))
        for block in _blocks(images, kernels, (grad.shape[2], grad.shape[3])):
            seen = ctx.convolution.matrix(images[block], kernels.shape[2])
            for element, of_element in enumerate(grad):
                found[element] += product(of_element[block].flatten(0, 2).T, seen)
        return None, found.to(kernels.dtype), None


def _blocks(images: Tensor, kernels: Tensor, out: tuple[int, int]) -> list[slice]:
    return list(image_blocks(len(images), out[0] * out[1], kernels.shape[2] * images.element_size()))
