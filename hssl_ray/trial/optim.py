"""Optimiser and learning rate: LARS (You et al., 2017) or AdamW, linear warm-up, cosine decay."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hssl_ray.trial.adamw import AdamW
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.eager import leave_compiler_out
from hssl_ray.trial.groupwise import GroupwiseOptimizer


class Lars(GroupwiseOptimizer):
    """SGD with momentum in which each weight's step is scaled to the weight's own length.

        v <- m v + lr * lambda * (g + beta w),    lambda = eta |w| / (|g| + beta |w|),    w <- w - v

    lambda is 1 in groups with `adapt=False`, and where |w| or |g| is zero. Norms are taken in float32.

    Args:
        params: parameters or groups; a group may set `lr`, `weight_decay` (beta) and `adapt`.
        lr: learning rate, changed from outside as the schedule goes.
        momentum: m.
        weight_decay: beta.
        trust_coefficient: eta.

    Source: You et al., Large batch training of convolutional networks, 2017, Eq. 5-6.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 0.001,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "weight_decay": weight_decay,
                "trust_coefficient": trust_coefficient,
                "adapt": True,
            },
        )

    def _step_group(self, group: dict[str, Any], weights: list[Tensor], grads: list[Tensor]) -> None:
        beta = group["weight_decay"]
        updates = torch._foreach_add(grads, weights, alpha=beta) if beta else list(torch._foreach_add(grads, 0.0))
        if group["adapt"]:
            weight_norms = torch.stack(torch._foreach_norm(weights)).float()
            grad_norms = torch.stack(torch._foreach_norm(grads)).float()
            ratio = group["trust_coefficient"] * weight_norms / (grad_norms + beta * weight_norms)
            ratio = torch.where((weight_norms > 0) & (grad_norms > 0), ratio, torch.ones_like(ratio))
            torch._foreach_mul_(updates, list(ratio.to(updates[0].dtype).unbind()))
        torch._foreach_mul_(updates, group["lr"])
        velocities: list[Tensor] = []
        for weight in weights:
            state = self.state[weight]
            if "velocity" not in state:
                state["velocity"] = torch.zeros_like(weight)
            velocities.append(state["velocity"])
        torch._foreach_mul_(velocities, group["momentum"])
        torch._foreach_add_(velocities, updates)
        torch._foreach_sub_(weights, velocities)


def parameter_groups(network: nn.Module, probe: nn.Module, config: TrialConfig) -> list[dict[str, Any]]:
    """Trained parameters in three groups: weights; norms and biases, neither decayed nor adapted; the probe.

    `share` is a group's learning rate relative to `config.learning_rate`; the probe is not decayed.
    """
    of_probe = {id(p) for p in probe.parameters()}
    trained = [p for p in network.parameters() if p.requires_grad and id(p) not in of_probe]
    probe_share = (config.probe_learning_rate or config.learning_rate) / config.learning_rate
    groups = [
        {
            "params": [p for p in trained if p.ndim > 1],
            "weight_decay": config.weight_decay,
            "adapt": True,
            "share": 1.0,
        },
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0, "adapt": False, "share": 1.0},
        {"params": list(probe.parameters()), "weight_decay": 0.0, "adapt": False, "share": probe_share},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(network: nn.Module, probe: nn.Module, config: TrialConfig) -> Optimizer:
    """The optimiser the config names, over the network's trained parameters."""
    leave_compiler_out()
    groups = parameter_groups(network, probe, config)
    if config.optimizer == "lars":
        return Lars(
            groups, lr=config.learning_rate, momentum=config.momentum, trust_coefficient=config.trust_coefficient
        )
    return AdamW(groups, lr=config.learning_rate)


def learning_rate(config: TrialConfig, step: int) -> float:
    """Linear warm-up over `warmup_epochs`, then half a cosine to zero; `step` counts from 0 over the whole trial."""
    warmup = config.warmup_epochs * config.steps_per_epoch
    total = config.epochs * config.steps_per_epoch
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Give every group its share of `lr`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["share"]
