"""The geometry of a group's elements, in plain numbers: how many there are, how far apart, which bases fit.

Kept apart from `groups` (the same groups as torch operations) so that `hssl-ray plan` can check a study without torch.
A group is what the network lifts to (turns, scales), or the feature grid's translations, or both at once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from hssl_ray.method.added_groups import added_group, group_names
from hssl_ray.method.parts import Circle, Grid, GridMetric, Lifted, Mirrored, Window

DistanceMetric = Literal["geodesic", "log_ratio", "index", "euclidean", "chebyshev", "torus"]

_GRID: tuple[DistanceMetric, ...] = ("euclidean", "chebyshev", "torus")
METRICS: Mapping[str, tuple[DistanceMetric, ...]] = {
    "translation": _GRID,
    "rotation": ("geodesic",),
    "scale": ("log_ratio", "index"),
    "rotation8": ("geodesic",),
    "dihedral": ("geodesic",),
    "rotation_translation": _GRID,
    "scale_translation": _GRID,
}
"""The distances that can be asked for on each group, its own first; a product's is the one on its grid."""

if TYPE_CHECKING:
    GroupName = str
else:
    GroupName = Literal[(*METRICS, *group_names(tuple(METRICS)))]

PAPER_SCALES = (1.0, 1.25, 1.33, 1.5, 1.66, 1.75)  # §4.4; not geometric, so shifts along them are not one ratio
ROTATION_ORDER = 4
TOLERANCE = 1e-9
"""Distances this close are equal, so that a bound of 1.4142135624 holds the diagonal of a cell."""

_MOST_NAMED = 8  # distances in one message


@dataclass(frozen=True)
class Geometry:
    """Elements 0 .. order-1 of a group, with a distance: lifted elements, cells of the grid, or pairs of both.

    A pair is numbered lifted element x cells + cell, and its distance is the Euclidean combination of its parts'. A
    base space |g0| is a contiguous run of lifted elements (in a product: at one cell), or a square patch of cells
    where the grid alone is the group. It stays inside the group: it wraps on turns and never pads where the group is
    a finite window.
    """

    name: GroupName
    lifted: Lifted | None
    grid: Grid | None

    @property
    def order(self) -> int:
        """|G|: turns, scales, cells of the feature grid, or pairs of them."""
        return self.lifted_order * self.cells

    @property
    def lifted_order(self) -> int:
        """G of a feature map (N, C, G, H, W)."""
        return 1 if self.lifted is None else self.lifted.order

    @property
    def cells(self) -> int:
        """Cells of the grid that are elements; 1 where space is averaged away."""
        return 1 if self.grid is None else self.grid.order

    @property
    def side(self) -> int:
        """Cells along one side of the grid; 1 where space is averaged away."""
        return 1 if self.grid is None else self.grid.side

    @property
    def scales(self) -> tuple[float, ...]:
        """Of the lifted axis, ascending; one where it has no scales."""
        return self.lifted.scales if isinstance(self.lifted, Window) else (1.0,)

    @property
    def cyclic(self) -> bool:
        """Whether the lifted axis has no ends, so that a base may lie anywhere on it."""
        return isinstance(self.lifted, Circle | Mirrored)

    @property
    def whole(self) -> bool:
        """Whether this is a group with every product and inverse, and no window of one."""
        return self.cyclic and self.grid is None

    @property
    def quarter_turns(self) -> bool:
        """Whether the group holds quarter turns, which commute with strided layers on exact grids only."""
        return isinstance(self.lifted, Circle | Mirrored)

    def distance(self, g: int, h: int) -> float:
        """Topographic distance; the parts say in which units."""
        lifted = 0.0 if self.lifted is None else self.lifted.distance(g // self.cells, h // self.cells)
        grid = 0.0 if self.grid is None else self.grid.distance(g % self.cells, h % self.cells)
        return math.hypot(lifted, grid)

    def distances(self, base_size: int = 1) -> tuple[float, ...]:
        """All distances between two elements at which a base fits, ascending, each once."""
        return _distances(self, base_size)

    @property
    def diameter(self) -> float:
        """Largest distance between two elements; windows reach it between their ends."""
        return self.distances()[-1]

    def base_side(self, base_size: int) -> int:
        """Elements along one side of a base of `base_size` elements.

        Raises:
            ValueError: the base leaves no room to move, or is not a square patch on the grid.
        """
        if self.lifted is not None and self.grid is not None:
            if not 1 <= base_size <= min(self.lifted_order, self.order - 1):
                raise ValueError(f"must be from 1 to the {self.lifted_order} lifted elements of a cell ({self.name})")
            return base_size
        if not 1 <= base_size <= self.order - 1:
            raise ValueError(f"must be from 1 to |G| - 1 = {self.order - 1} (group {self.name})")
        if self.grid is None:
            return base_size
        side = math.isqrt(base_size)
        if side * side != base_size or side >= self.side:
            squares = ", ".join(str(k * k) for k in range(1, self.side))
            raise ValueError(f"must be a square patch of the {self.side} x {self.side} feature grid: {squares}")
        return side

    def check_shell(self, base_size: int, min_distance: float | None, max_distance: float | None) -> None:
        """Whether there are pairs of elements from `min_distance` to `max_distance` apart at which a base fits.

        Raises:
            ValueError: there are none; the message names distances that there are.
        """
        low, high = min_distance or 0.0, math.inf if max_distance is None else max_distance
        there = self.distances(base_size)
        if any(low - TOLERANCE <= d <= high + TOLERANCE for d in there):
            return
        nearest = sorted(sorted(there, key=lambda d: max(low - d, d - high))[:_MOST_NAMED])
        which = "distances are" if len(nearest) == len(there) else "nearest distances are"
        bounds = f"at least {low:g}" if max_distance is None else f"from {low:g} to {high:g}"
        named = ", ".join(str(round(d, 10)).removesuffix(".0") for d in nearest)  # to be read back within TOLERANCE
        raise ValueError(f"no two elements of {self.name} are {bounds} apart; the {which} {named}")


@lru_cache(maxsize=256)
def _distances(geometry: Geometry, base_size: int) -> tuple[float, ...]:
    side = geometry.base_side(base_size)
    lifted = {0.0} if geometry.lifted is None else geometry.lifted.distances(side)
    cells_side = side if geometry.lifted is None else 1
    grid = {0.0} if geometry.grid is None else geometry.grid.distances(cells_side)
    return _distinct(math.hypot(a, b) for a, b in itertools.product(lifted, grid))


def _distinct(distances: Iterable[float]) -> tuple[float, ...]:
    """Ascending, what is equal to TOLERANCE taken once."""
    found: list[float] = []
    for distance in sorted(distances):
        if not found or distance - found[-1] > TOLERANCE:
            found.append(distance)
    return tuple(found)


def rotation(order: int = ROTATION_ORDER) -> Geometry:
    """C4 or C8, cyclic; distance in steps along the circle, a quarter or an eighth turn each.

    Raises:
        ValueError: another order.
    """
    match order:
        case 4:
            return Geometry("rotation", Circle(4), None)
        case 8:
            return Geometry("rotation8", Circle(8), None)
    raise ValueError(f"order: must be 4 or 8 turns, got {order}")


def dihedral() -> Geometry:
    """D4: quarter turns, then reflected quarter turns; distance in quarter turns, plus one for a reflection."""
    return Geometry("dihedral", Mirrored(ROTATION_ORDER), None)


def scale(scales: Sequence[float] = PAPER_SCALES, metric: Literal["log_ratio", "index"] = "log_ratio") -> Geometry:
    """A finite window of scales without wrap; distance |log s - log t| or index steps."""
    return Geometry("scale", Window(tuple(scales), metric), None)


def translation(feature_size: int, metric: GridMetric = "euclidean") -> Geometry:
    """Offsets on a feature grid of `feature_size` squared cells; distance in cells."""
    return Geometry("translation", None, Grid(feature_size, metric))


def rotation_translation(feature_size: int, metric: GridMetric = "euclidean") -> Geometry:
    """Quarter turns and cells at once; distance sqrt(quarter turns**2 + cells**2)."""
    return Geometry("rotation_translation", Circle(ROTATION_ORDER), Grid(feature_size, metric))


def scale_translation(
    feature_size: int, metric: GridMetric = "euclidean", scales: Sequence[float] = PAPER_SCALES
) -> Geometry:
    """Scales and cells at once; distance sqrt((log s - log t)**2 + cells**2)."""
    return Geometry("scale_translation", Window(tuple(scales)), Grid(feature_size, metric))


@lru_cache(maxsize=256)
def geometry(name: GroupName, feature_size: int, metric: DistanceMetric | None = None) -> Geometry:
    """The group named in a study file, on a network whose last feature map has `feature_size` cells a side.

    Args:
        metric: one of `metrics(name)`; None for the group's own.
    """
    assert metric is None or metric in metrics(name), (name, metric)
    grid: GridMetric = metric if metric in ("euclidean", "chebyshev", "torus") else "euclidean"
    match name:
        case "rotation":
            return rotation()
        case "rotation8":
            return rotation(8)
        case "dihedral":
            return dihedral()
        case "scale":
            return scale(metric="index" if metric == "index" else "log_ratio")
        case "translation":
            return translation(feature_size, grid)
        case "rotation_translation":
            return rotation_translation(feature_size, grid)
        case "scale_translation":
            return scale_translation(feature_size, grid)
        case _:
            return added_group(name).geometry(feature_size, metric)


def metrics(name: GroupName) -> tuple[DistanceMetric, ...]:
    """The distances that can be asked for on a group, its own first."""
    return METRICS[name] if name in METRICS else added_group(name).metrics


def largest_effective_size(name: GroupName) -> int | None:
    """Basis functions along one side up to which a grid can hold the group's turns; None where it can hold all.

    An eighth turn of Hermite-Gaussians of orders 7 and more, at the paper's scale, falls between the cells: with
    effective size 11 a lifting layer is as far from C8's next element as from the right one, with 7 it is near.
    """
    if name not in METRICS:
        return added_group(name).largest_effective_size
    return 7 if name == "rotation8" else None


def lifted_order(name: GroupName) -> int:
    """G of a feature map (N, C, G, H, W): scales or turns; 1 where the grid alone is the group."""
    return geometry(name, 1).lifted_order
