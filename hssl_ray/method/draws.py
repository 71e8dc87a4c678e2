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

from hssl_ray.method.geometry import TOLERANCE, Geometry
from hssl_ray.method.groups import Group, distance_matrix

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: the step of splitmix64
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)

DRAW_COLUMNS = 7  # most uniforms one image's draw uses: g0, and three coordinates each for g1 and g2


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


def pair_draw(
    group: Group,
    u: Tensor,
    base_size: int = 1,
    max_distance: float | None = None,
    min_distance: float | None = None,
) -> Draw:
    """Group elements for H-SSL, and for A-SSL on matched augmentations (§4.3, App. A).

    g1 is uniform over the elements where a base fits and that have a partner: another such element from
    `min_distance` to `max_distance` away. g2 is uniform over the partners of g1. The base location g0 is uniform along
    a lifted axis without ends; a window's is 0, the one place from which every shift stays inside.

    Args:
        u: uniforms (N, 3) or wider.
        max_distance: largest topographic distance in the units of `Geometry.distance`; None for no bound.
        min_distance: smallest topographic distance; None for no bound. Above 0, g1 and g2 always differ; equal to
            `max_distance`, the distance is exact.

    Raises:
        ValueError: the base does not fit the group, a bound is negative, or no element has a partner.
    """
    for name, bound in (("max_distance", max_distance), ("min_distance", min_distance)):
        if bound is not None and bound < 0:
            raise ValueError(f"{name}: must be at least 0, got {bound:g}")
    table = _pairs(group.geometry, tuple(group.origins(base_size).tolist()), base_size, min_distance, max_distance)
    first = _choose(u[:, 1], torch.tensor(len(table.elements)))
    second = _choose(u[:, 2], table.counts[first])
    turns = group.lifted_order if group.geometry.cyclic else 1
    g0 = _choose(u[:, 0], torch.tensor(turns)) * group.geometry.cells
    return Draw(g0, table.elements[first], table.partners[first, second])


def augmentation_draw(group: Group, u: Tensor, base_size: int = 1) -> Draw:
    """The paper's A-SSL (§4.1, App. A): g0 uniform over the places where a base fits, one for both branches; g1 and
    g2 independent draws from `Group.augmentation`.

    Args:
        u: uniforms (N, 5) or wider; (N, 7) for products, which take a third coordinate from the columns after.

    Raises:
        ValueError: the base does not fit the group.
    """
    origins = group.origins(base_size)
    g0 = origins[_choose(u[:, 0], torch.tensor(len(origins)))]
    first, second = (torch.cat([u[:, k : k + 2], u[:, third : third + 1]], dim=1) for k, third in ((1, 5), (3, 6)))
    return Draw(g0, group.augmentation(first), group.augmentation(second))


def _choose(u: Tensor, count: Tensor) -> Tensor:
    """Uniforms to integers below count."""
    return torch.minimum((u * count).long(), count - 1)


@dataclass(frozen=True)
class _Pairs:
    """Elements that have a partner (P,), the partners of each, padded (P, Q), and how many they are (P,)."""

    elements: Tensor
    partners: Tensor
    counts: Tensor


@lru_cache(maxsize=64)
def _pairs(
    geometry: Geometry, origins: tuple[int, ...], base_size: int, low: float | None, high: float | None
) -> _Pairs:
    geometry.check_shell(base_size, low, high)
    index = torch.tensor(origins)
    distances = distance_matrix(geometry)[index][:, index]
    within = torch.ones_like(distances, dtype=torch.bool)
    if low is not None:
        within &= distances >= low - TOLERANCE
    if high is not None:
        within &= distances <= high + TOLERANCE
    # partners first, in order of element
    order = torch.argsort(within.logical_not().to(torch.uint8), dim=1, stable=True)
    counts = within.sum(1)
    some = counts > 0
    return _Pairs(index[some], index[order[some]], counts[some])


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
