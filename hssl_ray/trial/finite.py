"""A loss that is no longer a number ends all ranks of a trial at the same step."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hssl_ray.trial.endings import TrialDiverged
from hssl_ray.trial.ranks import Ranks


class FiniteLoss:
    """Sums the loss of every step over the ranks, so that what one of them sees all of them know.

    On a GPU the sum is read one step late: reading it at once would leave the device idle until the next step is ready.
    """

    def __init__(self, ranks: Ranks, epoch: int) -> None:
        self._ranks, self._epoch = ranks, epoch
        self._step = 0
        self._late: tuple[Tensor, torch.cuda.Event] | None = None

    def check(self, loss: Tensor) -> None:
        """Take in this rank's loss of the next step.

        Raises:
            TrialDiverged: a rank's loss is infinite or not a number; on a GPU, that of the step before.
        """
        total = self._ranks.total(loss.detach())
        if total.is_cuda:
            self.finish()
            copy = torch.empty_like(total, device="cpu", pin_memory=True).copy_(total, non_blocking=True)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record()
            self._late = copy, copied
            self._step += 1
        else:
            self._step += 1
            self._judge(total)

    def finish(self) -> None:
        """Check what has not been read yet; after the last step."""
        if self._late is not None:
            total, copied = self._late
            copied.synchronize()
            self._judge(total)

    def _judge(self, total: Tensor) -> None:
        loss = total.item() / self._ranks.world_size
        if not math.isfinite(loss):
            raise TrialDiverged(f"epoch {self._epoch}, step {self._step}: train/loss must stay finite, got {loss}")
