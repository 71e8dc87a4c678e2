"""Maps moved and shrunk, each image by its own amount, as one operation on the batch.

N images, H x W cells; * stands for any axes between.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


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
        rows, columns = (_shrink_matrix(size, factors)[:, None] for size in maps.shape[-2:])
        return rows @ maps @ columns.mT


def _shrink_matrix(size: int, factors: Tensor) -> Tensor:
    """Weights (N, target, source) of one side."""
    cells = torch.arange(size, device=factors.device, dtype=factors.dtype) - (size - 1) / 2
    source = cells / factors[:, None]  # (N, target), in cells about the centre
    reach = math.ceil(1 / float(factors.min())) + 1
    around = torch.arange(-reach, reach + 1, device=factors.device, dtype=factors.dtype)
    fraction = source - cells[0]
    fraction = fraction - fraction.floor()
    width = factors[:, None, None]
    whole = (1 - (fraction[:, :, None] - around).abs() * width).clamp_min(0).sum(2)  # as if the map had no edge
    return (1 - (source[:, :, None] - cells).abs() * width).clamp_min(0) / whole[:, :, None]
