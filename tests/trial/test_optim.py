"""LARS is You et al.'s update; the schedule warms up and decays; groups treat norms, biases and probe apart."""

import itertools
import math
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from hssl_ray.trial.adamw import AdamW
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.optim import Lars, build_optimizer, learning_rate, parameter_groups, set_learning_rate


def lars_by_hand(w: Tensor, grads: list[Tensor], lr: float, m: float, beta: float, eta: float) -> Tensor:
    """Algorithm 1 of the paper, one weight, in plain loops over steps."""
    v = torch.zeros_like(w)
    for g in grads:
        local = eta * w.norm() / (g.norm() + beta * w.norm())
        v = m * v + lr * local * (g + beta * w)
        w = w - v
    return w


@pytest.mark.parametrize("beta", [0.0, 1e-2])
def test_lars_is_the_published_update(beta: float) -> None:
    torch.manual_seed(0)
    start, grads = torch.randn(4, 3), [torch.randn(4, 3) for _ in range(5)]
    weight = nn.Parameter(start.clone())
    optimizer = Lars([weight], lr=0.3, momentum=0.9, weight_decay=beta, trust_coefficient=0.02)
    for g in grads:
        weight.grad = g.clone()
        optimizer.step()
    torch.testing.assert_close(weight.data, lars_by_hand(start, grads, 0.3, 0.9, beta, 0.02))
    with pytest.raises(AssertionError):  # the trust coefficient matters
        torch.testing.assert_close(weight.data, lars_by_hand(start, grads, 0.3, 0.9, beta, 0.03))


def test_lars_step_does_not_depend_on_the_gradient_s_length() -> None:
    """What LARS is for: twice the gradient, the same step (without decay)."""
    ends = []
    for factor in (1.0, 1000.0):
        weight = nn.Parameter(torch.ones(3, 2))
        optimizer = Lars([weight], lr=0.1)
        weight.grad = factor * torch.arange(6.0).reshape(3, 2)
        optimizer.step()
        ends.append(weight.data.clone())
    torch.testing.assert_close(*ends)


def test_groups_without_adaptation_take_plain_momentum_steps() -> None:
    weight, plain = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    ours = Lars([{"params": [weight], "adapt": False}], lr=0.1, momentum=0.9)
    oracle = torch.optim.SGD([plain], lr=0.1, momentum=0.9)
    for _ in range(3):
        weight.grad, plain.grad = torch.full((3,), 0.5), torch.full((3,), 0.5)
        ours.step()
        oracle.step()
    torch.testing.assert_close(weight.data, plain.data)


def test_zero_gradient_or_zero_weight_stays_finite() -> None:
    zero, still = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.ones(2, 2))
    optimizer = Lars([zero, still], lr=0.1)
    zero.grad, still.grad = torch.ones(2, 2), torch.zeros(2, 2)
    optimizer.step()
    assert torch.isfinite(zero).all() and torch.equal(still.data, torch.ones(2, 2))


def test_schedule_warms_up_linearly_then_decays_to_zero() -> None:
    config = TrialConfig(train_images=1000, batch_size=100, epochs=20, warmup_epochs=2, learning_rate=0.4)
    rates = [learning_rate(config, step) for step in range(200)]
    assert rates[0] == pytest.approx(0.4 / 20) and rates[19] == pytest.approx(0.4)
    assert all(a < b for a, b in itertools.pairwise(rates[:20]))
    assert all(a >= b for a, b in itertools.pairwise(rates[20:])) and rates[20] == pytest.approx(0.4)
    assert rates[110] == pytest.approx(0.4 * 0.5 * (1 + math.cos(math.pi / 2)))
    assert rates[-1] < 1e-4


class TinyNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 2, 3, bias=True), nn.BatchNorm2d(2))
        self.probe = nn.Linear(2, 3)


@pytest.mark.parametrize("optimizer", ["lars", "adamw"])
def test_every_trained_parameter_is_in_one_group_and_the_probe_has_its_own_rate(optimizer: str) -> None:
    network = TinyNetwork()
    config = TrialConfig.model_validate({"optimizer": optimizer, "learning_rate": 0.1, "probe_learning_rate": 0.05})
    groups = parameter_groups(network, network.probe, config)
    ids = [id(p) for group in groups for p in group["params"]]
    assert sorted(ids) == sorted(id(p) for p in network.parameters())
    weights, flat, probe = groups
    assert all(p.ndim > 1 for p in weights["params"]) and all(p.ndim == 1 for p in flat["params"])
    assert weights["weight_decay"] > 0 and flat["weight_decay"] == 0 and probe["weight_decay"] == 0
    built = build_optimizer(network, network.probe, config)
    set_learning_rate(built, 0.2)
    assert [group["lr"] for group in built.param_groups] == pytest.approx([0.2, 0.2, 0.1])


@pytest.mark.parametrize("prepared", [True, False], ids=["ours", "torch's own"])
def test_an_optimiser_comes_without_the_compiler(prepared: bool) -> None:
    """A worker process that trains never imports torch's compiler; torch's own optimiser does (negative control)."""
    code = f"""
import sys, torch
from hssl_ray.trial.adamw import AdamW
from hssl_ray.trial.eager import leave_compiler_out
weight = torch.nn.Parameter(torch.ones(2))
if {prepared}:
    leave_compiler_out()
    optimizer = AdamW([weight], lr=0.1)
else:
    optimizer = torch.optim.AdamW([weight], lr=0.1, foreach=True)
weight.grad = torch.ones(2)
optimizer.step()
optimizer.zero_grad()
optimizer.load_state_dict(optimizer.state_dict())
print("torch._dynamo" in sys.modules)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == str(not prepared)


@pytest.mark.parametrize("prepared", [True, False], ids=["ours", "torch's own"])
def test_ddp_comes_without_the_compiler(prepared: bool) -> None:
    """As above, for DDP with a step through it; what else asks for the compiler afterwards still gets it."""
    code = f"""
import sys, torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from hssl_ray.trial.eager import data_parallel
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
model = (data_parallel if {prepared} else DistributedDataParallel)(torch.nn.Linear(3, 2))
model(torch.ones(1, 3)).sum().backward()
print(model.module.weight.grad.sum().item(), "torch._dynamo" in sys.modules, callable(torch._dynamo.optimize))
dist.destroy_process_group()
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == f"6.0 {not prepared} True"


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adamw_is_torchs_to_the_bit(decay: float) -> None:
    """Weights and state, and each can go on from the other's state."""
    start = [torch.randn(4, 3, generator=torch.Generator().manual_seed(n)) for n in range(3)]
    ours, theirs = ([nn.Parameter(w.clone()) for w in start] for _ in range(2))
    optimizers: list[torch.optim.Optimizer] = [
        AdamW(ours, lr=0.01, weight_decay=decay),
        torch.optim.AdamW(theirs, lr=0.01, weight_decay=decay, foreach=True),
    ]
    for step in range(5):
        for weights, optimizer in zip((ours, theirs), optimizers, strict=True):
            for weight in weights:
                weight.grad = weight.detach().cos() * (step + 1)
            optimizer.step()
        if step == 2:
            states = [optimizer.state_dict()["state"] for optimizer in optimizers]
            for optimizer, state in zip(optimizers, reversed(states), strict=True):
                optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    for mine, other, begun in zip(ours, theirs, start, strict=True):
        assert torch.equal(mine, other)
        assert not torch.equal(mine, begun)
