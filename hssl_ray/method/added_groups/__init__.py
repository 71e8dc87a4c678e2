"""Groups of your own: `flip.py` in this folder is `group: flip` in a study. docs/extending.md shows one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from hssl_ray.added import added_names, declared

if TYPE_CHECKING:
    from hssl_ray.method.geometry import DistanceMetric, Geometry
    from hssl_ray.method.group import Group


@dataclass(frozen=True)
class AddedGroup:
    """What a file of this folder sets GROUP to."""

    geometry: Callable[[int, DistanceMetric | None], Geometry]
    """From the cells a side of the last feature map, and the metric asked for, if any."""
    build: Callable[[Geometry, int, int], Group]
    """From the geometry, the image's pixels a side before padding, and pixels to a cell of the last feature map."""
    metrics: tuple[DistanceMetric, ...] = ("geodesic",)
    """The distances that can be asked for, its own first."""
    largest_effective_size: int | None = None
    """As `geometry.largest_effective_size`."""


def group_names(taken: tuple[str, ...]) -> tuple[str, ...]:
    """The groups of this folder."""
    return added_names(__path__, taken)


@cache
def added_group(name: str) -> AddedGroup:
    """The declaration of one of `group_names`; imports its file, and with it torch."""
    return declared(__name__, name, "GROUP", AddedGroup)
