"""Groups as operations on tensors: T_g on images, Gamma_g on features, fibers and bundles (Eq. 1, §2.1).

N images, C channels, G lifted elements, H x W cells, B fibers in a bundle. Elements are int64 indices 0 .. order-1, and
their tensors live on the CPU whatever device the images are on: there, checking them waits for nothing.

A group is cyclic (`Rotation`) or a finite window without wrap (`Scale`, `Translation`). Either way g^-1 . g0 is the
place where f(T_g[x]) at g0 is found in f(x): g0 - g on the circle, g0 + g in a window, where leaving the window is an
error.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor

from hssl_ray.method.geometry import PAPER_SCALES, Geometry, GroupName, scale
from hssl_ray.method.layout import spatial_mean
from hssl_ray.method.resampling import gather_cells, moved_cells, shrink

MAX_SHIFT = 0.2  # of the image's side: A-SSL's largest translation (§4.1)


class Group(ABC):
    """A finite group, or a window of one, acting on images and on the features of an equivariant network."""

    scales: tuple[float, ...] = (1.0,)  # at which the network's basis is sampled, ascending

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.distances = distance_matrix(geometry)

    @property
    def order(self) -> int:
        """|G|: number of elements."""
        return self.geometry.order

    @property
    def lifted_order(self) -> int:
        """G of a feature map (N, C, G, H, W)."""
        return self.order

    # the network's side

    def lift_basis(self, basis: Tensor) -> Tensor:
        """Basis functions (F, S, k, k) at `scales` to those of each lifted element, (F, G, k, k)."""
        return basis

    @abstractmethod
    def lifted_neighbour(self, element: int, step: int) -> int | None:
        """The lifted element `step` places on, None beyond a window's end."""

    # the action, Eq. 1: f(T_g[x]) = Gamma_g[f(x)]

    @abstractmethod
    def transform_input(self, g: Tensor, x: Tensor) -> Tensor:
        """T_g[x] for each image (N, C, H, W).

        Args:
            g: elements, int64 (N,), or parameters of the continuous group, float (N, k); see the class.

        Raises:
            ValueError: an element or parameter that the group does not have, or images of a shape it cannot act on.
        """

    @abstractmethod
    def transform_features(self, g: Tensor, z: Tensor) -> Tensor:
        """Gamma_g[z] for elements g, int64 (N,), on features (N, C, G, H, W); zero where `known_features` is false."""

    @abstractmethod
    def known_features(self, g: Tensor, z: Tensor) -> Tensor:
        """Where Gamma_g[z] follows from z, bool (N, 1, G, H, W): everywhere but where a window ends."""

    def on_finer_grid(self, factor: int) -> Group:
        """The same elements acting on features whose cells are `factor` times as fine, as those of earlier stages are.

        A group that moves features by no whole cells acts on every grid alike.
        """
        return self

    # the algebra

    @abstractmethod
    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        """The element g . h, which acts as h and then g.

        Raises:
            ValueError: the product lies outside the window.
        """

    @abstractmethod
    def inverse(self, g: Tensor) -> Tensor:
        """The element g^-1.

        Raises:
            ValueError: it lies outside the window, as all but the identity's do.
        """

    @abstractmethod
    def shift(self, g0: Tensor, g: Tensor) -> Tensor:
        """The element g^-1 . g0, by broadcasting.

        Raises:
            ValueError: it would leave the window ("no padding", §4.3).
        """

    def distance(self, g: Tensor, h: Tensor) -> Tensor:
        """Topographic distance, float64, in the units of `Geometry.distance`."""
        return self.distances[self.checked(g), self.checked(h)]

    def checked(self, g: Tensor) -> Tensor:
        """g itself, if it holds elements of the group.

        Raises:
            ValueError: it holds anything else.
        """
        if g.dtype != torch.int64:
            raise ValueError(f"element: must be int64 indices, got {g.dtype}")
        if g.numel() and not 0 <= int(g.min()) <= int(g.max()) < self.order:
            raise ValueError(f"element: must be from 0 to {self.order - 1}, got {int(g.min())} to {int(g.max())}")
        return g

    # fibers

    @abstractmethod
    def fibers(self, z: Tensor) -> Tensor:
        """The fiber z(g) of every element: (N, C, G, H, W) -> (N, order, C).

        Scale and rotation first average over space, as the paper does (§4.4), in at least float32.
        """

    @abstractmethod
    def base(self, g0: Tensor, base_size: int) -> Tensor:
        """The ordered base space at g0, its contiguous elements: (N,) -> (N, B).

        Raises:
            ValueError: it does not fit the group.
        """

    @abstractmethod
    def origins(self, base_size: int) -> Tensor:
        """Every element at which a base fits, int64, ascending.

        Raises:
            ValueError: there is none, or the base leaves no room to move.
        """

    def bundle(self, z: Tensor, g0: Tensor, g: Tensor, base_size: int = 1) -> Tensor:
        """The fiber bundle Gamma_g[z(g0)] = z(g^-1 . g0), fibers in the order of the base: (N, C, G, H, W) -> (N, B*C).

        Raises:
            ValueError: the base or its shift leaves the window.
        """
        return self.read(self.fibers(z), g0, g, base_size)

    def read(self, fibers: Tensor, g0: Tensor, g: Tensor, base_size: int = 1) -> Tensor:
        """`bundle` from fibers at hand, (N, order, C), for whoever reads several bundles of one feature map."""
        places = self.shift(self.base(g0, base_size), g[:, None]).to(fibers.device)  # (N, B)
        return fibers.gather(1, places[:, :, None].expand(-1, -1, fibers.shape[2])).flatten(1)

    # the continuous group

    @abstractmethod
    def augmentation(self, u: Tensor) -> Tensor:
        """The paper's A-SSL transformations from uniforms (N, 2): what `transform_input` takes, (N,) or (N, k)."""


@final
class Rotation(Group):
    """C4: element r turns images r quarter turns counter-clockwise, exactly, as torch.rot90 does. Images are square."""

    def lift_basis(self, basis: Tensor) -> Tensor:
        return torch.cat([torch.rot90(basis, r, (2, 3)) for r in range(self.order)], dim=1)

    def lifted_neighbour(self, element: int, step: int) -> int | None:
        return (element + step) % self.order

    def transform_input(self, g: Tensor, x: Tensor) -> Tensor:
        turned = self._turned_cells(x)[self.checked(g).to(x.device)]  # (N, H*W)
        return x.flatten(2).gather(2, turned[:, None].expand(-1, x.shape[1], -1)).view_as(x)

    def transform_features(self, g: Tensor, z: Tensor) -> Tensor:
        """Turns the maps and rolls the lifted axis: Gamma_g[z](h) = turned z(h - g)."""
        g = self.checked(g).to(z.device)
        cells = z.shape[3] * z.shape[4]
        source = (torch.arange(self.order, device=z.device) - g[:, None]) % self.order  # (N, G)
        index = (source[:, :, None] * cells + self._turned_cells(z)[g][:, None]).flatten(1)  # (N, G*H*W)
        return z.flatten(2).gather(2, index[:, None].expand(-1, z.shape[1], -1)).view(z.shape)

    def known_features(self, g: Tensor, z: Tensor) -> Tensor:
        return z.new_ones((len(z), 1, *z.shape[2:]), dtype=torch.bool)

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        return (self.checked(g) + self.checked(h)) % self.order

    def inverse(self, g: Tensor) -> Tensor:
        return -self.checked(g) % self.order

    def shift(self, g0: Tensor, g: Tensor) -> Tensor:
        return (self.checked(g0) - self.checked(g)) % self.order

    def fibers(self, z: Tensor) -> Tensor:
        return spatial_mean(z)

    def base(self, g0: Tensor, base_size: int) -> Tensor:
        return (self.checked(g0)[:, None] + torch.arange(self.geometry.base_side(base_size))) % self.order

    def origins(self, base_size: int) -> Tensor:
        self.geometry.base_side(base_size)
        return torch.arange(self.order)

    def augmentation(self, u: Tensor) -> Tensor:
        """One of the four quarter turns, elements (N,)."""
        return _whole(u[:, 0], self.order)

    def _turned_cells(self, maps: Tensor) -> Tensor:
        """For each element, which cell of a map comes to lie at each cell: (4, H*W)."""
        height, width = maps.shape[-2:]
        if height != width:
            raise ValueError(f"image: a quarter turn needs a square, got {height} x {width}")
        cells = torch.arange(height * width, device=maps.device).view(height, width)
        return torch.stack([torch.rot90(cells, r).flatten() for r in range(self.order)])


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
        if geometry != scale(scales):
            raise ValueError(f"scales: {scales} are not those of the geometry given")
        super().__init__(geometry)
        self.scales = scales

    def lifted_neighbour(self, element: int, step: int) -> int | None:
        return element + step if element + step < self.order else None

    def transform_input(self, g: Tensor, x: Tensor) -> Tensor:
        return shrink(x, self._factors(g, x))

    def transform_features(self, g: Tensor, z: Tensor) -> Tensor:
        """Moves the scales down by g and shrinks the maps with the image: Gamma_g[z](h) = shrunk z(h + g)."""
        source = self._source(g, z)  # (N, G)
        moved = z.gather(2, source.clamp_max(self.order - 1)[:, None, :, None, None].expand_as(z))
        shrunk = shrink(moved.flatten(1, 2), self._factors(g, z)).view(z.shape)
        return shrunk.where(self.known_features(g, z), 0.0)

    def known_features(self, g: Tensor, z: Tensor) -> Tensor:
        inside = self._source(g, z) < self.order
        return inside[:, None, :, None, None].expand(-1, 1, -1, *z.shape[3:])

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        return self.shift(g, h)

    def inverse(self, g: Tensor) -> Tensor:
        return _identity_only(self.checked(g))

    def shift(self, g0: Tensor, g: Tensor) -> Tensor:
        return _inside(self.checked(g0) + self.checked(g), self.order, "scale")

    def fibers(self, z: Tensor) -> Tensor:
        return spatial_mean(z)

    def base(self, g0: Tensor, base_size: int) -> Tensor:
        run = torch.arange(self.geometry.base_side(base_size))
        return _inside(self.checked(g0)[:, None] + run, self.order, "scale")

    def origins(self, base_size: int) -> Tensor:
        return torch.arange(self.order - self.geometry.base_side(base_size) + 1)

    def augmentation(self, u: Tensor) -> Tensor:
        """A factor uniform from smallest to largest scale's ratio (1 / 1.75, the paper's 0.57) to 1, (N, 1)."""
        smallest = self.scales[0] / self.scales[-1]
        return smallest + (1 - smallest) * u[:, :1]

    def _source(self, g: Tensor, z: Tensor) -> Tensor:
        return torch.arange(self.order, device=z.device) + self.checked(g).to(z.device)[:, None]

    def _factors(self, g: Tensor, x: Tensor) -> Tensor:
        """Shrinking factors (N,) in the type of x."""
        if not g.is_floating_point():
            return (self.scales[0] / torch.tensor(self.scales, dtype=torch.float64)[self.checked(g)]).to(x)
        if g.shape[1:] != (1,) or not bool(((g > 0) & (g <= 1)).all()):
            raise ValueError(f"scale: parameters must be (N, 1) factors in (0, 1], got shape {tuple(g.shape)}")
        return g[:, 0].to(x)


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

    @property
    def lifted_order(self) -> int:
        return 1

    def lifted_neighbour(self, element: int, step: int) -> int | None:
        return element if step == 0 else None

    def transform_input(self, g: Tensor, x: Tensor) -> Tensor:
        if not g.is_floating_point():
            return gather_cells(x, *moved_cells(-self._offsets(g) * self.stride, x))
        if g.shape[1:] != (2,):
            raise ValueError(
                f"translation: parameters must be (N, 2) pixels down and right, got shape {tuple(g.shape)}"
            )
        return gather_cells(x, *moved_cells(g.round().long(), x))

    def transform_features(self, g: Tensor, z: Tensor) -> Tensor:
        return gather_cells(z, *moved_cells(-self._offsets(g) * self.cells, z))

    def known_features(self, g: Tensor, z: Tensor) -> Tensor:
        return moved_cells(-self._offsets(g) * self.cells, z)[1][:, None, None]

    def on_finer_grid(self, factor: int) -> Group:
        return Translation(self.geometry, image_size=self.image_size, stride=self.stride, cells=self.cells * factor)

    def compose(self, g: Tensor, h: Tensor) -> Tensor:
        return self.shift(g, h)

    def inverse(self, g: Tensor) -> Tensor:
        return _identity_only(self.checked(g))

    def shift(self, g0: Tensor, g: Tensor) -> Tensor:
        return self._element(self._offsets(g0) + self._offsets(g))

    def fibers(self, z: Tensor) -> Tensor:
        if z.shape[2] != 1 or z.shape[3:] != (self.geometry.side,) * 2:
            raise ValueError(
                f"features: must be (N, C, 1, {self.geometry.side}, {self.geometry.side}), got {tuple(z.shape)}"
            )
        return z.flatten(2).transpose(1, 2)

    def base(self, g0: Tensor, base_size: int) -> Tensor:
        run = torch.arange(self.geometry.base_side(base_size))
        patch = torch.cartesian_prod(run, run).view(-1, 2)  # (B, 2) in reading order
        return self._element(self._offsets(g0)[:, None] + patch)

    def origins(self, base_size: int) -> Tensor:
        run = torch.arange(self.geometry.side - self.geometry.base_side(base_size) + 1)
        return self._element(torch.cartesian_prod(run, run).view(-1, 2))

    def augmentation(self, u: Tensor) -> Tensor:
        """Whole pixels down and right, each uniform up to 20 % of the unpadded side either way, (N, 2)."""
        reach = int(MAX_SHIFT * self.image_size)
        return (_whole(u[:, :2], 2 * reach + 1) - reach).to(torch.float64)

    def _offsets(self, g: Tensor) -> Tensor:
        """Elements (...) to rows and columns (..., 2)."""
        g = self.checked(g)
        return torch.stack([g // self.geometry.side, g % self.geometry.side], dim=-1)

    def _element(self, offsets: Tensor) -> Tensor:
        offsets = _inside(offsets, self.geometry.side, "translation")
        return offsets[..., 0] * self.geometry.side + offsets[..., 1]


def build_group(name: GroupName, geometry: Geometry, *, image_size: int, stride: int) -> Group:
    """The group of a study file on one network.

    Args:
        image_size: pixels a side before padding.
        stride: pixels to a cell of the last feature map.

    Raises:
        ValueError: the geometry is another group's.
    """
    if geometry.name != name:
        raise ValueError(f"group: {name} was given the geometry of {geometry.name}")
    match name:
        case "rotation":
            return Rotation(geometry)
        case "scale":
            return Scale(geometry)
        case "translation":
            return Translation(geometry, image_size=image_size, stride=stride)


def distance_matrix(geometry: Geometry) -> Tensor:
    """`Geometry.distance` between all pairs of elements, float64 (order, order)."""
    points = torch.tensor(geometry.points, dtype=torch.float64)
    apart = (points[:, None] - points[None, :]).abs()
    if geometry.period is not None:
        apart = torch.minimum(apart, geometry.period - apart)
    return apart.square().sum(-1).sqrt()


def _whole(u: Tensor, count: int) -> Tensor:
    """Uniforms to integers below count."""
    return (u * count).long().clamp_max(count - 1)


def _inside(places: Tensor, size: int, name: str) -> Tensor:
    if places.numel() and int(places.max()) >= size:
        raise ValueError(f"{name}: place {int(places.max())} is outside the window of {size} (there is no padding)")
    return places


def _identity_only(g: Tensor) -> Tensor:
    if bool(g.any()):
        raise ValueError(f"inverse: only element 0 has its inverse in the window, got {int(g.max())}")
    return g
