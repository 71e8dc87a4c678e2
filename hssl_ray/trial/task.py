"""What a method does with one batch: pairs, losses, and the probe beside them.

N images, C channels, G lifted axis, H W grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hssl_ray.method.draws import DRAW_COLUMNS, Draw, Stream, augmentation_draw, pair_draw, uniforms
from hssl_ray.method.networks import Network
from hssl_ray.method.objectives import info_nce, nt_xent
from hssl_ray.method.views import a_ssl_views, f_ssl_views, h_ssl_views
from hssl_ray.trial.config import TrialConfig

OBJECTIVES = {"info_nce": info_nce, "nt_xent": nt_xent}
VIEWS = {"a_ssl": a_ssl_views, "f_ssl": f_ssl_views, "h_ssl": h_ssl_views}


@dataclass(frozen=True)
class StepLosses:
    """Scalars of one step. `total` is what is minimised; `pairs` is Eq. 3 or its kin, absent for the baselines."""

    total: Tensor
    method: Tensor
    probe: Tensor


class Task(nn.Module):
    """The trial's network with its training objective; DDP wraps this module, so that one forward is one step.

    Frozen trains the probe alone, on a backbone whose BatchNorm statistics still follow the data (reading A18).
    Supervised attaches the probe. All other methods detach it, and see the first view (reading A17).
    """

    def __init__(self, network: Network, config: TrialConfig) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.group = network.group
        if config.method in ("frozen", "supervised"):
            network.projection_head.requires_grad_(False)
        if config.method == "frozen":
            network.backbone.requires_grad_(False)

    def draw(self, epoch: int, indices: Tensor) -> Draw | None:
        """Base spaces and transformations of these images in this epoch; none for the baselines."""
        config = self.config
        if config.method not in VIEWS:
            return None
        u = uniforms(config.seed, epoch, Stream.PAIRS, indices, DRAW_COLUMNS)
        if config.method == "a_ssl" and config.augmentation == "paper":
            return augmentation_draw(self.group, u, config.base_size)
        return pair_draw(self.group, u, config.base_size, config.max_distance, config.min_distance)

    def forward(self, images: Tensor, labels: Tensor, draw: Draw | None) -> StepLosses:
        """Losses of one batch: images (N, C, H, W), labels (N,)."""
        network, config = self.network, self.config
        if draw is None:
            z = network.backbone(images)
            attached = config.method == "supervised"
            probe = classification_loss(network.probe(z if attached else z.detach()), labels)
            return StepLosses(probe, probe.detach(), probe.detach())

        maps: list[Tensor] = []

        def f(x: Tensor) -> Tensor:
            maps.append(network.backbone(x))
            return maps[-1]

        v1, v2 = VIEWS[config.method](f, images, self.group, draw, config.base_size)
        objective = OBJECTIVES[config.objective]
        pairs = objective(network.projection_head(v1), network.projection_head(v2), config.temperature)
        probe = classification_loss(network.probe(maps[0].detach()), labels)
        return StepLosses(pairs + probe, pairs.detach(), probe.detach())


def classification_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of (N, K) logits, in at least float32."""
    return F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), labels)
