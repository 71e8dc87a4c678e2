"""The window of scales: SESN's, and the paper's third transformation (§4.4)."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from hssl_ray.method.geometry import PAPER_SCALES, Geometry
from hssl_ray.method.group import Group, identity_only, inside
from hssl_ray.method.layout import spatial_mean
from hssl_ray.method.resampling import shrink


@final
class Scale(Group):
    """A window of scales: element i shrinks images about their centre to the factor scales[0] / scales[i], in (0, 1].

    Continuous parameters are the factor itself, float (N, 1). What lies outside the image is zero.

    f(T_g[x]) at g0 is compared with z at g0 + g. On images this is exact to discretisation for g0 = 0 alone, because
    the paper's scales are not a geometric series; indices still compose by addition.
    """

    def __init__(self, geometry: Geometry, scales: tuple[float, ...] = PAPER_SCALES) -> None:
        """`scales`: ascending; the geometry must be theirs.

        Raises:
            ValueError: it is not.
        """
        if geometry.scales != scales:
            raise ValueError(f"scales: {scales} are not those of the geometry given")
        super().__init__(geometry)
        self.scales = scales

    def lift_basis(self, basis: Tensor) -> Tensor:
        return basis

    def lifted_neighbour(self, element: int, step: int) -> int | None:
        return element + step if element + step < self.order else None

    def transform_input(self, g: Tensor, x: Tensor) -> Tensor:
        return shrink(x, self.factors(g, x))

    def transform_features(self, g: Tensor, z: Tensor) -> Tensor:
        """Moves the scales down by g and shrinks the maps with the image: Gamma_g[z](h) = shrunk z(h + g)."""
        shrunk = shrink(self.moved(g, z).flatten(1, 2), self.factors(g, z)).view(z.shape)
        return shrunk.where(self.known_features(g, z), 0.0)

    def known_features(self, g: Tensor, z: Tensor) -> Tensor:
        known = self._source(g, z) < self.order
        return known[:, None, :, None, None].expand(-1, 1, -1, *z.shape[3:])

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        return self.shift(g, h)

    def inverse(self, g: Tensor) -> Tensor:
        return identity_only(self.checked(g))

    def shift(self, g0: Tensor, g: Tensor) -> Tensor:
        return inside(self.checked(g0) + self.checked(g), self.order, "scale")

    def fibers(self, z: Tensor) -> Tensor:
        return spatial_mean(z)

    def base(self, g0: Tensor, base_size: int) -> Tensor:
        run = torch.arange(self.geometry.base_side(base_size))
        return inside(self.checked(g0)[:, None] + run, self.order, "scale")

    def origins(self, base_size: int) -> Tensor:
        return torch.arange(self.order - self.geometry.base_side(base_size) + 1)

    def augmentation(self, u: Tensor) -> Tensor:
        """A factor uniform from smallest to largest scale's ratio (1 / 1.75, the paper's 0.57) to 1, (N, 1)."""
        smallest = self.scales[0] / self.scales[-1]
        return smallest + (1 - smallest) * u[:, :1]

    def moved(self, g: Tensor, z: Tensor) -> Tensor:
        """z with the lifted axis moved down by g; beyond the window, its last maps again."""
        source = self._source(g, z).clamp_max(self.order - 1)  # (N, G)
        return z.gather(2, source[:, None, :, None, None].expand_as(z))

    def factors(self, g: Tensor, x: Tensor) -> Tensor:
        """Shrinking factors (N,) of elements or parameters, in the type of x.

        Raises:
            ValueError: not elements, nor factors in (0, 1].
        """
        if not g.is_floating_point():
            return (self.scales[0] / torch.tensor(self.scales, dtype=torch.float64)[self.checked(g)]).to(x)
        if g.shape[1:] != (1,) or not bool(((g > 0) & (g <= 1)).all()):
            raise ValueError(f"scale: parameters must be (N, 1) factors in (0, 1], got shape {tuple(g.shape)}")
        return g[:, 0].to(x)

    def _source(self, g: Tensor, z: Tensor) -> Tensor:
        return torch.arange(self.order, device=z.device) + self.checked(g).to(z.device)[:, None]
