"""What a method does with one batch: pairs, losses, and the probe beside them.

N images, C channels, G lifted axis, H W grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hssl_ray.method.draws import DRAW_COLUMNS, Draw, Stream, augmentation_draw, pair_draw, uniforms
from hssl_ray.method.groups import Group
from hssl_ray.method.layerwise import a_ssl_stage_views, h_ssl_stage_views, isolated_maps
from hssl_ray.method.networks import Network
from hssl_ray.method.views import a_ssl_views, f_ssl_views, h_ssl_views
from hssl_ray.trial.config import TrialConfig

VIEWS = {"a_ssl": a_ssl_views, "f_ssl": f_ssl_views, "h_ssl": h_ssl_views}


@dataclass(frozen=True)
class StepLosses:
    """Scalars of one step. `total` is what is minimised; `method` the objective's part of it, the classifier's for the
    baselines.

    `stages` are the summands of `method` where every stage has its own, first to last, (S,); otherwise it is empty.
    """

    total: Tensor
    method: Tensor
    probe: Tensor
    stages: Tensor


@dataclass(frozen=True)
class StageDraws(Draw):
    """The last stage's draw with those of the stages before it, all from the same uniforms."""

    early: tuple[Draw, ...]


class Task(nn.Module):
    """The trial's network with its training objective; DDP wraps this module, so that one forward is one step.

    Frozen trains the probe alone, on a backbone whose BatchNorm statistics still follow the data, or do not
    (`frozen_norm`, reading A18). Supervised attaches the probe. All other methods detach it, and see the first view, or
    the images as they are (`probe_images`, reading A17).
    """

    def __init__(self, network: Network, config: TrialConfig) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.group = network.group
        if config.method in ("frozen", "supervised"):
            for unused in (network.projection_head, network.criterion, network.stage_losses):
                unused.requires_grad_(False)
        if config.method == "frozen":
            network.backbone.requires_grad_(False)

    def train(self, mode: bool = True) -> Task:
        super().train(mode)
        if self.config.method == "frozen" and self.config.frozen_norm == "initial":
            self.network.backbone.eval()
        return self

    def draw(self, epoch: int, indices: Tensor) -> Draw | None:
        """Base spaces and transformations of these images in this epoch; none for the baselines."""
        config = self.config
        if config.method not in VIEWS:
            return None
        u = uniforms(config.seed, epoch, Stream.PAIRS, indices, DRAW_COLUMNS)
        draw = self._group_draw(self.group, u)
        if not config.layerwise:
            return draw
        early = tuple(self._group_draw(group, u) for group in self.network.groups[:-1])
        return StageDraws(draw.g0, draw.g1, draw.g2, early)

    def _group_draw(self, group: Group, u: Tensor) -> Draw:
        config = self.config
        if config.method == "a_ssl" and config.augmentation == "paper":
            return augmentation_draw(group, u, config.base_size)
        return pair_draw(group, u, config.base_size, config.max_distance, config.min_distance)

    def forward(self, images: Tensor, labels: Tensor, draw: Draw | None) -> StepLosses:
        """Losses of one batch: images (N, C, H, W), labels (N,)."""
        network, config = self.network, self.config
        if draw is None:
            z = network.backbone(images)
            attached = config.method == "supervised"
            probe = classification_loss(network.probe(z if attached else z.detach()), labels)
            return StepLosses(probe, probe.detach(), probe.detach(), probe.new_empty(0))
        if isinstance(draw, StageDraws):
            z, stages = self._stage_losses(images, draw)
            pairs = stages.sum()
        else:
            z, pairs = self._pair_loss(images, draw)
            stages = pairs.new_empty(0)
        if config.method == "a_ssl" and config.probe_images == "clean":
            with torch.no_grad():
                z = network.backbone(images)
        probe = classification_loss(network.probe(z.detach()), labels)
        return StepLosses(pairs + probe, pairs.detach(), probe.detach(), stages.detach())

    def _pair_loss(self, images: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """z of the first view, and the loss of the views."""
        network, config = self.network, self.config
        maps: list[Tensor] = []

        def f(x: Tensor) -> Tensor:
            maps.append(network.backbone(x))
            return maps[-1]

        v1, v2 = VIEWS[config.method](f, images, self.group, draw, config.base_size)
        return maps[0], network.criterion(network.projection_head, v1, v2)

    def _stage_losses(self, images: Tensor, draw: StageDraws) -> tuple[Tensor, Tensor]:
        """z of the first view, and the loss of every stage's views, (S,)."""
        network, base_size = self.network, self.config.base_size
        stages, draws = network.backbone.stages, (*draw.early, draw)
        if self.config.method == "a_ssl":
            maps = isolated_maps(stages, self.group.transform_input(draw.g1, images))
            others = isolated_maps(stages, self.group.transform_input(draw.g2, images))
            views = a_ssl_stage_views((maps, others), network.groups, draws, base_size)
        else:
            maps = isolated_maps(stages, images)
            views = h_ssl_stage_views(maps, network.groups, draws, base_size)
        losses = [loss(v1, v2) for loss, (v1, v2) in zip(network.stage_losses, views[:-1], strict=True)]
        return maps[-1], torch.stack([*losses, network.criterion(network.projection_head, *views[-1])])


def classification_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of (N, K) logits, in at least float32."""
    return F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), labels)
