"""The whole groups: turns about an image's centre (C4, C8), and turns with reflections (D4).

N images, C channels, G lifted elements, H x W cells. Images are square.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import final

import torch
from torch import Tensor

from hssl_ray.method.geometry import Circle, Geometry, Mirrored
from hssl_ray.method.group import Group, whole_numbers
from hssl_ray.method.layout import spatial_mean
from hssl_ray.method.resampling import turn, turned_inside


class WholeGroup(Group):
    """A group whose elements are all lifted, so that features are moved by the group's own product.

        Gamma_g[z](h) = T_g[z(g^-1 . h)]

    on maps z(h), and a filter at g meets g . 0, g . 1, g . 2, ... at its places 0, 1, 2, ...
    """

    @abstractmethod
    def move(self, g: Tensor, maps: Tensor) -> Tensor:
        """Maps (N, C, H, W) turned and reflected, each by its own element (N,)."""

    def lifted_neighbour(self, element: int, step: int) -> int | None:
        return int(self.compose(torch.tensor(element), torch.tensor(step)))

    def transform_input(self, g: Tensor, x: Tensor) -> Tensor:
        return self.move(self.checked(g), x)

    @abstractmethod
    def known(self, g: Tensor, maps: Tensor) -> Tensor:
        """Which cells of the moved maps (N, C, H, W) come from inside them, bool (N, H, W)."""

    def transform_features(self, g: Tensor, z: Tensor) -> Tensor:
        source = self.compose(self.inverse(g)[:, None], torch.arange(self.order)).to(z.device)  # (N, G)
        moved = z.gather(2, source[:, None, :, None, None].expand_as(z))
        return self.move(g, moved.flatten(1, 2)).view(z.shape).where(self.known_features(g, z), 0.0)

    def known_features(self, g: Tensor, z: Tensor) -> Tensor:
        return self.known(self.checked(g), z[:, :, 0])[:, None, None].expand(-1, 1, z.shape[2], -1, -1)

    def shift(self, g0: Tensor, g: Tensor) -> Tensor:
        return self.compose(self.inverse(g), g0)

    def fibers(self, z: Tensor) -> Tensor:
        return spatial_mean(z)

    def base(self, g0: Tensor, base_size: int) -> Tensor:
        """The first elements, moved to g0: g0 . 0, g0 . 1, ..."""
        return self.compose(g0[:, None], torch.arange(self.geometry.base_side(base_size)))

    def origins(self, base_size: int) -> Tensor:
        self.geometry.base_side(base_size)
        return torch.arange(self.order)

    def augmentation(self, u: Tensor) -> Tensor:
        """One of the elements, as the paper's rotations are one of the four quarter turns, (N,)."""
        return whole_numbers(u[:, 0], self.order)


@final
class Rotation(WholeGroup):
    """C4 or C8: element r turns images by r steps counter-clockwise.

    Quarter turns move whole cells, exactly as torch.rot90 does. C8 has one eighth turn before them, which interpolates
    between cells (`resampling.turn`) and takes what lies outside the image as zero; so its quarter turns are a group
    of exact operations, and its other four elements act to the error of sampling.
    """

    def __init__(self, geometry: Geometry) -> None:
        """
        Raises:
            ValueError: the geometry is not that of four or eight turns.
        """
        if geometry.lifted not in (Circle(4), Circle(8)) or geometry.grid is not None:
            raise ValueError(f"rotation: needs the geometry of four or eight turns, got {geometry.name}")
        super().__init__(geometry)
        self.steps = self.order // 4  # to a quarter turn
        self.angles = tuple(step * 2 * math.pi / self.order for step in range(self.steps))

    def lift_basis(self, basis: Tensor) -> Tensor:
        """Quarter turns of the functions at each angle, in the order of the elements."""
        return torch.cat([torch.rot90(basis, quarter, (2, 3)) for quarter in range(4)], dim=1)

    def move(self, g: Tensor, maps: Tensor) -> Tensor:
        moved = gather_squares(maps, turned_cells(maps)[(g // self.steps).to(maps.device)])
        for step in range(1, self.steps):
            rows = (g % self.steps == step).nonzero()[:, 0].to(maps.device)
            moved = moved.index_copy(0, rows, turn(moved[rows], self.angles[step]))
        return moved

    def known(self, g: Tensor, maps: Tensor) -> Tensor:
        """All at quarter turns; an eighth turn brings in the corners from outside."""
        inside = torch.stack([turned_inside(maps.shape[-1], angle) for angle in self.angles])
        return inside[g % self.steps].to(maps.device)

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        return (self.checked(g) + self.checked(h)) % self.order

    def inverse(self, g: Tensor) -> Tensor:
        return -self.checked(g) % self.order


@final
class Dihedral(WholeGroup):
    """D4: element r + 4 m turns images by r quarter turns counter-clockwise, after a reflection of left and right if
    m is 1. Exact; the product does not commute.
    """

    def __init__(self, geometry: Geometry) -> None:
        """
        Raises:
            ValueError: the geometry is not D4's.
        """
        if geometry.lifted != Mirrored(4) or geometry.grid is not None:
            raise ValueError(f"dihedral: needs the geometry of D4, got {geometry.name}")
        super().__init__(geometry)

    def lift_basis(self, basis: Tensor) -> Tensor:
        sides = basis, basis.flip(3)
        return torch.cat([torch.rot90(side, quarter, (2, 3)) for side in sides for quarter in range(4)], dim=1)

    def move(self, g: Tensor, maps: Tensor) -> Tensor:
        return gather_squares(
            maps, torch.cat([turned_cells(maps), turned_cells(maps, mirrored=True)])[g.to(maps.device)]
        )

    def known(self, g: Tensor, maps: Tensor) -> Tensor:
        return maps.new_ones((len(maps), *maps.shape[2:]), dtype=torch.bool)

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        g, h = self.checked(g), self.checked(h)
        turns = g % 4 + torch.where(g < 4, h % 4, -(h % 4))  # a reflection reverses the turns it follows
        return turns % 4 + 4 * ((g // 4 + h // 4) % 2)

    def inverse(self, g: Tensor) -> Tensor:
        """A reflected turn is its own inverse."""
        return torch.where(self.checked(g) < 4, -g % 4, g)


def turned_cells(maps: Tensor, *, mirrored: bool = False) -> Tensor:
    """For each quarter turn (after a reflection of left and right, if `mirrored`), which cell of a map comes to lie at
    each cell: (4, H*W).

    Raises:
        ValueError: the maps are not square.
    """
    height, width = maps.shape[-2:]
    if height != width:
        raise ValueError(f"image: a quarter turn needs a square, got {height} x {width}")
    cells = torch.arange(height * width, device=maps.device).view(height, width)
    cells = cells.flip(1) if mirrored else cells
    return torch.stack([torch.rot90(cells, quarter).flatten() for quarter in range(4)])


def gather_squares(maps: Tensor, cells: Tensor) -> Tensor:
    """Maps (N, C, H, W) with cell cells[n, i] moved to i; cells (N, H*W)."""
    return maps.flatten(2).gather(2, cells[:, None].expand(-1, maps.shape[1], -1)).view_as(maps)
