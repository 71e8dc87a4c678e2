"""Group convolutions whose basis is separable: responses to the basis first, then one matrix product.

Each function of a Hermite basis is a product of one factor along the rows and one along the columns, e of each, so a
k x k convolution with e x e functions is

    y = sum_{n, m} W_nm r_nm,    r_nm = (u_m along the rows) (v_n along the columns) * x

with e*e multiplications for each place and pair of channels instead of k*k. Lifted elements differ in u and v alone
and share the matrix W. It is done in blocks of images small enough for the
responses to stay in a core's cache; they are not stored but computed again on the way back.

N images, C input and C' output channels, G lifted elements, H x W cells, H' x W' of the output.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hssl_ray.method.matrix import autocast_type, image_blocks, product
from hssl_ray.method.native import NUMBER_TYPES, native_library

FUNCTIONS = 3
"""Factors along either side, e; the compiled kernels are made for the paper's hidden layers."""


@dataclass(frozen=True)
class Factors:
    """The nine functions of a basis as products: B_{3n+m} = along_rows[m] x along_columns[n].

    Where they are exchanged, as an odd number of quarter turns does, B_{3n+m} = along_rows[n] x along_columns[m].
    """

    along_rows: Tensor
    """(3, k), float64."""
    along_columns: Tensor
    """(3, k), float64."""
    exchanged: bool


def factorise(basis: Tensor) -> Factors | None:
    """The factors of functions (F, k, k), float64, or None where these are no such products."""
    if len(basis) != FUNCTIONS**2:
        return None
    grid = basis.view(FUNCTIONS, FUNCTIONS, *basis.shape[1:])  # (n, m, k, k)
    for exchanged in (False, True):
        found = _factorise(grid.transpose(0, 1) if exchanged else grid)
        if found is not None:
            return Factors(*found, exchanged)
    return None


def _factorise(grid: Tensor) -> tuple[Tensor, Tensor] | None:
    """Factors (3, k) along rows by m and along columns by n of functions (n, m, k, k)."""
    left, length, right = torch.linalg.svd(grid[0, 0])
    row, column = left[:, 0] * length[0].sqrt(), right[0] * length[0].sqrt()
    along_rows = grid[0] @ column / length[0]
    along_columns = torch.einsum("nst,s->nt", grid[:, 0], row) / length[0]
    products = torch.einsum("ms,nt->nmst", along_rows, along_columns)
    if (products - grid).abs().max() > 1e-10 * grid.abs().max():
        return None
    return along_rows.contiguous(), along_columns.contiguous()


class SeparableConvolution:
    """One convolution for each lifted element, as the module's formula; needs the compiled kernels.

    Args:
        factors: of each element's basis, cropped to its support.
        margins: cells a side that were cropped.
        stride, padding: of the uncropped kernels.
    """

    def __init__(self, factors: Sequence[Factors], margins: Sequence[int], *, stride: int, padding: int) -> None:
        self.stride = stride
        self.paddings = [padding - margin for margin in margins]
        self._factors = factors
        self._kernel_size = factors[0].along_rows.shape[1] + 2 * margins[0]
        self._padding = padding
        self._along: dict[torch.dtype, list[tuple[Tensor, Tensor]]] = {}

    def computes(self, maps: Tensor) -> bool:
        """Whether it can be used on these maps, here and now."""
        return maps.device.type == "cpu" and autocast_type(maps) in NUMBER_TYPES and native_library() is not None

    def __call__(self, maps: Tensor, weight: Tensor) -> Tensor:
        """Maps (G, N, H, W, mixing*C) and weights (C', C, mixing, 9) -> (G, N, H', W', C'), in autocast's type where it
        is on.
        """
        result: Tensor = _Convolve.apply(maps.to(autocast_type(maps)), weight, self)  # type: ignore[no-untyped-call]
        return result

    def out_size(self, size: int) -> int:
        return (size + 2 * self._padding - self._kernel_size) // self.stride + 1

    def responses(self, element: int, maps: Tensor, out: tuple[int, int]) -> Tensor:
        """r of one element: (n, H, W, C) -> (n*H'*W', 9*C)."""
        found = maps.new_empty((len(maps) * out[0] * out[1], FUNCTIONS**2 * maps.shape[3]))
        self._run("responses", element, maps, found, maps.shape, out)
        return found

    def adjoint(self, element: int, responses: Tensor, maps: Tensor) -> None:
        """The adjoint of `responses`: writes maps (n, H, W, C)."""
        out = self.out_size(maps.shape[1]), self.out_size(maps.shape[2])
        self._run("adjoint", element, responses, maps, maps.shape, out)

    def _run(
        self, kernel: str, element: int, source: Tensor, target: Tensor, maps: Sequence[int], out: tuple[int, int]
    ) -> None:
        library = native_library()
        assert library is not None
        rows, columns = self._along_in(torch.promote_types(source.dtype, torch.float32))[element]
        settings = rows.shape[1], self.stride, self.paddings[element], self._factors[element].exchanged
        sizes = (ctypes.c_int64 * 10)(*maps, *out, *settings)
        library.run(kernel, source.dtype, source, target, sizes, rows, columns)

    def _along_in(self, kind: torch.dtype) -> list[tuple[Tensor, Tensor]]:
        if kind not in self._along:
            self._along[kind] = [(f.along_rows.to(kind), f.along_columns.to(kind)) for f in self._factors]
        return self._along[kind]


class _Convolve(torch.autograd.Function):
    """y = r W^T by blocks, and its gradients; r is computed again for that of the weights."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, convolution: SeparableConvolution) -> Tensor:
        maps = maps.contiguous()
        ctx.shape, ctx.kind, ctx.convolution = weight.shape, weight.dtype, convolution
        weight = weight.permute(0, 3, 2, 1).flatten(1).to(maps.dtype)  # (C', 9*mixing*C), as responses lie
        ctx.save_for_backward(maps, weight)
        out = convolution.out_size(maps.shape[2]), convolution.out_size(maps.shape[3])
        y = maps.new_empty((*maps.shape[:2], *out, weight.shape[0]))
        for element, images in _blocks(maps, out):
            r = convolution.responses(element, maps[element, images], out)
            product(r, weight.T, y[element, images].flatten(0, 2))
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        maps, weight = ctx.saved_tensors
        convolution: SeparableConvolution = ctx.convolution
        grad = grad.contiguous()
        out = grad.shape[2], grad.shape[3]
        of_maps, of_weight = ctx.needs_input_grad[:2]
        grad_maps = torch.empty_like(maps) if of_maps else None
        # In float32 at least: blocks are added up.
        wide = torch.promote_types(weight.dtype, torch.float32)
        grad_weight = torch.zeros_like(weight, dtype=wide) if of_weight else None
        for element, images in _blocks(maps, out):
            rows = grad[element, images].flatten(0, 2)
            if grad_weight is not None:
                r = convolution.responses(element, maps[element, images], out)
                grad_weight += product(rows.T, r)
            if grad_maps is not None:
                convolution.adjoint(element, product(rows, weight), grad_maps[element, images])
        if grad_weight is not None:
            outputs, channels, mixing, functions = ctx.shape
            as_weights = grad_weight.view(outputs, functions, mixing, channels).permute(0, 3, 2, 1)
            # With the very strides of the weights, as DDP wants them even where a side is 1.
            grad_weight = torch.empty(ctx.shape, dtype=ctx.kind).copy_(as_weights)
        return grad_maps, grad_weight, None


def _blocks(maps: Tensor, out: tuple[int, int]) -> list[tuple[int, slice]]:
    """Elements, and images of each, that are computed at once."""
    elements, images, *_, channels = maps.shape
    bytes_of_place = FUNCTIONS**2 * channels * maps.element_size()
    return [(g, block) for g in range(elements) for block in image_blocks(images, out[0] * out[1], bytes_of_place)]
