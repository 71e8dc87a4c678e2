"""The baseline: A-SSL on the MNIST scale network as one would put it together from what the field offers.

SESN's way for the layers, torchvision's transforms image by image in a DataLoader with workers, NT-Xent with gathered
negatives, LARS as a loop over weights, one MLflow call for each metric. Number types are torch's default, float32.
`tests/test_baselines.py` holds the network equal to ours with the same weights, and LARS and NT-Xent to ours.

N images, C channels, S scales, H x W cells, D numbers of a projection.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from PIL import Image
from sesn import SesnGroupConv2d, SesnLiftingConv2d
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from hssl_ray.data.torchvision_ops import torchvision_datasets
from hssl_ray.method.steerable import hermite_basis
from hssl_ray.trial.config import TrialConfig

SCALES = (1.0, 1.25, 1.33, 1.5, 1.66, 1.75)
PIXEL_STD = 0.3081
LOADER_WORKERS = 2


class StockNetwork(nn.Module):
    """App. A's MNIST network: backbone, projection head on the fiber of one scale, probe. Parameters in our order."""

    def __init__(self, width: float = 1.0, classes: int = 10) -> None:
        super().__init__()
        first, second, third = (max(1, round(channels * width)) for channels in (32, 64, 128))
        lift, deep = (hermite_basis(k, e, SCALES).float() for k, e in ((11, 11), (7, 3)))
        self.backbone = nn.Sequential(
            SesnLiftingConv2d(1, first, lift, stride=1, padding=5),
            nn.BatchNorm3d(first),
            nn.ReLU(),
            SesnGroupConv2d(first, second, deep, stride=2, padding=3),
            nn.BatchNorm3d(second),
            nn.ReLU(),
            SesnGroupConv2d(second, third, deep, stride=2, padding=3),
            nn.BatchNorm3d(third),
            nn.ReLU(),
        )
        layers: list[nn.Module] = []
        for place in range(3):
            layers += [nn.Linear(third, third, bias=False), nn.BatchNorm1d(third)]
            layers += [nn.ReLU()] if place < 2 else []
        self.head = nn.Sequential(*layers)
        self.probe_convolution = SesnGroupConv2d(third, third, deep, stride=2, padding=0)
        self.probe = nn.Linear(third, classes)

    def view(self, z: Tensor, scale: Tensor) -> Tensor:
        """The projected fiber at one scale for each image: (N, C, S, H, W), (N,) -> (N, D)."""
        fibers = z.mean((3, 4)).transpose(1, 2)  # (N, S, C)
        projected: Tensor = self.head(fibers[torch.arange(len(z)), scale])
        return projected

    def classify(self, z: Tensor) -> Tensor:
        """The probe's logits; it does not train z."""
        pooled = self.probe_convolution(z.detach()).amax(2)
        logits: Tensor = self.probe(pooled.flatten(1))
        return logits


class GatherLayer(torch.autograd.Function):
    """All ranks' rows, with the gradient summed over ranks."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.zeros_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad = grads[0].contiguous()
        dist.all_reduce(grad)
        return grad.chunk(dist.get_world_size())[dist.get_rank()]


def nt_xent(h1: Tensor, h2: Tensor, temperature: float) -> Tensor:
    """SimCLR's loss over the images of all ranks."""
    if dist.is_initialized():
        h1, h2 = (GatherLayer.apply(h) for h in (h1, h2))
    rows = F.normalize(torch.cat([h1, h2]), dim=1)
    logits = rows @ rows.T / temperature
    logits = logits.masked_fill(torch.eye(len(rows), dtype=torch.bool, device=rows.device), -math.inf)
    partner = (torch.arange(len(rows), device=rows.device) + len(h1)) % len(rows)
    return F.cross_entropy(logits, partner)


class StockLars(torch.optim.Optimizer):
    """LARS, one weight after the other; norms and biases neither decayed nor adapted."""

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float, weight_decay: float, trust: float) -> None:
        super().__init__(
            list(params), {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust_coefficient": trust}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                update = p.grad
                if p.ndim > 1:
                    weight_norm, grad_norm = torch.norm(p), torch.norm(update)
                    update = update.add(p, alpha=group["weight_decay"])
                    if weight_norm != 0 and grad_norm != 0:
                        trust = group["trust_coefficient"] * weight_norm
                        update = update * (trust / (grad_norm + group["weight_decay"] * weight_norm))
                state = self.state[p]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(p)
                state["momentum_buffer"].mul_(group["momentum"]).add_(update, alpha=group["lr"])
                p.sub_(state["momentum_buffer"])


class TwoViews(Dataset[tuple[Tensor, Tensor, int]]):
    """Two augmented views of each image and its label, made image by image with torchvision's transforms."""

    def __init__(self, images: Tensor, labels: Tensor, grid: int) -> None:
        """`images`: (N, 1, H, W) uint8; `grid`: cells a side of what the network sees."""
        torchvision_datasets()  # makes torchvision importable beside a torch without CUDA
        transforms = importlib.import_module("torchvision.transforms")
        before = (grid - images.shape[-1]) // 2
        after = grid - images.shape[-1] - before
        self._transform = transforms.Compose(
            [
                transforms.Pad((before, before, after, after)),
                transforms.RandomAffine(
                    0, scale=(1 / SCALES[-1], 1.0), interpolation=transforms.InterpolationMode.BILINEAR
                ),
                transforms.ToTensor(),
                transforms.Normalize((0.0,), (PIXEL_STD,)),
            ]
        )
        self._images, self._labels = images, labels

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        image = Image.fromarray(self._images[index, 0].numpy())
        return self._transform(image), self._transform(image), int(self._labels[index])


def stock_loader(images: Tensor, labels: Tensor, config: TrialConfig) -> DataLoader[tuple[Tensor, Tensor, int]]:
    """Shuffled whole batches of two views, made by worker processes that live as long as the loader."""
    return DataLoader(
        TwoViews(images, labels, config.grid),
        config.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=LOADER_WORKERS,
        persistent_workers=True,
    )


class StockTrial:
    """A-SSL with an online probe: network, optimiser and one step of training."""

    def __init__(self, config: TrialConfig) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.network = StockNetwork(config.width)
        self.optimizer = StockLars(
            self.network.parameters(),
            config.learning_rate,
            config.momentum,
            config.weight_decay,
            config.trust_coefficient,
        )

    def step(self, first: Tensor, second: Tensor, labels: Tensor) -> dict[str, float]:
        """One step on a batch of both views, (N, 1, H, W); returns its losses."""
        network = self.network
        z1, z2 = network.backbone(first), network.backbone(second)
        scale = torch.randint(len(SCALES), (len(labels),))
        loss = nt_xent(network.view(z1, scale), network.view(z2, scale), self.config.temperature)
        probe_loss = F.cross_entropy(network.classify(z1), labels)
        self.optimizer.zero_grad()
        (loss + probe_loss).backward()
        self.optimizer.step()
        return {"train/loss": loss.item(), "train/probe_loss": probe_loss.item()}


def log_metrics(client: Any, run_id: str, metrics: dict[str, float], epoch: int) -> None:
    """One call for each metric, as MLflow's and Tune's own callbacks make them. `client`: an `MlflowClient`."""
    for name, value in metrics.items():
        client.log_metric(run_id, name, value, step=epoch)
