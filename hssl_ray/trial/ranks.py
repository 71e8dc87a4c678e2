"""This process among the workers of a trial."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """Rank of this process and number of processes; (0, 1) where nothing is distributed."""

    rank: int
    world_size: int

    @classmethod
    def here(cls) -> Ranks:
        """As the process group says, if there is one."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls(0, 1)

    @property
    def first(self) -> bool:
        return self.rank == 0

    def total(self, values: Tensor) -> Tensor:
        """Sum over the ranks."""
        if self.world_size > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def gather(self, rows: Tensor) -> Tensor:
        """Rows of all ranks, one below the other; ranks may hold different numbers of rows."""
        if self.world_size == 1:
            return rows
        counts = torch.zeros(self.world_size, dtype=torch.int64, device=rows.device)
        counts[self.rank] = len(rows)
        counts = self.total(counts)
        longest = int(counts.max())
        padded = rows.new_zeros((longest, *rows.shape[1:]))
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(self.world_size)]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts.tolist(), strict=True)])

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.world_size > 1:
            dist.barrier()
