"""The pairs that the three methods contrast: from two transformed images, or from inside one representation.

N images, C channels, G lifted elements, H x W cells, B = base_size fibers. f maps images to features (N, C, G, H, W).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hssl_ray.method.draws import Draw
from hssl_ray.method.groups import Group, Translation

Backbone = Callable[[Tensor], Tensor]
Views = tuple[Tensor, Tensor]


def a_ssl_views(f: Backbone, x: Tensor, group: Group, draw: Draw, base_size: int = 1) -> Views:
    """Eq. 5:  V1 = f(T_g1[x])(g0),  V2 = f(T_g2[x])(g0).  Two forward passes; each view is (N, C*B)."""
    return (
        base_view(f(group.transform_input(draw.g1, x)), group, draw, base_size),
        base_view(f(group.transform_input(draw.g2, x)), group, draw, base_size),
    )


def h_ssl_views(f: Backbone, x: Tensor, group: Group, draw: Draw, base_size: int = 1) -> Views:
    """Eq. 7 with z = f(x), one forward pass; each view is (N, C*B)."""
    return views_from_features(f(x), group, draw, base_size)


def f_ssl_views(f: Backbone, x: Tensor, group: Group, draw: Draw, base_size: int = 1) -> Views:
    """Eq. 6: Eq. 7 on the translations of the feature grid.

    Raises:
        ValueError: the group is another one.
    """
    if not isinstance(group, Translation):
        raise ValueError(
            f"group: f_ssl contrasts patches of the grid, so it must be translation, got {group.geometry.name}"
        )
    return h_ssl_views(f, x, group, draw, base_size)


def views_from_features(z: Tensor, group: Group, draw: Draw, base_size: int = 1) -> Views:
    """Eq. 7 on features at hand:  V1 = z(g1^-1 . g0),  V2 = z(g2^-1 . g0)."""
    fibers = group.fibers(z)
    return group.read(fibers, draw.g0, draw.g1, base_size), group.read(fibers, draw.g0, draw.g2, base_size)


def base_view(z: Tensor, group: Group, draw: Draw, base_size: int = 1) -> Tensor:
    """One branch of Eq. 5 on features of a transformed image: the bundle z(g0), (N, C*B)."""
    return group.bundle(z, draw.g0, torch.zeros_like(draw.g0), base_size)
