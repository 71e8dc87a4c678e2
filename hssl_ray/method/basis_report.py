"""One basis in figures: what it spans at every scale, what its supports cut off, how it carries from scale to scale.

A basis suits scale equivariance if its functions at one scale are those of another, only larger. Sampling and a kernel
too small for the larger scales spoil that; this says by how much, before anything is trained.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hssl_ray.method.basis_measures import (
    aliased_energy,
    kept_energy,
    rank_and_condition,
    rank_tolerance,
    shift_residual,
    support,
    turn_residual,
)
from hssl_ray.method.steerable import BasisKind, function_orders, hermite_basis

SMOOTHNESS = 3.0
"""Pixels over which the images of the residual correlate. MNIST's digits, less their mean, are sharper: 1.5."""


@dataclass(frozen=True, order=True)
class BasisSpec:
    """What fixes a layer's basis. `rotations` counts the turned copies that a rotation group makes of it."""

    kernel_size: int
    effective_size: int
    scales: tuple[float, ...] = (1.0,)
    kind: BasisKind = "A"
    rotations: int = 1

    def __post_init__(self) -> None:
        if self.rotations not in (1, 4, 8):
            raise ValueError(f"rotations: must be 1, 4 quarter turns or 8 eighths, got {self.rotations}")

    @property
    def functions(self) -> int:
        """F, free weights for each pair of channels."""
        return self.effective_size**2

    def sampled(self) -> Tensor:
        """The functions at all scales, unturned, float64 (F, S, k, k)."""
        return hermite_basis(self.kernel_size, self.effective_size, self.scales, self.kind)

    def copies(self) -> Iterator[tuple[float, Tensor]]:
        """Angle in radians, counter-clockwise, and functions (F, S, k, k) of each turned copy, the first unturned."""
        angles = (0.0, math.pi / 4) if self.rotations == 8 else (0.0,)
        basis = hermite_basis(self.kernel_size, self.effective_size, self.scales, self.kind, angles=angles)
        for quarter in range(max(1, self.rotations // len(angles))):
            for angle, copy in zip(angles, basis.chunk(len(angles), dim=1), strict=True):
                yield quarter * math.pi / 2 + angle, torch.rot90(copy, quarter, (2, 3))


@dataclass(frozen=True)
class ScaleMeasures:
    """One scale of a basis.

    `mean_norm` and `max_norm` are over functions, each relative to its norm at the first scale. `kept_energy[n]` is the
    share of order n's energy, along one side, that lies inside the support; `aliased_energy[n]` that beyond the grid's
    highest frequency.
    """

    scale: float
    support: int
    rank: int
    condition: float
    mean_norm: float
    max_norm: float
    kept_energy: tuple[float, ...]
    aliased_energy: tuple[float, ...]


@dataclass(frozen=True)
class BasisReport:
    """All figures of a basis.

    `residuals[i][j]`, j > i, is the error of a lifting layer from scale j to scale i, else None. `turn_residual` is the
    largest from the unturned copy to another; None where there is no other.
    """

    spec: BasisSpec
    tolerance: float
    smoothness: float
    scales: tuple[ScaleMeasures, ...]
    residuals: tuple[tuple[float | None, ...], ...]
    turn_residual: float | None

    @property
    def to_first(self) -> tuple[float, ...]:
        """The residuals from every larger scale to the first, which are what a trial's equivariance error sees."""
        return tuple(r for r in self.residuals[0] if r is not None)

    @property
    def worst_residual(self) -> float | None:
        """The largest over all pairs of scales; None for a single scale."""
        return max((r for row in self.residuals for r in row if r is not None), default=None)


def basis_report(spec: BasisSpec, smoothness: float = SMOOTHNESS) -> BasisReport:
    """Measure one basis.

    Raises:
        ValueError: `hermite_basis` refuses it, or the smoothness is not positive.
    """
    if not smoothness > 0:
        raise ValueError(f"smoothness: must be above 0 pixels, got {smoothness:g}")
    basis = spec.sampled()
    orders = range(1 + max(max(n, m) for n, m, _ in function_orders(spec.effective_size, spec.kind)))
    return BasisReport(
        spec,
        tolerance=rank_tolerance(basis[:, 0]),
        smoothness=smoothness,
        scales=tuple(_measures(s, basis[:, i], orders) for i, s in enumerate(spec.scales)),
        residuals=tuple(
            tuple(
                shift_residual(basis[:, i], basis[:, j], spec.scales[i] / spec.scales[j], smoothness) if j > i else None
                for j in range(len(spec.scales))
            )
            for i in range(len(spec.scales))
        ),
        turn_residual=max(
            (
                turn_residual(still, turned, angle, smoothness)
                for angle, copy in spec.copies()
                for still, turned in zip(basis.unbind(1), copy.unbind(1), strict=True)
                if angle
            ),
            default=None,
        ),
    )


def _measures(scale: float, functions: Tensor, orders: Iterable[int]) -> ScaleMeasures:
    """One scale's functions (F, k, k)."""
    cells = support(functions)
    rank, condition = rank_and_condition(functions)
    norms = torch.linalg.vector_norm(functions, dim=(1, 2))
    return ScaleMeasures(
        scale,
        cells,
        rank,
        condition,
        norms.mean().item(),
        norms.max().item(),
        tuple(kept_energy(order, cells / 2 / scale) for order in orders),
        tuple(aliased_energy(order, scale) for order in orders),
    )
