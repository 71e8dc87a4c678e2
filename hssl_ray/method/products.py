"""Products of a lifted group with the translations of the feature grid: one element says which, and where.

N images, C channels, G lifted elements, H x W cells. Element number = lifted element x cells + cell. Every fiber is one
cell of one lifted map: nothing is averaged over space.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import final

import torch
from torch import Tensor

from hssl_ray.method.geometry import TOLERANCE, Circle, Geometry, Window, rotation, scale, translation
from hssl_ray.method.group import Group, identity_only, inside, whole_numbers
from hssl_ray.method.resampling import sample_from, shrink_onto_first
from hssl_ray.method.rotations import Rotation, turned_cells
from hssl_ray.method.scales import Scale
from hssl_ray.method.translations import Translation


class _Product(Group):
    """A lifted group times `Translation`, as far as all such are alike; how one acts on the other is the subclass's."""

    lifted: Group

    def __init__(self, geometry: Geometry, *, image_size: int, stride: int, cells: int = 1) -> None:
        """As `Translation`."""
        assert geometry.grid is not None
        super().__init__(geometry)
        self.grid = Translation(
            translation(geometry.side, geometry.grid.metric), image_size=image_size, stride=stride, cells=cells
        )

    def lift_basis(self, basis: Tensor) -> Tensor:
        return self.lifted.lift_basis(basis)

    def lifted_neighbour(self, element: int, step: int) -> int | None:
        return self.lifted.lifted_neighbour(element, step)

    def fibers(self, z: Tensor) -> Tensor:
        expected = self.lifted_order, self.geometry.side, self.geometry.side
        if z.shape[2:] != expected:
            raise ValueError(f"features: must be (N, C, {', '.join(map(str, expected))}), got {tuple(z.shape)}")
        return z.permute(0, 2, 3, 4, 1).flatten(1, 3)

    def base(self, g0: Tensor, base_size: int) -> Tensor:
        """A run of lifted elements, all at the cell of g0."""
        element, cell = self.parts(g0)
        run = self.lifted.compose(element[:, None], torch.arange(self.geometry.base_side(base_size)))
        return run * self.geometry.cells + cell[:, None]

    def origins(self, base_size: int) -> Tensor:
        side = self.geometry.base_side(base_size)
        places = self.lifted_order if self.geometry.cyclic else self.lifted_order - side + 1
        return torch.arange(places * self.geometry.cells)

    def parts(self, g: Tensor) -> tuple[Tensor, Tensor]:
        """Elements to lifted elements and cells."""
        g = self.checked(g)
        return g // self.geometry.cells, g % self.geometry.cells

    def _offsets(self, g: Tensor) -> Tensor:
        return self.grid.offsets(self.parts(g)[1])

    def _element(self, lifted: Tensor, offsets: Tensor) -> Tensor:
        offsets = inside(offsets, self.geometry.side, self.geometry.name)
        return lifted * self.geometry.cells + offsets[..., 0] * self.geometry.side + offsets[..., 1]

    @abstractmethod
    def on_finer_grid(self, factor: int) -> Group: ...


@final
class RotationTranslation(_Product):
    """C4 times translations: element (r, t) turns images by r quarter turns about their centre, and then moves them up
    and left by t cells. Both are exact, on grids that keep their centre.

        f(T_g[x])(o, p) = f(x)(o - r, turned back by r: p + t)

    So from the first cell p = 0 every element is reached, from any orientation o. Turns move cells about the centre
    and offsets about zero; the products and inverses whose offset is no cell of the grid lie outside the window.

    Continuous parameters are quarter turns and pixels down and right, float (N, 3).
    """

    def __init__(self, geometry: Geometry, *, image_size: int, stride: int, cells: int = 1) -> None:
        """As `Translation`.

        Raises:
            ValueError: the geometry is not that of quarter turns on a grid.
        """
        if geometry.lifted != Circle(4) or geometry.grid is None:
            raise ValueError(f"rotation_translation: needs the geometry of both, got {geometry.name}")
        super().__init__(geometry, image_size=image_size, stride=stride, cells=cells)
        self.lifted = Rotation(rotation())

    def on_finer_grid(self, factor: int) -> Group:
        grid = self.grid
        return RotationTranslation(
            self.geometry, image_size=grid.image_size, stride=grid.stride, cells=grid.cells * factor
        )

    def transform_input(self, g: Tensor, x: Tensor) -> Tensor:
        if not g.is_floating_point():
            turns, cells = self.parts(g)
            return self.grid.transform_input(cells, self.lifted.transform_input(turns, x))
        if g.shape[1:] != (3,):
            raise ValueError(
                f"rotation_translation: parameters must be (N, 3), quarter turns and pixels down and right,"
                f" got shape {tuple(g.shape)}"
            )
        return self.grid.transform_input(g[:, 1:], self.lifted.transform_input(g[:, 0].round().long(), x))

    def transform_features(self, g: Tensor, z: Tensor) -> Tensor:
        turns, cells = self.parts(g)
        return self.grid.transform_features(cells, self.lifted.transform_features(turns, z))

    def known_features(self, g: Tensor, z: Tensor) -> Tensor:
        return self.grid.known_features(self.parts(g)[1], z).expand(-1, 1, self.lifted_order, -1, -1)

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        turns, _ = self.parts(g)
        offsets = self._offsets(g) + _turned(turns, self._offsets(h))
        return self._element((turns + self.parts(h)[0]) % 4, offsets)

    def inverse(self, g: Tensor) -> Tensor:
        back = -self.parts(g)[0] % 4
        return self._element(back, -_turned(back, self._offsets(g)))

    def shift(self, g0: Tensor, g: Tensor) -> Tensor:
        orientation, _ = self.parts(g0)
        turns, _ = self.parts(g)
        cell = self.parts(self._element(torch.zeros_like(orientation), self._offsets(g0) + self._offsets(g)))[1]
        turned = turned_cells(torch.empty(self.geometry.side, self.geometry.side))  # (4, cells)
        return (orientation - turns) % 4 * self.geometry.cells + turned[turns, cell]

    def augmentation(self, u: Tensor) -> Tensor:
        """One of the four quarter turns, and a move as `Translation` draws it from the first two columns, (N, 3)."""
        turns = whole_numbers(u[:, 2:3], 4)
        return torch.cat([turns.to(torch.float64), self.grid.augmentation(u)], dim=1)


@final
class ScaleTranslation(_Product):
    """Scales times translations: element (s, t) moves images up and left by t cells, and then shrinks them about the
    first cell to the factor scales[0] / scales[s].

        f(T_g[x])(o, p) = f(x)(o + s, t + p scales[s] / scales[0])

    So at the first cell p = 0 parts add. Elsewhere, and in products, an offset is multiplied by a scale; one that
    then falls between cells lies outside the window. As in `Scale`, scales compose by index, which is exact for a
    geometric series.

    Continuous parameters are a factor about the image's centre, and then pixels down and right, float (N, 3).
    """

    def __init__(self, geometry: Geometry, *, image_size: int, stride: int, cells: int = 1) -> None:
        """As `Translation`.

        Raises:
            ValueError: the geometry is not that of scales on a grid.
        """
        if not isinstance(geometry.lifted, Window) or geometry.grid is None:
            raise ValueError(f"scale_translation: needs the geometry of both, got {geometry.name}")
        super().__init__(geometry, image_size=image_size, stride=stride, cells=cells)
        self.scales = geometry.scales
        self.lifted = self._scale = Scale(scale(self.scales), self.scales)

    def on_finer_grid(self, factor: int) -> Group:
        grid = self.grid
        return ScaleTranslation(
            self.geometry, image_size=grid.image_size, stride=grid.stride, cells=grid.cells * factor
        )

    def transform_input(self, g: Tensor, x: Tensor) -> Tensor:
        if not g.is_floating_point():
            factors = self._scale.factors(self.parts(g)[0], x)
            return shrink_onto_first(x, factors, self._offsets(g) * self.grid.stride)
        if g.shape[1:] != (3,):
            raise ValueError(
                f"scale_translation: parameters must be (N, 3), a factor and pixels down and right,"
                f" got shape {tuple(g.shape)}"
            )
        return self.grid.transform_input(g[:, 1:], self._scale.transform_input(g[:, :1], x))

    def transform_features(self, g: Tensor, z: Tensor) -> Tensor:
        """Moves the scales down by s and reads the maps where their cells come from, linearly between cells: the
        scale's own kernels have done the averaging.
        """
        element, _ = self.parts(g)
        moved = self._scale.moved(element, z).flatten(1, 2)
        return self._sampled(g, moved)[0].view(z.shape).where(self.known_features(g, z), 0.0)

    def known_features(self, g: Tensor, z: Tensor) -> Tensor:
        on_map = self._sampled(g, z.new_zeros((len(z), 1, *z.shape[3:])))[1]
        return on_map[:, None, None] & self._scale.known_features(self.parts(g)[0], z)

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        element, _ = self.parts(h)
        offsets = self._offsets(h) + self._stretched(element, self._offsets(g))
        return self._element(self._scale.compose(self.parts(g)[0], element), offsets)

    def inverse(self, g: Tensor) -> Tensor:
        return identity_only(self.checked(g))

    def shift(self, g0: Tensor, g: Tensor) -> Tensor:
        return self.compose(g0, g)

    def augmentation(self, u: Tensor) -> Tensor:
        """A factor as `Scale` draws it from the third column, and a move as `Translation` from the others, (N, 3)."""
        return torch.cat([self._scale.augmentation(u[:, 2:3]), self.grid.augmentation(u)], dim=1)

    def _steps(self, element: Tensor) -> Tensor:
        """Cells to one cell of the shrunk map, float64."""
        return torch.tensor(self.scales, dtype=torch.float64)[element] / self.scales[0]

    def _sampled(self, g: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
        start = (self._offsets(g) * self.grid.cells).to(torch.float64)
        return sample_from(maps, self._steps(self.parts(g)[0]), start)

    def _stretched(self, element: Tensor, offsets: Tensor) -> Tensor:
        """Offsets times the scale of the element.

        Raises:
            ValueError: one falls between cells.
        """
        stretched = offsets * self._steps(element)[..., None]
        if bool(((stretched - stretched.round()).abs() > TOLERANCE).any()):
            raise ValueError(f"{self.geometry.name}: a place between cells is outside the window")
        return stretched.round().long()


def _turned(turns: Tensor, offsets: Tensor) -> Tensor:
    """Offsets (..., 2), rows and columns, turned by quarter turns (...) counter-clockwise."""
    cos, sin = torch.tensor([1, 0, -1, 0])[turns], torch.tensor([0, 1, 0, -1])[turns]
    rows, columns = offsets[..., 0], offsets[..., 1]
    return torch.stack([cos * rows - sin * columns, sin * rows + cos * columns], dim=-1)
