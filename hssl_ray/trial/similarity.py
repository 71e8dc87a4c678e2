"""How alike two networks are, stage by stage, in what pairs are made of: the fibers at all elements of the group.

N images, P elements (the orbit), C channels, D = P*C.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hssl_ray.method.layout import spatial_mean
from hssl_ray.method.networks import Network
from hssl_ray.trial.data import Images

MOST_IMAGES, FEWEST_IMAGES = 512, 64
LARGEST_ORBITS = 2**24
"""Numbers of one stage's orbits, about: fewer images where a stage has many cells."""
FORWARD_BATCH = 64


@dataclass(frozen=True)
class StageSimilarity:
    """Two networks at one stage. Not a number where a stage of either gives the same for all images."""

    cka: float
    """Unbiased linear CKA: 1 if the images lie alike, 0 if they lie as if by chance (or slightly below)."""
    residual: float
    """Orbit Procrustes: 0 if channels turned by one rotation give the other network's fibers, 1 if nothing does."""


def orbits(network: Network, images: Images) -> list[Tensor]:
    """For each stage the fibers of every image at every element, (N, P, C), in float32.

    Where elements act on the lifted axis alone, a fiber is the mean over space, as `Group.fibers` has it; where they
    move cells too, the orbit is every cell of every lifted element. Images are spaced evenly through the set. The
    network is put into evaluation mode.
    """
    network.eval()
    on_cells = network.group.order > network.group.lifted_order
    parts: list[list[Tensor]] = []
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        largest = max(
            _fibers(z, on_cells).numel() for z in network.backbone.stage_maps(images.take(torch.arange(1)).images)
        )
        count = min(MOST_IMAGES, max(FEWEST_IMAGES, LARGEST_ORBITS // largest))
        for indices in torch.split(images.spread(count), FORWARD_BATCH):
            parts.append([_fibers(z, on_cells) for z in network.backbone.stage_maps(images.take(indices).images)])
    return [torch.cat(stage) for stage in zip(*parts, strict=True)]


def _fibers(z: Tensor, on_cells: bool) -> Tensor:
    """(N, C, G, H, W) -> (N, G*H*W, C), or the mean over space, (N, G, C)."""
    return z.flatten(2).transpose(1, 2) if on_cells else spatial_mean(z)


def stage_similarities(these: list[Tensor], those: list[Tensor]) -> list[StageSimilarity]:
    """Stage by stage, two networks' `orbits` on the same images.

    Raises:
        ValueError: the networks have other stages, images, elements or channels.
    """
    shapes = [[tuple(z.shape) for z in network] for network in (these, those)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"orbits: must have the same shapes, got {shapes[0]} and {shapes[1]}")
    return [
        StageSimilarity(linear_cka(a.flatten(1), b.flatten(1)), orbit_procrustes(a, b))
        for a, b in zip(these, those, strict=True)
    ]


def linear_cka(a: Tensor, b: Tensor) -> float:
    """Centred kernel alignment of two representations (N, D), (N, D') of the same images, with the linear kernel:

        CKA = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)),    K = a a',  L = b b'

    with the unbiased estimator of HSIC. The usual, biased one tends to 1 for any two representations of more features
    than images. It ignores rotations and scales of either, also such that mix elements of the group.

    Raises:
        ValueError: fewer than four images.

    Source: Kornblith et al., Similarity of neural network representations revisited, 2019; HSIC as in Song et al.,
    Feature selection via dependence maximization, 2012, Eq. 5.
    """
    if len(a) < 4:
        raise ValueError(f"images: the unbiased estimator needs at least 4, got {len(a)}")
    k, l = (_products(z) for z in (a, b))  # noqa: E741 - the source's K and L
    norm = _hsic(k, k) * _hsic(l, l)
    return _hsic(k, l) / math.sqrt(norm) if norm > 0 else math.nan


def _products(z: Tensor) -> Tensor:
    """Products of centred rows, (N, N), without those of a row with itself.

    Centring changes no HSIC, but keeps digits. The scale goes too, lest squares of it overflow.
    """
    rows = z.double() - z.double().mean(0)
    products = rows @ rows.T
    products = products / products.diagonal().mean().clamp(min=torch.finfo(torch.float64).tiny)
    return products.fill_diagonal_(0)


def _hsic(k: Tensor, l: Tensor) -> float:  # noqa: E741
    n = len(k)
    value = (k * l).sum() + k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k.sum(0) * l.sum(0)).sum()
    return value.item() / (n * (n - 3))


def orbit_procrustes(a: Tensor, b: Tensor) -> float:
    """Orthogonal Procrustes of two networks' fibers (N, P, C), stacked over images and elements:

        min over orthogonal Q (C, C) and a scale c > 0 of |c A Q - B| / |B|

    with the stacks A, B (N*P, C) centred. The scale is free because objectives compare directions.

    Q turns channels alone, the same way at every element. That is what leaves the group's action as it is: Gamma moves
    fibers about and Q acts inside each, so the two commute, and A Q is the orbit of a network as equivariant as A's. An
    alignment that mixed elements could make networks equal whose pairs differ. The minimum is at Q = U V', of the
    singular vectors of A'B (Schoenemann 1966).
    """
    rows = []
    for z in (a, b):
        stacked = z.double().flatten(0, 1)
        stacked = stacked - stacked.mean(0)
        length = stacked.norm()
        if not length > 0:
            return math.nan
        rows.append(stacked / length)
    u, singular, vh = torch.linalg.svd(rows[0].T @ rows[1])
    return float((singular.sum() * (rows[0] @ u @ vh) - rows[1]).norm())
