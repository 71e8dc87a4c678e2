"""Objectives without negatives, whose stop-gradient keeps them from collapse: Eq. 4 and SimSiam.

N images, D numbers per vector. SG, the stop-gradient, is `.detach()`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hssl_ray.method.criterion_spec import predictor_width
from hssl_ray.method.gather import all_gather, check_views
from hssl_ray.method.normalisation import BatchNorm


def negative_cosine(h1: Tensor, v2: Tensor) -> Tensor:
    """Non-contrastive loss of Eq. 4, summed over the batch:

        I_i = -1/N s(h(v1_i), SG(v2_i))

    with cosine similarity s. To the letter h is applied to the first view alone, as a predictor of the second, which
    is a raw fiber (reading A3). With several ranks every rank computes the loss of the whole batch.

    Args:
        h1: projected first view, (N, D), of any floating type; computed in at least float32.
        v2: second view as it is, (N, D); no gradient reaches it.

    Raises:
        ValueError: shapes differ.
    """
    check_views(h1, v2)
    wide = torch.promote_types(h1.dtype, torch.float32)
    target = v2.detach()  # SG
    similarities = (F.normalize(h1.to(wide), dim=1) * F.normalize(target.to(wide), dim=1)).sum(1)
    return -all_gather(similarities).mean()


def simsiam(p1: Tensor, p2: Tensor, h1: Tensor, h2: Tensor) -> Tensor:
    """SimSiam's loss (Chen & He 2021): each projected view predicts the other, the mean of both directions:

        I = -1/2N sum_i ( s(p1_i, SG(h2_i)) + s(p2_i, SG(h1_i)) ),    p = predictor(h)

    Arguments and errors as `negative_cosine`.
    """
    return (negative_cosine(p1, h2) + negative_cosine(p2, h1)) / 2


def build_predictor(width: int) -> nn.Sequential:
    """SimSiam's predictor, (N, D) -> (N, D): a bottleneck of a quarter of D with BatchNorm and ReLU."""
    hidden = predictor_width(width)
    return nn.Sequential(nn.Linear(width, hidden, bias=False), BatchNorm(hidden, relu=True), nn.Linear(hidden, width))
