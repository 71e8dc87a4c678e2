"""The geometry of a group's elements, in plain numbers: how many there are, how far apart, which bases fit.

Kept apart from `groups` (the same groups as torch operations) so that `hssl-ray plan` can check a study without torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

GroupName = Literal["translation", "rotation", "scale"]

PAPER_SCALES = (1.0, 1.25, 1.33, 1.5, 1.66, 1.75)  # §4.4; not geometric, so shifts along them are not one ratio
ROTATION_ORDER = 4


@dataclass(frozen=True)
class Geometry:
    """Elements 0 .. order-1 of a group, as points with a distance.

    A base space |g0| is a contiguous run of elements (a square patch for translation) that stays inside the group:
    it wraps where the group is cyclic and never pads where it is a finite window.
    """

    name: GroupName
    points: tuple[tuple[float, ...], ...]  # coordinates in which distance is measured
    period: float | None = None  # of the one coordinate of a cyclic group

    @property
    def order(self) -> int:
        """|G|: quarter turns, scales, or cells of the feature grid."""
        return len(self.points)

    @property
    def cyclic(self) -> bool:
        return self.period is not None

    def distance(self, g: int, h: int) -> float:
        """Topographic distance: quarter turns (geodesic), |log s_g - log s_h|, or Euclidean feature cells."""
        if self.period is not None:
            apart = abs(self.points[g][0] - self.points[h][0]) % self.period
            return min(apart, self.period - apart)
        return math.dist(self.points[g], self.points[h])

    @cached_property
    def diameter(self) -> float:
        """Largest distance between two elements; windows reach it between their ends."""
        return max(self.distance(0, h) for h in range(self.order))

    @property
    def side(self) -> int:
        """Cells along one side of the translation grid."""
        return math.isqrt(self.order)

    def base_side(self, base_size: int) -> int:
        """Elements along one side of a base of `base_size` elements.

        Raises:
            ValueError: the base leaves no room to move, or is not a square patch on the grid.
        """
        if not 1 <= base_size <= self.order - 1:
            raise ValueError(f"must be from 1 to |G| - 1 = {self.order - 1} (group {self.name})")
        if self.name != "translation":
            return base_size
        side = math.isqrt(base_size)
        if side * side != base_size or side >= self.side:
            squares = ", ".join(str(k * k) for k in range(1, self.side))
            raise ValueError(f"must be a square patch of the {self.side} x {self.side} feature grid: {squares}")
        return side


def rotation() -> Geometry:
    """C4, cyclic; distance in quarter turns along the circle."""
    return Geometry("rotation", tuple((float(r),) for r in range(ROTATION_ORDER)), period=float(ROTATION_ORDER))


def scale(scales: Sequence[float] = PAPER_SCALES) -> Geometry:
    """A finite window of scales without wrap; distance |log s - log t|."""
    return Geometry("scale", tuple((math.log(s / scales[0]),) for s in scales))


def translation(feature_size: int) -> Geometry:
    """Offsets on a feature grid of `feature_size` squared cells; Euclidean distance in cells."""
    return Geometry(
        "translation", tuple((float(r), float(c)) for r in range(feature_size) for c in range(feature_size))
    )


def geometry(name: GroupName, feature_size: int) -> Geometry:
    """The group named in a study file, on a network whose last feature map has `feature_size` cells a side."""
    match name:
        case "rotation":
            return rotation()
        case "scale":
            return scale()
        case "translation":
            return translation(feature_size)


def lifted_order(name: GroupName) -> int:
    """G of a feature map (N, C, G, H, W): S scales or R rotations; 1 where the grid itself is the group."""
    return 1 if name == "translation" else geometry(name, 1).order
