"""The groups, by the names a study gives them."""

from __future__ import annotations

from hssl_ray.method.added_groups import added_group
from hssl_ray.method.geometry import Geometry, GroupName
from hssl_ray.method.group import Group, distance_matrix
from hssl_ray.method.products import RotationTranslation, ScaleTranslation
from hssl_ray.method.rotations import Dihedral, Rotation
from hssl_ray.method.scales import Scale
from hssl_ray.method.translations import Translation

__all__ = [
    "Dihedral",
    "Group",
    "Rotation",
    "RotationTranslation",
    "Scale",
    "ScaleTranslation",
    "Translation",
    "build_group",
    "distance_matrix",
]


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
        case "rotation" | "rotation8":
            return Rotation(geometry)
        case "dihedral":
            return Dihedral(geometry)
        case "scale":
            return Scale(geometry, geometry.scales)
        case "translation":
            return Translation(geometry, image_size=image_size, stride=stride)
        case "rotation_translation":
            return RotationTranslation(geometry, image_size=image_size, stride=stride)
        case "scale_translation":
            return ScaleTranslation(geometry, image_size=image_size, stride=stride)
        case _:
            return added_group(name).build(geometry, image_size, stride)
