"""Greedy layerwise learning (§6; Löwe et al. 2019): every stage of a backbone has a loss of its own.

No gradient passes from one stage to the stage before. N images, C channels, G lifted elements, H x W cells of a
stage's map; B = base_size fibers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from hssl_ray.method.criterion import Criterion
from hssl_ray.method.draws import Draw
from hssl_ray.method.groups import Group
from hssl_ray.method.views import Views, base_view, views_from_features


class StageLoss(nn.Module):
    """What a stage before the last needs to learn by itself: a projection head and a criterion."""

    def __init__(self, head: nn.Module, criterion: Criterion) -> None:
        super().__init__()
        self.head = head
        self.criterion = criterion

    def forward(self, v1: Tensor, v2: Tensor) -> Tensor:
        """The stage's loss of its two views, (N, B*C) each."""
        loss: Tensor = self.criterion(self.head, v1, v2)
        return loss


def isolated_maps(stages: Iterable[nn.Module], x: Tensor) -> list[Tensor]:
    """The map after every stage, (N, C, G, H, W) each; a map's gradient ends where its stage begins."""
    maps: list[Tensor] = []
    for stage in stages:
        maps.append(stage(maps[-1].detach() if maps else x))
    return maps


def h_ssl_stage_views(
    maps: Sequence[Tensor], groups: Sequence[Group], draws: Sequence[Draw], base_size: int = 1
) -> list[Views]:
    """Eq. 7 (on `Translation` Eq. 6) at every stage, each with its own group and draw."""
    return [views_from_features(z, group, draw, base_size) for z, group, draw in zip(maps, groups, draws, strict=True)]


def a_ssl_stage_views(
    maps: tuple[Sequence[Tensor], Sequence[Tensor]],
    groups: Sequence[Group],
    draws: Sequence[Draw],
    base_size: int = 1,
) -> list[Views]:
    """Eq. 5 at every stage, from the maps of the two transformed images. The transformations are what they are to all
    stages; a draw says where its stage reads.
    """
    return [
        (base_view(z1, group, draw, base_size), base_view(z2, group, draw, base_size))
        for z1, z2, group, draw in zip(*maps, groups, draws, strict=True)
    ]
