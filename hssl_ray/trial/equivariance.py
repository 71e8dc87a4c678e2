"""The relative error of Eq. 1, |f(T_g x) - Gamma_g f(x)| / |Gamma_g f(x)|, stage by stage and element by element.

N images, C channels, G lifted axis, H x W cells.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from hssl_ray.method.groups import Group
from hssl_ray.method.networks import Network

LARGEST_SAMPLE = 5
"""Elements measured, spread over the group."""


@dataclass(frozen=True)
class Error:
    """Squared lengths behind the relative error of one element at one stage, on the map and on its spatial mean."""

    stage: int
    """Of the backbone, from 1."""
    element: int
    wrong: float
    norm: float
    wrong_pooled: float
    norm_pooled: float

    @property
    def on_map(self) -> float:
        return relative([self])[0]

    @property
    def pooled(self) -> float:
        return relative([self])[1]


def relative(errors: Iterable[Error]) -> tuple[float, float]:
    """Relative error over several elements, on the map and pooled; NaN where nothing is known or all is zero.

    0 for an exactly equivariant network, about 1.4 for unrelated maps.
    """
    found = list(errors)
    return (
        _ratio(sum(e.wrong for e in found), sum(e.norm for e in found)),
        _ratio(sum(e.wrong_pooled for e in found), sum(e.norm_pooled for e in found)),
    )


def table(errors: Iterable[Error], prefix: str) -> dict[str, float]:
    """`<prefix>/stage2/g3/map` and `.../pooled` for every error of which anything is known."""
    named = {}
    for error in errors:
        if error.norm > 0:
            named[f"{prefix}/stage{error.stage}/g{error.element}/map"] = error.on_map
            named[f"{prefix}/stage{error.stage}/g{error.element}/pooled"] = error.pooled
    return named


@torch.no_grad()
def equivariance_errors(network: Network, images: Tensor, *, every_stage: bool) -> list[Error]:
    """Errors of Eq. 1 on images (N, C, H, W), over elements other than the identity, in float32.

    One forward pass for the images and one for each element. A window is compared at its first lifted element alone:
    from there every shift stays inside, and scales that are no geometric series are steps of the right ratio from
    there only. Where a window ends, features are unknown and left out, of the spatial mean too. A stage without the
    lifted axis, of a network without structure, is left out. The network is put into evaluation mode.

    Args:
        every_stage: measure all stages; else the last one alone.
    """
    network.eval()
    group = network.group
    lifted = slice(None) if group.geometry.cyclic else slice(1)
    spread = torch.linspace(1, group.order - 1, min(LARGEST_SAMPLE, group.order - 1)).round().long()
    errors = []
    with torch.autocast(images.device.type, enabled=False):
        maps = network.backbone.stage_maps(images)
        measured = [n for n, z in enumerate(maps) if z.shape[2] == group.lifted_order or n == len(maps) - 1]
        measured = measured if every_stage else measured[-1:]
        acting = {n: on_grid_of(maps[n], maps[-1], group) for n in measured}
        for element in spread.tolist():
            g = torch.full((len(images),), element)
            transformed = network.backbone.stage_maps(group.transform_input(g, images))
            for n in measured:
                expected = acting[n].transform_features(g, maps[n])
                known = acting[n].known_features(g, maps[n])
                difference = (transformed[n] - expected)[:, :, lifted].masked_fill(~known[:, :, lifted], 0.0)
                expected = expected[:, :, lifted]
                squares = [m.square().sum().item() for m in (difference, expected)]
                pooled = [m.mean((3, 4)).square().sum().item() for m in (difference, expected)]
                errors.append(Error(n + 1, element, squares[0], squares[1], pooled[0], pooled[1]))
    return errors


def on_grid_of(z: Tensor, last: Tensor, group: Group) -> Group:
    """The group as it acts on a stage's map, given the last stage's, on whose cells its elements are defined."""
    return group.on_finer_grid(math.ceil(z.shape[-1] / last.shape[-1]))


def _ratio(wrong: float, norm: float) -> float:
    return math.sqrt(wrong / norm) if norm > 0 else math.nan
