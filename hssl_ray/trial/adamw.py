"""AdamW (Loshchilov and Hutter, 2019) over all weights at once; torch's own imports torch's compiler to take a step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from hssl_ray.trial.groupwise import GroupwiseOptimizer


class AdamW(GroupwiseOptimizer):
    """Adam with decoupled weight decay, bit for bit torch's with `foreach=True`, and with its state.

        w <- w - lr beta w
        m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g**2
        w <- w - lr m / (1 - b1**t) / (sqrt(v / (1 - b2**t)) + eps)

    Args:
        params: parameters or groups; a group may set `lr` and `weight_decay` (beta).
        lr: learning rate, changed from outside as the schedule goes.
        betas: b1, b2.
        eps: added to the root.
        weight_decay: beta.

    Source: Loshchilov and Hutter, Decoupled weight decay regularization, 2019, Algorithm 2.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def _step_group(self, group: dict[str, Any], weights: list[Tensor], grads: list[Tensor]) -> None:
        lr, (beta1, beta2) = group["lr"], group["betas"]
        for weight in weights:
            if not self.state[weight]:
                self.state[weight].update(
                    step=torch.zeros(()), exp_avg=torch.zeros_like(weight), exp_avg_sq=torch.zeros_like(weight)
                )
        steps, means, squares = (
            [self.state[weight][name] for weight in weights] for name in ("step", "exp_avg", "exp_avg_sq")
        )
        torch._foreach_add_(steps, 1.0)
        if group["weight_decay"]:
            torch._foreach_mul_(weights, 1 - lr * group["weight_decay"])
        torch._foreach_lerp_(means, grads, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, 1 - beta2)
        counts = [step.item() for step in steps]  # on the CPU, whatever device the weights are on
        roots = torch._foreach_sqrt(squares)
        torch._foreach_div_(roots, [(1 - beta2**count) ** 0.5 for count in counts])
        torch._foreach_add_(roots, group["eps"])
        torch._foreach_addcdiv_(weights, means, roots, [-(lr / (1 - beta1**count)) for count in counts])
