"""The window of translations on the feature grid: the paper's second transformation (§4.2, §4.4)."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from hssl_ray.method.geometry import Geometry
from hssl_ray.method.group import Group, identity_only, inside, whole_numbers
from hssl_ray.method.resampling import gather_cells, moved_cells

MAX_SHIFT = 0.2  # of the image's side: A-SSL's largest translation (§4.1)


@final
class Translation(Group):
    """Offsets on the feature grid: element (r, c) moves images up by r and left by c cells of `stride` pixels.

    Continuous parameters are the shift in pixels (down, right), float (N, 2), rounded to whole pixels. What a shift
    vacates is zero. A fiber is one cell of the feature map, a base a square patch in reading order.
    """

    def __init__(self, geometry: Geometry, *, image_size: int, stride: int, cells: int = 1) -> None:
        """
        Args:
            image_size: pixels a side before padding, of which A-SSL shifts a share.
            stride: pixels by which an element's step moves images.
            cells: cells by which it moves features.
        """
        super().__init__(geometry)
        self.image_size = image_size
        self.stride = stride
        self.cells = cells

    def lift_basis(self, basis: Tensor) -> Tensor:
        return basis

    def lifted_neighbour(self, element: int, step: int) -> int | None:
        return element if step == 0 else None

    def transform_input(self, g: Tensor, x: Tensor) -> Tensor:
        if not g.is_floating_point():
            return gather_cells(x, *moved_cells(-self.offsets(g) * self.stride, x))
        if g.shape[1:] != (2,):
            raise ValueError(
                f"translation: parameters must be (N, 2) pixels down and right, got shape {tuple(g.shape)}"
            )
        return gather_cells(x, *moved_cells(g.round().long(), x))

    def transform_features(self, g: Tensor, z: Tensor) -> Tensor:
        return gather_cells(z, *moved_cells(-self.offsets(g) * self.cells, z))

    def known_features(self, g: Tensor, z: Tensor) -> Tensor:
        return moved_cells(-self.offsets(g) * self.cells, z)[1][:, None, None]

    def on_finer_grid(self, factor: int) -> Translation:
        return Translation(self.geometry, image_size=self.image_size, stride=self.stride, cells=self.cells * factor)

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        return self.shift(g, h)

    def inverse(self, g: Tensor) -> Tensor:
        return identity_only(self.checked(g))

    def shift(self, g0: Tensor, g: Tensor) -> Tensor:
        return self.element(self.offsets(g0) + self.offsets(g))

    def fibers(self, z: Tensor) -> Tensor:
        if z.shape[2] != 1 or z.shape[3:] != (self.geometry.side,) * 2:
            raise ValueError(
                f"features: must be (N, C, 1, {self.geometry.side}, {self.geometry.side}), got {tuple(z.shape)}"
            )
        return z.flatten(2).transpose(1, 2)

    def base(self, g0: Tensor, base_size: int) -> Tensor:
        run = torch.arange(self.geometry.base_side(base_size))
        patch = torch.cartesian_prod(run, run).view(-1, 2)  # (B, 2) in reading order
        return self.element(self.offsets(g0)[:, None] + patch)

    def origins(self, base_size: int) -> Tensor:
        run = torch.arange(self.geometry.side - self.geometry.base_side(base_size) + 1)
        return self.element(torch.cartesian_prod(run, run).view(-1, 2))

    def augmentation(self, u: Tensor) -> Tensor:
        """Whole pixels down and right, each uniform up to 20 % of the unpadded side either way, (N, 2)."""
        reach = int(MAX_SHIFT * self.image_size)
        return (whole_numbers(u[:, :2], 2 * reach + 1) - reach).to(torch.float64)

    def offsets(self, g: Tensor) -> Tensor:
        """Elements (...) to rows and columns (..., 2)."""
        g = self.checked(g)
        return torch.stack([g // self.geometry.side, g % self.geometry.side], dim=-1)

    def element(self, offsets: Tensor) -> Tensor:
        """Rows and columns (..., 2) to elements (...).

        Raises:
            ValueError: a row or column that the grid does not have.
        """
        offsets = inside(offsets, self.geometry.side, "translation")
        return offsets[..., 0] * self.geometry.side + offsets[..., 1]
