"""Counter-based randomness: every number is a pure function of (seed, epoch, stream, image, column).

So a draw depends neither on the number of workers, nor on how the batch was split, nor on a restart.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hssl_ray.method.geometry import Geometry
from hssl_ray.method.groups import Group, distance_matrix

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: the step of splitmix64
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)

DRAW_COLUMNS = 5  # most uniforms one image's draw uses: g0, and two coordinates each for g1 and g2


class Stream(IntEnum):
    """What a random number is for; different streams are independent."""

    ORDER = 0
    PAIRS = 1
    DIAGNOSTICS = 2


@dataclass(frozen=True)
class Draw:
    """One base location and two transformations for each image.

    `g0` holds elements, int64 (N,). `g1` and `g2` hold elements, int64 (N,), or parameters of the continuous group
    that the finite one samples, float (N, k); see `Group.transform_input`. They live on the CPU, where checking them
    costs no wait.
    """

    g0: Tensor
    g1: Tensor
    g2: Tensor


def uniforms(seed: int, epoch: int, stream: int, indices: Tensor, count: int) -> Tensor:
    """`count` numbers in [0, 1) for each image index, float64 (N, count)."""
    bits = _bits(seed, epoch, stream, indices.cpu().numpy().astype(np.uint64), count)
    return torch.from_numpy((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def permutation(seed: int, epoch: int, n: int) -> Tensor:
    """The order in which an epoch visits n images, int64 (n,)."""
    keys = _bits(seed, epoch, Stream.ORDER, np.arange(n, dtype=np.uint64), 1)[:, 0]
    return torch.from_numpy(np.argsort(keys, kind="stable"))


def pair_draw(group: Group, u: Tensor, base_size: int = 1, max_distance: float | None = None) -> Draw:
    """Group elements for H-SSL, and for A-SSL on matched augmentations (§4.3, App. A).

    g1 is uniform over the elements where a base fits; g2 is uniform over those of them within `max_distance` of g1. A
    cyclic group's base location g0 is uniform; a window's is 0, the one place from which every shift stays inside.

    Args:
        u: uniforms (N, 3) or wider.
        max_distance: largest topographic distance in the units of `Geometry.distance`; None for no bound.

    Raises:
        ValueError: the base does not fit the group, or the bound is negative.
    """
    if max_distance is not None and max_distance < 0:
        raise ValueError(f"max_distance: must be at least 0, got {max_distance:g}")
    origins, partners, counts = _partners(group.geometry, group.origins(base_size), max_distance)
    first = _choose(u[:, 1], torch.tensor(len(origins)))
    second = _choose(u[:, 2], counts[first])
    g0 = _choose(u[:, 0], torch.tensor(group.order)) if group.geometry.cyclic else torch.zeros_like(first)
    return Draw(g0, origins[first], partners[first, second])


def augmentation_draw(group: Group, u: Tensor, base_size: int = 1) -> Draw:
    """The paper's A-SSL (§4.1, App. A): g0 uniform over the places where a base fits, one for both branches; g1 and
    g2 independent draws from `Group.augmentation`.

    Args:
        u: uniforms (N, DRAW_COLUMNS) or wider.

    Raises:
        ValueError: the base does not fit the group.
    """
    origins = group.origins(base_size)
    g0 = origins[_choose(u[:, 0], torch.tensor(len(origins)))]
    return Draw(g0, group.augmentation(u[:, 1:3]), group.augmentation(u[:, 3:5]))


def _choose(u: Tensor, count: Tensor) -> Tensor:
    """Uniforms to integers below count."""
    return torch.minimum((u * count).long(), count - 1)


@lru_cache(maxsize=64)
def _partner_table(geometry: Geometry, origins: tuple[int, ...], max_distance: float | None) -> tuple[Tensor, Tensor]:
    index = torch.tensor(origins)
    distances = distance_matrix(geometry)[index][:, index]
    within = torch.ones_like(distances, dtype=torch.bool) if max_distance is None else distances <= max_distance + 1e-9
    order = torch.argsort(
        within.logical_not().to(torch.uint8), dim=1, stable=True
    )  # partners first, in order of element
    return index[order], within.sum(1)


def _partners(geometry: Geometry, origins: Tensor, max_distance: float | None) -> tuple[Tensor, Tensor, Tensor]:
    """Origins (P,), the elements each may be paired with (P, P), padded, and how many they are (P,)."""
    return origins, *_partner_table(geometry, tuple(origins.tolist()), max_distance)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of splitmix64 (Steele et al. 2014), a bijection of 64 bits."""
    x = (x ^ (x >> np.uint64(30))) * _MIX1
    x = (x ^ (x >> np.uint64(27))) * _MIX2
    return x ^ (x >> np.uint64(31))


def _bits(seed: int, epoch: int, stream: int, indices: NDArray[np.uint64], count: int) -> NDArray[np.uint64]:
    """64 random bits for each index and column, (N, count): one splitmix64 step for each coordinate in turn."""
    key = np.zeros(1, dtype=np.uint64)  # an array, because numpy warns of wrap-around in scalars alone
    for part in (seed, epoch, stream):
        key = _mix((key ^ np.uint64(part)) + _GOLDEN)
    row = _mix((key ^ indices) + _GOLDEN)
    columns = np.arange(count, dtype=np.uint64)
    return _mix(_mix((row[:, None] ^ columns) + _GOLDEN) + _GOLDEN)
