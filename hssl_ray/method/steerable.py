"""Steerable convolutions on a fixed Hermite-Gaussian basis (Sosnovik et al. 2020), lifted to scales or rotations.

N images, C input and C' output channels, G lifted elements, F basis functions, k kernel size, e effective size (F =
e*e).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hssl_ray.method.groups import Group
from hssl_ray.method.layout import unfold
from hssl_ray.method.lifting import LiftedConvolution
from hssl_ray.method.separable import Factors, SeparableConvolution, factorise

BasisKind = Literal["A", "B"]


def hermite_basis(
    kernel_size: int,
    effective_size: int,
    scales: Sequence[float],
    kind: BasisKind = "A",
    *,
    mult: float = 1.2,
    max_order: int = 4,
    angles: Sequence[float] = (0.0,),
) -> Tensor:
    """Hermite-Gaussian functions sampled at several scales, float64 (F, S, k, k), F = effective_size**2.

        psi_nm(x, y) = G(x) He_n(x/s) G(y) He_m(y/s),   G(x) = exp(-x**2 / 2 s**2) / s,   x, y in cells about the
        centre

    He_n are the probabilists' Hermite polynomials. A scale s sees an odd support of about k s / max(scales) cells,
    zero beyond. Each function is divided by its norm at the first scale, so scales must be ascending for that to be
    the smallest. Kind A takes all n, m < effective_size; kind B the pairs n + m <= max_order at s, s/mult, s/mult**2,
    ... until F are found.

    Args:
        angles: turns of the functions, counter-clockwise in radians; of several, all scales of the first come first,
            (F, angles * S, k, k). Each is sampled at turned places, not interpolated, on the same square.

    Raises:
        ValueError: an even kernel, a size below 1, scales not ascending, or a support of one cell for more than one
        function.
    """
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size: must be odd and at least 1, got {kernel_size}")
    if effective_size < 1:
        raise ValueError(f"effective_size: must be at least 1, got {effective_size}")
    if not scales or scales[0] <= 0 or any(a >= b for a, b in pairwise(scales)):
        raise ValueError(f"scales: must be positive and ascending, got {tuple(scales)}")
    orders = function_orders(effective_size, kind, mult=mult, max_order=max_order)
    samples = [_one_scale(kernel_size, s, s / scales[-1], orders, angle) for angle in angles for s in scales]
    basis = torch.stack(samples, dim=1)
    norm = basis[:, :1].square().sum((2, 3), keepdim=True).sqrt()
    if not bool((norm > 1e-12).all()):
        raise ValueError(
            f"effective_size: {effective_size} needs functions that vanish on the smallest scale's support"
        )
    return basis / norm


def function_orders(
    effective_size: int, kind: BasisKind = "A", *, mult: float = 1.2, max_order: int = 4
) -> list[tuple[int, int, float]]:
    """(n, m, divisor of the scale) of each function of `hermite_basis`, in its order."""
    if kind == "A":
        return [(n, m, 1.0) for n in range(effective_size) for m in range(effective_size)]
    pairs = [(n, m) for n in range(max_order + 1) for m in range(max_order + 1 - n)]
    repeats = math.ceil(effective_size**2 / len(pairs))
    return [(n, m, mult**r) for r in range(repeats) for n, m in pairs][: effective_size**2]


def _one_scale(
    kernel_size: int, scale: float, share: float, orders: list[tuple[int, int, float]], angle: float
) -> Tensor:
    """The functions (n, m, divisor of the scale) on one scale's support, zero-padded: (F, k, k)."""
    support = int(kernel_size * share) // 2 * 2 + 1
    x = torch.linspace(-(support // 2), support // 2, support, dtype=torch.float64)
    cos, sin = math.cos(angle), math.sin(angle)
    y, x = cos * x[:, None] + sin * x, cos * x - sin * x[:, None]  # before the turn
    along_y = {(m, d): _factor(y, scale / d, m) for m, d in {(m, d) for _, m, d in orders}}
    along_x = {(n, d): _factor(x, scale / d, n) for n, d in {(n, d) for n, _, d in orders}}
    planes = torch.stack([along_y[m, d] * along_x[n, d] for n, m, d in orders])  # (F, y, x)
    margin = (kernel_size - support) // 2
    return F.pad(planes, (margin,) * 4)


def _factor(x: Tensor, s: float, order: int) -> Tensor:
    """G(x) He_order(x/s)."""
    return torch.exp(-(x**2) / (2 * s**2)) / s * hermite_polynomial(x / s, order)


def hermite_polynomial(x: Tensor, order: int) -> Tensor:
    """Probabilists' Hermite polynomial by He_{n+1}(x) = x He_n(x) - n He_{n-1}(x)."""
    before, here = torch.zeros_like(x), torch.ones_like(x)
    for n in range(order):
        before, here = here, x * here - n * before
    return here


def lifted_basis(kernel_size: int, effective_size: int, group: Group) -> Tensor:
    """The functions of each lifted element, float64 (F, G, k, k)."""
    return group.lift_basis(hermite_basis(kernel_size, effective_size, group.scales, angles=group.angles))


class _SteerableConv2d(nn.Module):
    """Kernels as weights times a fixed basis; one dense convolution for each lifted element."""

    basis: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        effective_size: int,
        group: Group,
        *,
        stride: int,
        padding: int,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.group = group
        self.stride = stride
        self.padding = padding
        basis = lifted_basis(kernel_size, effective_size, group)  # (F, G, k, k), float64
        self.register_buffer("basis", basis, persistent=False)
        self.margins = [_margin(basis[:, g]) for g in range(group.lifted_order)]

    def full_kernels(self, weight: Tensor) -> Tensor:
        """Weights (..., F) to kernels (..., G, k, k)."""
        with torch.autocast(weight.device.type, enabled=False):  # entries of the basis span two orders of magnitude
            kernels: Tensor = torch.tensordot(weight, self.basis.to(weight.dtype), dims=1)
            return kernels

    def kernels(self, weight: Tensor) -> list[Tensor]:
        """Weights (C', C, mixing, F) to one kernel (C', mixing*C, k', k') for each element, cropped to its support."""
        size = self.basis.shape[-1]
        full = self.full_kernels(weight)  # (C', C, mixing, G, k, k)
        kernels = []
        for g, margin in enumerate(self.margins):
            inner = slice(margin, size - margin)
            kernel = full[:, :, :, g, inner, inner].transpose(1, 2).flatten(1, 2)
            kernels.append(kernel.contiguous(memory_format=torch.channels_last))
        return kernels

    def convolve(self, x: Tensor, kernel: Tensor, margin: int) -> Tensor:
        """The convolution with a kernel of which `margin` cells a side were cropped."""
        padding = self.padding - margin
        if padding < 0:
            x = x[:, :, -padding : x.shape[2] + padding, -padding : x.shape[3] + padding]
            padding = 0
        return F.conv2d(x, kernel, stride=self.stride, padding=padding)

    def extra_repr(self) -> str:
        functions, elements, size, _ = self.basis.shape
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={size}, functions={functions}, elements={elements}, "
            f"stride={self.stride}, padding={self.padding}"
        )


def _margin(basis: Tensor) -> int:
    """Cells a side that are zero in all functions (F, k, k) of one element."""
    used = basis.abs().amax(0).nonzero()
    return int(torch.minimum(used.min(), basis.shape[-1] - 1 - used.max()))


class LiftingConv2d(_SteerableConv2d):
    """Lifting convolution, Z2 -> Z2 x G:  (N, C, H, W) -> (N, C', G, H', W').  Eq. 2, no bias."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        effective_size: int,
        group: Group,
        *,
        stride: int = 1,
        padding: int = 0,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, effective_size, group, stride=stride, padding=padding)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, effective_size**2))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        self.lifted = LiftedConvolution(kernel_size, stride, padding)

    def forward(self, x: Tensor) -> Tensor:
        if self.lifted.computes(x):
            full = self.full_kernels(self.weight).permute(2, 0, 1, 3, 4)  # (G, C', C, k, k)
            return self.lifted(x, full).permute(1, 4, 0, 2, 3)
        x = x.contiguous(memory_format=torch.channels_last)
        kernels = self.kernels(self.weight[:, :, None])
        maps = [self.convolve(x, kernel, margin) for kernel, margin in zip(kernels, self.margins, strict=True)]
        return _stack(maps)


class GroupConv2d(_SteerableConv2d):
    """Group convolution, Z2 x G -> Z2 x G:  (N, C, G, H, W) -> (N, C', G, H', W').  Eq. 2; no bias.

    A filter spans `mixing` elements of the lifted axis from its own on: 1, as in the paper's networks, mixes none;
    the group's order is a full group convolution. Beyond a window's end there is zero, as in SESN; a cyclic axis
    wraps.

    Raises:
        ValueError: mixing is below 1 or above the length of the lifted axis.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        effective_size: int,
        group: Group,
        *,
        stride: int = 1,
        padding: int = 0,
        mixing: int = 1,
    ) -> None:
        if not 1 <= mixing <= group.lifted_order:
            raise ValueError(f"mixing: must be from 1 to {group.lifted_order} lifted elements, got {mixing}")
        super().__init__(in_channels, out_channels, kernel_size, effective_size, group, stride=stride, padding=padding)
        self.mixing = mixing
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, mixing, effective_size**2))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        self.separable = self._factorised()

    def _factorised(self) -> SeparableConvolution | None:
        """The faster way to convolve, if the basis has one."""
        size = self.basis.shape[-1]
        factors: list[Factors] = []
        for g, margin in enumerate(self.margins):
            inner = slice(margin, size - margin)
            found = factorise(self.basis[:, g, inner, inner])
            if found is None:
                return None
            factors.append(found)
        return SeparableConvolution(factors, self.margins, stride=self.stride, padding=self.padding)

    def forward(self, z: Tensor) -> Tensor:
        if self.separable is not None and self.separable.computes(z):
            return self._convolve_separably(self.separable, z)
        return self._convolve_densely(z)

    def _convolve_separably(self, separable: SeparableConvolution, z: Tensor) -> Tensor:
        maps = z.permute(2, 0, 3, 4, 1)
        if self.mixing > 1:
            nothing = torch.zeros_like(maps[0])
            sources = [[self.group.lifted_neighbour(g, step) for step in range(self.mixing)] for g in range(len(maps))]
            maps = torch.stack([torch.cat([nothing if h is None else maps[h] for h in row], -1) for row in sources])
        return separable(maps, self.weight).permute(1, 4, 0, 2, 3)

    def _convolve_densely(self, z: Tensor) -> Tensor:
        kernels = self.kernels(self.weight)
        elements = [m.permute(0, 3, 1, 2) for m in z.permute(2, 0, 3, 4, 1).unbind(0)]  # its gradient stays G-major
        maps = []
        for g, (kernel, margin) in enumerate(zip(kernels, self.margins, strict=True)):
            sources = [self.group.lifted_neighbour(g, step) for step in range(self.mixing)]
            inside = [h for h in sources if h is not None]  # a window's missing elements are its last
            x = elements[g] if self.mixing == 1 else torch.cat([elements[h] for h in inside], dim=1)
            maps.append(self.convolve(x, kernel[:, : len(inside) * self.in_channels], margin))
        return _stack(maps)


def _stack(maps: list[Tensor]) -> Tensor:
    """One (N, C, H, W) map for each lifted element -> (N, C, G, H, W), G-major and channels-last in memory."""
    return unfold(torch.stack([m.permute(0, 2, 3, 1) for m in maps]).flatten(0, 1).permute(0, 3, 1, 2), len(maps))


class GroupPool(nn.Module):
    """Maximum over the lifted axis, Z2 x G -> Z2:  (N, C, G, H, W) -> (N, C, H, W)."""

    def forward(self, z: Tensor) -> Tensor:
        return z.permute(2, 0, 3, 4, 1).amax(0).permute(0, 3, 1, 2)  # channels last, and so its gradient
