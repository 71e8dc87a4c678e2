"""Maps moved, turned and shrunk, each image by its own amount, as one operation on the batch.

N images, H x W cells; * stands for any axes between.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

TOLERANCE = 1e-9  # of a cell: a place this close to a cell is that cell


def moved_cells(shift: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """For shifts (N, 2): which cell comes to lie at each cell, (N, H*W), and whether it exists, (N, H, W)."""
    height, width = maps.shape[-2:]
    shift = shift.to(maps.device)
    rows = torch.arange(height, device=maps.device) - shift[:, :1]
    columns = torch.arange(width, device=maps.device) - shift[:, 1:]
    exists = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    cells = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :]
    return cells.flatten(1), exists


def gather_cells(maps: Tensor, cells: Tensor, exists: Tensor) -> Tensor:
    """Maps (N, ..., H, W) with cell cells[n, i] moved to i, zero where it does not exist."""
    flat = maps.flatten(1, -3).flatten(2)  # (N, *, H*W)
    moved = flat.gather(2, cells[:, None].expand_as(flat))
    return moved.where(exists.flatten(1)[:, None], 0.0).view(maps.shape)


def shrink(maps: Tensor, factors: Tensor) -> Tensor:
    """Maps (N, C, H, W) shrunk about their centre by factors (N,) in (0, 1], zero outside.

    Antialiased bilinear resampling: each target cell is a mean under a triangle of width 1 / factor source cells
    either way. It is separable, so a map is multiplied by one small matrix for each side; factor 1 is the identity,
    exactly.
    """
    with torch.autocast(maps.device.type, enabled=False):
        rows, columns = (_centred_weights(size, factors)[:, None] for size in maps.shape[-2:])
        return rows @ maps @ columns.mT


def shrink_onto_first(maps: Tensor, factors: Tensor, start: Tensor) -> Tensor:
    """Maps (N, C, H, W) moved so that place `start` (N, 2), in cells, comes to lie at the first cell, and shrunk about
    it by factors (N,) in (0, 1]; zero outside. Resampled as in `shrink`; factor 1 from a whole place is exact.
    """
    with torch.autocast(maps.device.type, enabled=False):
        weights = []
        for side, size in enumerate(maps.shape[-2:]):
            cells = torch.arange(size, device=factors.device, dtype=factors.dtype)
            source = start[:, side, None].to(factors) + cells / factors[:, None]
            weights.append(_triangle_weights(source, cells, factors)[:, None])
        return weights[0] @ maps @ weights[1].mT


def sample_from(maps: Tensor, steps: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Maps (N, C, H, W) read at places start + step x cell, linearly between cells, and whether each place lies on the
    map, (N, H, W). Nothing is averaged: what falls on a cell is that cell; outside is zero.

    Args:
        steps: float64 (N,).
        start: float64 (N, 2).
    """
    with torch.autocast(maps.device.type, enabled=False):
        weights, exists = [], []
        for side, size in enumerate(maps.shape[-2:]):
            cells = torch.arange(size, dtype=torch.float64)
            source = start[:, side, None] + cells * steps[:, None]  # (N, target)
            source = torch.where((source - source.round()).abs() < TOLERANCE, source.round(), source)
            weights.append((1 - (source[:, :, None] - cells).abs()).clamp_min(0)[:, None].to(maps))
            exists.append(((source >= 0) & (source <= size - 1)).to(maps.device))
        known = exists[0][:, :, None] & exists[1][:, None, :]
        return (weights[0] @ maps @ weights[1].mT).where(known[:, None], 0.0), known


def turn(maps: Tensor, angle: float) -> Tensor:
    """Square maps (N, C, H, W) turned about their centre by `angle` counter-clockwise in radians, zero outside.

    Keys's cubic convolution (1981) between cells, exact for quadratics; nothing is averaged, as a turn keeps the size
    of a cell.
    """
    size = maps.shape[-1]
    rows, columns = _turned_places(size, angle)
    flat, turned = maps.flatten(2), torch.zeros_like(maps).flatten(2)
    for row, row_weight in _cubic(rows.flatten()):
        for column, column_weight in _cubic(columns.flatten()):
            exists = (row >= 0) & (row < size) & (column >= 0) & (column < size)
            cells = (row * size + column).where(exists, 0).to(maps.device)
            weight = (row_weight * column_weight).where(exists, 0.0).to(maps)
            turned += flat[:, :, cells] * weight
    return turned.view(maps.shape)


def turned_inside(size: int, angle: float) -> Tensor:
    """Which cells of a map turned by `angle` come from inside it, bool (size, size)."""
    rows, columns = _turned_places(size, angle)
    low, high = -TOLERANCE, size - 1 + TOLERANCE
    return (rows >= low) & (rows <= high) & (columns >= low) & (columns <= high)


def _turned_places(size: int, angle: float) -> tuple[Tensor, Tensor]:
    """Rows and columns, in cells, from which each cell of a turned map comes, float64 (size, size) each."""
    axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    cos, sin = math.cos(angle), math.sin(angle)
    return cos * axis[:, None] + sin * axis + (size - 1) / 2, cos * axis - sin * axis[:, None] + (size - 1) / 2


def _cubic(places: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The four cells about each place and their weights."""
    first = places.floor()
    found = []
    for step in range(-1, 3):
        x = (places - first - step).abs()
        near = (1.5 * x - 2.5) * x**2 + 1
        far = ((-0.5 * x + 2.5) * x - 4) * x + 2
        found.append(((first + step).long(), near.where(x <= 1, far)))
    return found


def _centred_weights(size: int, factors: Tensor) -> Tensor:
    """Weights (N, target, source) of one side, shrunk about its centre."""
    cells = torch.arange(size, device=factors.device, dtype=factors.dtype) - (size - 1) / 2
    return _triangle_weights(cells / factors[:, None], cells, factors)


def _triangle_weights(source: Tensor, cells: Tensor, factors: Tensor) -> Tensor:
    """Weights (N, target, source) of cells at places `cells` for targets at places `source` (N, target)."""
    reach = math.ceil(1 / float(factors.min())) + 1
    around = torch.arange(-reach, reach + 1, device=factors.device, dtype=factors.dtype)
    fraction = source - cells[0]
    fraction = fraction - fraction.floor()
    width = factors[:, None, None]
    whole = (1 - (fraction[:, :, None] - around).abs() * width).clamp_min(0).sum(2)  # as if the map had no edge
    return (1 - (source[:, :, None] - cells).abs() * width).clamp_min(0) / whole[:, :, None]
