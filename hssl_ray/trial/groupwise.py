"""What our optimisers share: a step is taken group by group, over all of a group's weights at once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class GroupwiseOptimizer(Optimizer):
    """An optimiser of which only the step of one group is left to say."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step. `closure`, if given, computes the loss again first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if weights:
                self._step_group(group, weights, [p.grad for p in weights if p.grad is not None])
        return loss

    @abstractmethod
    def _step_group(self, group: dict[str, Any], weights: list[Tensor], grads: list[Tensor]) -> None:
        """Change the weights of a group that have gradients."""
