"""What a group must do with tensors: T_g on images, Gamma_g on features, fibers and bundles (Eq. 1, §2.1).

N images, C channels, G lifted elements, H x W cells, B fibers in a bundle. Elements are int64 indices 0 .. order-1, and
their tensors live on the CPU whatever device the images are on: there, checking them waits for nothing.

A group is whole (turns, with or without reflections) or a finite window without wrap (scales, translations, products
with either). g^-1 . g0 is the place where f(T_g[x]) at g0 is found in f(x): the inverse's product with g0 in a whole
group, g0 + g in a window, where leaving the window is an error.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property

import torch
from torch import Tensor

from hssl_ray.method.geometry import Circle, Geometry, Grid, Mirrored, Window


class Group(ABC):
    """A finite group, or a window of one, acting on images and on the features of an equivariant network."""

    scales: tuple[float, ...] = (1.0,)  # at which the network's basis is sampled, ascending
    angles: tuple[float, ...] = (0.0,)  # likewise, counter-clockwise in radians

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry

    @property
    def order(self) -> int:
        """|G|: number of elements."""
        return self.geometry.order

    @property
    def lifted_order(self) -> int:
        """G of a feature map (N, C, G, H, W)."""
        return self.geometry.lifted_order

    # the network's side

    @abstractmethod
    def lift_basis(self, basis: Tensor) -> Tensor:
        """Basis functions (F, angles * scales, k, k), all scales of the first angle first, to those of each lifted
        element, (F, G, k, k).
        """

    @abstractmethod
    def lifted_neighbour(self, element: int, step: int) -> int | None:
        """The lifted element that a filter at `element` meets at its place `step`, g . step; None beyond a window's
        end.
        """

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
        """The element g . h, which acts as h and then g, by broadcasting.

        Raises:
            ValueError: the product lies outside the window.
        """

    @abstractmethod
    def inverse(self, g: Tensor) -> Tensor:
        """The element g^-1.

        Raises:
            ValueError: it lies outside the window, as all but the identity's do among scales and translations.
        """

    @abstractmethod
    def shift(self, g0: Tensor, g: Tensor) -> Tensor:
        """The element g^-1 . g0, by broadcasting.

        Raises:
            ValueError: it would leave the window ("no padding", §4.3).
        """

    @cached_property
    def distances(self) -> Tensor:
        """`Geometry.distance` between all pairs of elements, float64 (order, order)."""
        return distance_matrix(self.geometry)

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

        Where space is no part of the group it is averaged away first, as in the paper (§4.4), in at least float32.
        """

    @abstractmethod
    def base(self, g0: Tensor, base_size: int) -> Tensor:
        """The ordered base space at g0, its contiguous elements: (N,) -> (N, B).

        It moves with g0: the base at g^-1 . g0 is g^-1 of the base at g0, element by element.

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
        """The paper's A-SSL transformations from uniforms (N, 3): what `transform_input` takes, (N,) or (N, k)."""


def distance_matrix(geometry: Geometry) -> Tensor:
    """`Geometry.distance` between all pairs of elements, float64 (order, order)."""
    match geometry.lifted, geometry.grid:
        case None, Grid() as grid:
            return _between_cells(grid)
        case (Circle() | Mirrored() | Window()) as lifted, None:
            return _between_lifted(lifted)
        case (Circle() | Mirrored() | Window()) as lifted, Grid() as grid:
            squares = _between_lifted(lifted).square()[:, None, :, None] + _between_cells(grid).square()[:, None]
            return squares.sqrt().reshape(geometry.order, geometry.order)
    raise AssertionError(geometry)


def _between_lifted(part: Circle | Mirrored | Window) -> Tensor:
    elements = range(part.order)
    return torch.tensor([[part.distance(g, h) for h in elements] for g in elements], dtype=torch.float64)


def _between_cells(grid: Grid) -> Tensor:
    """From a table over how many rows and columns lie between, which is all that the distance depends on."""
    along = torch.arange(grid.side)
    table = torch.tensor([[grid.apart(r, c) for c in along.tolist()] for r in along.tolist()], dtype=torch.float64)
    apart = (along[:, None] - along).abs()
    return table[apart[:, None, :, None], apart[None, :, None, :]].reshape(grid.order, grid.order)


def whole_numbers(u: Tensor, count: int) -> Tensor:
    """Uniforms to integers below count."""
    return (u * count).long().clamp_max(count - 1)


def inside(places: Tensor, size: int, name: str) -> Tensor:
    """places themselves, if all are from 0 to size - 1.

    Raises:
        ValueError: one is not.
    """
    if places.numel() and not 0 <= int(places.min()) <= int(places.max()) < size:
        place = int(places.max() if places.max() >= size else places.min())
        raise ValueError(f"{name}: place {place} is outside the window of {size} (there is no padding)")
    return places


def identity_only(g: Tensor) -> Tensor:
    """g itself, which is its own inverse if all of it is the identity.

    Raises:
        ValueError: it is not.
    """
    if bool(g.any()):
        raise ValueError(f"inverse: only element 0 has its inverse in the window, got {int(g.max())}")
    return g
