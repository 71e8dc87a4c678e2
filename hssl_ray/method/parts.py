"""What groups are made of: turns, reflected turns, scales, and the cells of a feature map, each with its distance.

Plain numbers, like `geometry`, which puts groups together from them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

GridMetric = Literal["euclidean", "chebyshev", "torus"]


@dataclass(frozen=True)
class Circle:
    """C_n, the turns by multiples of 1/n of a circle; distance in such steps, the shorter way round."""

    order: int

    def distance(self, g: int, h: int) -> float:
        return float(_around(g - h, self.order))

    def distances(self, base_size: int) -> set[float]:
        """Between any two places where a base fits; all are like the first."""
        return {self.distance(0, h) for h in range(self.order)}


@dataclass(frozen=True)
class Mirrored:
    """D_n: n turns, then the same after a reflection. Distance: turns the shorter way round, plus one for a reflection.

    This is the word metric of one turn and one reflection. It does not change when both elements are multiplied from
    the left.
    """

    turns: int

    @property
    def order(self) -> int:
        return 2 * self.turns

    def distance(self, g: int, h: int) -> float:
        return float(_around(g - h, self.turns) + (g // self.turns != h // self.turns))

    def distances(self, base_size: int) -> set[float]:
        return {self.distance(0, h) for h in range(self.order)}


@dataclass(frozen=True)
class Window:
    """A run of scales that ends. Distance |log s - log t|, or in index steps."""

    scales: tuple[float, ...]
    metric: Literal["log_ratio", "index"] = "log_ratio"

    @property
    def order(self) -> int:
        return len(self.scales)

    def distance(self, g: int, h: int) -> float:
        return float(abs(g - h)) if self.metric == "index" else abs(math.log(self.scales[g]) - math.log(self.scales[h]))

    def distances(self, base_size: int) -> set[float]:
        places = range(self.order - base_size + 1)
        return {self.distance(g, h) for g in places for h in places}


@dataclass(frozen=True)
class Grid:
    """Cells of a square feature map, in reading order.

    Distance in cells: Euclidean, the larger of rows and columns (chebyshev), or Euclidean the shorter way round a
    wrapped grid (torus).
    """

    side: int
    metric: GridMetric = "euclidean"

    @property
    def order(self) -> int:
        return self.side**2

    def apart(self, rows: int, columns: int) -> float:
        """Distance of two cells that are so many rows and columns apart."""
        match self.metric:
            case "euclidean":
                return math.hypot(rows, columns)
            case "chebyshev":
                return float(max(abs(rows), abs(columns)))
            case "torus":
                return math.hypot(_around(rows, self.side), _around(columns, self.side))

    def distance(self, g: int, h: int) -> float:
        return self.apart(g // self.side - h // self.side, g % self.side - h % self.side)

    def distances(self, base_side: int) -> set[float]:
        """Between any two places where a base of that side fits; the first place sees all of them."""
        free = range(self.side - base_side + 1)
        return {self.apart(rows, columns) for rows in free for columns in free}


Lifted = Circle | Mirrored | Window


def _around(steps: int, period: int) -> int:
    """Steps on a circle of `period`, the shorter way."""
    steps %= period
    return min(steps, period - steps)
