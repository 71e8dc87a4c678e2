"""Features in the units of a training set, as the probes read them.

N images, D features, K numbers beside them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 2**20  # numbers held at once beside the features


def blocks(count: int, width: int) -> list[slice]:
    """Rows 0 .. count-1 in blocks that stay within `BLOCK` numbers if each row is `width` wide."""
    step = max(1, BLOCK // max(1, width))
    return [slice(start, start + step) for start in range(0, count, step)]


@dataclass(frozen=True)
class Units:
    """Mean and deviation of every feature of a training set, (D,), float64."""

    mean: Tensor
    std: Tensor

    def like(self, features: Tensor) -> Tensor:
        """Other features in the training set's units, float64."""
        return torch.sub(features, self.mean).div_(self.std)


class Standardised:
    """A training set, centred and at unit deviation, whose rows are brought to float64 block by block."""

    def __init__(self, train: Tensor) -> None:
        self._train = train
        self.count, self.width = train.shape
        self.device = train.device
        total = torch.zeros(self.width, dtype=torch.float64, device=train.device)
        for rows in self.blocks():
            total += train[rows].double().sum(0)
        mean = total / self.count
        squares = torch.zeros_like(total)
        for rows in self.blocks():
            squares += torch.sub(train[rows], mean).square_().sum(0)
        std = (squares / (self.count - 1)).sqrt()
        self.units = Units(mean, torch.where(std > 0, std, torch.ones_like(std)))

    def blocks(self) -> list[slice]:
        return blocks(self.count, self.width)

    def __getitem__(self, rows: slice) -> Tensor:
        return self.units.like(self._train[rows])

    def across(self, y: Tensor) -> Tensor:
        """x' y, (D, K), of y (N, K)."""
        total = torch.zeros(self.width, y.shape[1], dtype=y.dtype, device=y.device)
        for rows in self.blocks():
            total += self[rows].T @ y[rows]
        return total
