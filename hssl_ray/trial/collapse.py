"""Whether representations have collapsed: how many directions they use, how far they spread, how pairs lie in them.

N images, D features.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

UNIFORMITY_T = 2.0


def effective_rank(features: Tensor) -> float:
    """exp of the entropy of the normalised singular values of the centred features (N, D); 0 if all are equal.

    Source: Roy and Vetterli, The effective rank, 2007; RankMe, 2023.
    """
    centred = (features - features.mean(0)).double()
    wide = centred.shape[1] > centred.shape[0]
    energies = torch.linalg.eigvalsh(centred @ centred.T if wide else centred.T @ centred)  # far quicker than an SVD
    rounding = len(energies) * torch.finfo(torch.float64).eps * energies[-1]
    singular = torch.where(energies > rounding, energies, 0.0).sqrt()
    if not singular.sum() > 0:
        return 0.0
    p = singular / singular.sum()
    return math.exp(torch.special.entr(p).sum().item())


def feature_std(features: Tensor) -> float:
    """Mean over the D features of their standard deviation, rows at unit length.

    1/sqrt(D) if spread evenly, 0 if collapsed.
    """
    return F.normalize(features.double(), dim=1).std(0).mean().item()


def alignment(h1: Tensor, h2: Tensor) -> float:
    """How far apart the two views (N, D) of an image lie: the mean of |u1 - u2|**2, u at unit length.

    0 if all pairs agree, 2 if they are unrelated, 4 if opposite; a collapsed network is aligned too, so it is read
    beside `uniformity`.

    Source: Wang and Isola, Understanding contrastive representation learning, 2020, with alpha = 2.
    """
    u1, u2 = F.normalize(h1.double(), dim=1), F.normalize(h2.double(), dim=1)
    return (u1 - u2).square().sum(1).mean().item()


def uniformity(h: Tensor) -> float:
    """How evenly vectors (N, D) cover the sphere: the log of the mean of exp(-2 |u_i - u_j|**2) over pairs i != j.

    0 if collapsed to a point, towards -4 in many dimensions if spread evenly.

    Raises:
        ValueError: fewer than two vectors.

    Source: Wang and Isola 2020, with t = 2.
    """
    if len(h) < 2:
        raise ValueError(f"vectors: pairs need at least 2, got {len(h)}")
    apart = F.pdist(F.normalize(h.double(), dim=1)).square()
    return (torch.logsumexp(-UNIFORMITY_T * apart, 0) - math.log(len(apart))).item()
