"""What a network has learned: probes, equivariance error, collapse measures.

N images, C channels, G lifted axis, D features, K classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from hssl_ray.method.networks import Network
from hssl_ray.trial.data import Images
from hssl_ray.trial.ranks import Ranks

EVALUATION_BATCH = 1024
EQUIVARIANCE_IMAGES = 32
EQUIVARIANCE_ELEMENTS = 5
RIDGE_PENALTIES = torch.logspace(-6, 2, 17, dtype=torch.float64)  # relative to the mean eigenvalue of the covariance


@torch.no_grad()
def representations(network: Network, images: Images, ranks: Ranks) -> tuple[Tensor, Tensor, Tensor]:
    """Features (N, D), probe's logits (N, K) and labels (N,) of all images, on every rank.

    The network is put into evaluation mode.
    """
    network.eval()
    features, logits, labels = [], [], []
    for batch in images.in_order(EVALUATION_BATCH, ranks):
        z = network.backbone(batch.images)
        features.append(network.features(z).float())
        logits.append(network.probe(z).float())
        labels.append(batch.labels)
    return ranks.gather(torch.cat(features)), ranks.gather(torch.cat(logits)), ranks.gather(torch.cat(labels))


def top1(logits: Tensor, labels: Tensor) -> float:
    """Share of images whose largest logit is their class."""
    return (logits.argmax(1) == labels).double().mean().item()


def effective_rank(features: Tensor) -> float:
    """exp of the entropy of the normalised singular values of the centred features (N, D); 0 if all are equal.

    Source: Roy and Vetterli, The effective rank, 2007; RankMe, 2023.
    """
    singular = torch.linalg.svdvals((features - features.mean(0)).double())
    if not singular.sum() > 0:
        return 0.0
    p = singular / singular.sum()
    return math.exp(torch.special.entr(p).sum().item())


def feature_std(features: Tensor) -> float:
    """Mean over the D features of their standard deviation, rows at unit length.

    1/sqrt(D) if spread evenly, 0 if collapsed.
    """
    return F.normalize(features.double(), dim=1).std(0).mean().item()


def ridge_top1(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor, classes: int) -> float:
    """Test accuracy of ridge regression onto one-hot labels, in closed form.

    Features are standardised by the training set. The penalty is the one of RIDGE_PENALTIES with least leave-one-out
    error on the training set, which one eigendecomposition gives for all of them; the test set chooses nothing.
    """
    mean, std = train.double().mean(0), train.double().std(0)
    std = torch.where(std > 0, std, torch.ones_like(std))
    x, x_test = (train.double() - mean) / std, (test.double() - mean) / std
    y = F.one_hot(train_labels, classes).double()
    y_mean = y.mean(0)
    y = y - y_mean
    eigenvalues, v = torch.linalg.eigh(x.T @ x)
    scores = x @ v  # (N, D) coordinates of the rows in the eigenbasis
    moments = scores.T @ y
    best_error, best = math.inf, torch.zeros_like(moments)
    for penalty in RIDGE_PENALTIES * eigenvalues.clamp(min=0).mean():
        shrink = 1 / (eigenvalues.clamp(min=0) + penalty.clamp(min=torch.finfo(torch.float64).tiny))
        coefficients = shrink[:, None] * moments
        leverage = (scores.square() * shrink).sum(1) + 1 / len(x)
        residuals = (y - scores @ coefficients) / (1 - leverage).clamp(min=1e-9)[:, None]
        error = residuals.square().mean().item()
        if error < best_error:
            best_error, best = error, coefficients
    return top1(x_test @ (v @ best) + y_mean, test_labels)


@torch.no_grad()
def equivariance_error(network: Network, images: Tensor) -> float:
    """Relative error of Eq. 1, |f(T_g x) - Gamma_g f(x)| / |Gamma_g f(x)|, over elements g other than the identity.

    0 for an exactly equivariant network, about 1.4 for unrelated maps. Computed in float32 on images (N, C, H, W), on
    EQUIVARIANCE_ELEMENTS elements spread over the group. A window is compared at its first lifted element alone: from
    there every shift stays inside, and scales that are no geometric series are steps of the right ratio from there
    only. The network is put into evaluation mode.
    """
    network.eval()
    group = network.group
    lifted = slice(None) if group.geometry.cyclic else slice(1)
    spread = torch.linspace(1, group.order - 1, min(EQUIVARIANCE_ELEMENTS, group.order - 1)).round().long()
    wrong = norm = 0.0
    with torch.autocast(images.device.type, enabled=False):
        z = network.backbone(images)
        for element in spread.tolist():
            g = torch.full((len(images),), element)
            expected = group.transform_features(g, z)
            difference = (network.backbone(group.transform_input(g, images)) - expected)[:, :, lifted]
            wrong += difference.masked_fill(~group.known_features(g, z)[:, :, lifted], 0.0).square().sum().item()
            norm += expected[:, :, lifted].square().sum().item()
    return math.sqrt(wrong / norm) if norm > 0 else math.nan
