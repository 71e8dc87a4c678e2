"""Objectives that decorrelate the numbers of a vector instead of contrasting images: VICReg and Barlow Twins.

N images of all ranks, D numbers per vector. Statistics are over the whole batch, in at least float32; with several
ranks every rank computes the loss of the whole batch. The constants are the papers'.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hssl_ray.method.gather import all_views

INVARIANCE, VARIANCE, COVARIANCE = 25.0, 25.0, 1.0  # VICReg's lambda, mu, nu
STD = 1.0  # VICReg's gamma: the standard deviation each number is kept at
EPS = 1e-4  # in VICReg's standard deviation
REDUNDANCY = 0.005  # Barlow Twins' lambda


def vicreg(h1: Tensor, h2: Tensor) -> Tensor:
    """Variance-invariance-covariance regularisation (Bardes et al. 2022, Eq. 1-6 and Algorithm 1):

        I = 25 mean|h1 - h2|^2 + 25 (v(h1) + v(h2)) + c(h1) + c(h2)
        v(h) = 1/D sum_d max(0, 1 - sqrt(Var(h_d) + eps)),    c(h) = 1/D sum_{d != e} Cov(h)_de^2

    The mean is over all N * D numbers, as in Algorithm 1, for which the weights were chosen; their Eq. 5 is over N
    alone. Variance and covariance are divided by N - 1.

    Args:
        h1, h2: projected views, (N, D), of any floating type.

    Raises:
        ValueError: shapes differ, or fewer than two images.
    """
    with torch.autocast(h1.device.type, enabled=False):
        views = all_views(h1, h2).transpose(0, 1)  # (2, N, D)
        invariance = F.mse_loss(views[0], views[1])
        centred = views - views.mean(1, keepdim=True)
        covariance = centred.mT @ centred / (views.shape[1] - 1)  # (2, D, D)
        variance = covariance.diagonal(dim1=1, dim2=2)  # (2, D)
        hinge = F.relu(STD - (variance + EPS).sqrt()).mean(1).sum()
        redundancy = _off_diagonal(covariance).square().sum() / views.shape[2]
        return INVARIANCE * invariance + VARIANCE * hinge + COVARIANCE * redundancy


def barlow_twins(h1: Tensor, h2: Tensor) -> Tensor:
    """Barlow Twins (Zbontar et al. 2021, Eq. 1-2): the correlation of the two views over the batch, made the identity:

        I = sum_d (1 - C_dd)^2 + 0.005 sum_{d != e} C_de^2,    C_de = <h1_d, h2_e> / |h1_d| |h2_e|, columns centred

    Arguments and errors as `vicreg`.
    """
    with torch.autocast(h1.device.type, enabled=False):
        views = all_views(h1, h2).transpose(0, 1)  # (2, N, D)
        columns = F.normalize(views - views.mean(1, keepdim=True), dim=1)
        correlation = columns[0].T @ columns[1]  # (D, D)
        agreement = (1 - correlation.diagonal()).square().sum()
        return agreement + REDUNDANCY * _off_diagonal(correlation).square().sum()


def _off_diagonal(matrix: Tensor) -> Tensor:
    """The matrices (..., D, D) with zeros on their diagonals."""
    return matrix.masked_fill(torch.eye(matrix.shape[-1], dtype=torch.bool, device=matrix.device), 0.0)
