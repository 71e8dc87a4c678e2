"""One rank of `test_ranks`: `python rank.py RANK WORLD_SIZE FOLDER` computes its share and writes it there.

A script rather than a test, so that the ranks are plain processes and need nothing of the test runner.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hssl_ray.method.criterion import build_criterion
from hssl_ray.method.criterion_spec import CONTRASTIVE, CriterionSpec, ObjectiveName, SimilarityName
from hssl_ray.method.draws import Draw, Stream, pair_draw, uniforms
from hssl_ray.method.networks import Network, build_network
from hssl_ray.method.normalisation import BatchNorm
from hssl_ray.method.objectives import info_nce
from hssl_ray.method.views import views_from_features
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.task import Task

IMAGES, WIDTH = 12, 6
SPECS = [
    CriterionSpec(objective, similarity, 0.2)
    for objective in get_args(ObjectiveName)
    for similarity in (get_args(SimilarityName) if objective in CONTRASTIVE else ("cosine",))
]


def share(whole: Tensor, rank: int, world_size: int, *, even: bool = True) -> Tensor:
    """This rank's rows; uneven shares differ by two rows."""
    if world_size == 1:
        return whole
    cut = len(whole) // 2 - (0 if even else 1)
    return whole[:cut] if rank == 0 else whole[cut:]


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def objectives(rank: int, world_size: int) -> dict[str, Tensor]:
    """Loss, and gradient with respect to this rank's rows and to what the objective learns."""
    found: dict[str, Tensor] = {}
    for spec in SPECS:
        torch.manual_seed(0)
        criterion = build_criterion(spec, WIDTH).double()
        h1, h2 = (share(noise(IMAGES, WIDTH, seed=seed), rank, world_size).clone() for seed in (0, 1))
        loss = criterion(nn.Identity(), h1.requires_grad_(), h2.requires_grad_())
        loss.backward()
        rows = torch.cat([torch.zeros_like(h) if h.grad is None else h.grad for h in (h1, h2)], dim=1)
        name = f"{spec.objective}-{spec.similarity}"
        found |= {f"{name}/loss": loss.detach(), f"{name}/rows": rows}
        for field, weight in criterion.named_parameters():
            assert weight.grad is not None
            found[f"{name}/learned/{field}"] = weight.grad.clone()
    return found


def normalisation(layer: nn.Module, x: Tensor, name: str, *, rank: int, world_size: int) -> dict[str, Tensor]:
    """Value, gradients and running statistics of one BatchNorm, uneven shares."""
    mine = share(x, rank, world_size, even=False).clone().requires_grad_()
    y = layer.double()(mine)
    (y * share(noise(*x.shape, seed=9), rank, world_size, even=False)).sum().backward()
    assert mine.grad is not None
    found = {f"{name}/rows": torch.cat([y.detach().flatten(1), mine.grad.flatten(1)], dim=1)}
    for field, buffer in layer.named_buffers():
        if "running" in field:
            found[f"{name}/same/{field}"] = buffer.clone()
    for field, weight in layer.named_parameters():
        assert weight.grad is not None
        found[f"{name}/sum/{field}"] = weight.grad.clone()
    return found


class _Loss(nn.Module):
    """Network to H-SSL loss in one forward, as DDP wants it."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        v1, v2 = views_from_features(self.network(x), self.network.group, draw)
        return info_nce(self.network.projection_head(v1), self.network.projection_head(v2), 0.1)


def training_step(rank: int, world_size: int) -> dict[str, Tensor]:
    """Loss and gradients of all weights of the whole network, through DDP."""
    network = build_network(TrialConfig(group="scale", width=0.0625)).double()
    network.probe.requires_grad_(False)
    u = uniforms(0, 0, Stream.PAIRS, share(torch.arange(IMAGES), rank, world_size), 3)
    model: nn.Module = _Loss(network)
    if world_size > 1:
        model = DistributedDataParallel(model)
    loss = model(share(noise(IMAGES, 1, 29, 29, seed=2), rank, world_size), pair_draw(network.group, u))
    loss.backward()
    found = {"step/loss": loss.detach()}
    for name, weight in network.named_parameters():
        if weight.grad is not None:
            found[f"step/same/{name}"] = weight.grad
    return found


def layerwise_step(rank: int, world_size: int) -> dict[str, Tensor]:
    """Every stage's loss and the gradients of all weights of a task, through DDP."""
    config = TrialConfig(group="translation", width=0.0625, layerwise=True, similarity="log_bilinear")
    task = Task(build_network(config), config).double()
    model: nn.Module = DistributedDataParallel(task, forward_sync_buffers=False) if world_size > 1 else task
    indices = share(torch.arange(IMAGES), rank, world_size)
    losses = model(share(noise(IMAGES, 1, 29, 29, seed=2), rank, world_size), indices % 10, task.draw(0, indices))
    losses.total.backward()
    found = {"layerwise/loss": losses.stages}
    for name, weight in task.network.named_parameters():
        assert weight.grad is not None
        found[f"layerwise/same/{name}"] = weight.grad
    return found


def main(rank: int, world_size: int, folder: Path) -> None:
    torch.set_num_threads(1)
    if world_size > 1:
        dist.init_process_group("gloo", init_method=(folder / "meeting").as_uri(), rank=rank, world_size=world_size)
    maps, rows = noise(IMAGES, 3, 2, 5, 5, seed=3) * 2 + 1, noise(IMAGES, 4, seed=4) * 3 - 2
    at = {"rank": rank, "world_size": world_size}
    found = objectives(**at) | training_step(**at) | layerwise_step(**at)
    found |= normalisation(BatchNorm(3), maps, "maps", **at)
    found |= normalisation(BatchNorm(3, relu=True), maps, "relu", **at)
    found |= normalisation(BatchNorm(4), rows, "rows", **at)
    found |= normalisation(nn.BatchNorm1d(4), rows, "local", **at)
    torch.save(found, folder / f"rank-{rank}-of-{world_size}.pt")
    if world_size > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
