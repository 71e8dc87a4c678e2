"""Contrastive objectives I(V1, V2): two batches of vectors in, one number out; negatives come from every rank.

N images, D numbers per vector. Row i of both batches belongs to image i. The projection head h is applied by the
caller, before the similarity. s is cosine similarity unless another is given; see `similarity`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hssl_ray.method.gather import all_views
from hssl_ray.method.similarity import Similarity, cosine


def info_nce(h1: Tensor, h2: Tensor, temperature: float, similarity: Similarity = cosine) -> Tensor:
    """Contrastive loss of Eq. 3, summed over the batch:

        I_i = -1/N log( exp(s(h1_i, h2_i)/tau) / sum_{j != i} sum_{k,l in {1,2}} exp(s(hk_i, hl_j)/tau) )

    To the letter: the positive pair is not in the denominator, and both views of image i share the one denominator of
    4(N - 1) negatives, so the loss may be negative. With several ranks every rank computes the loss of the whole
    batch.

    Args:
        h1, h2: projected views, (N, D), of any floating type; computed in at least float32.
        temperature: tau > 0.
        similarity: s between all rows.

    Raises:
        ValueError: shapes differ, or fewer than two images.
    """
    logits, count = _logits(h1, h2, temperature, similarity)
    positives = logits.diagonal(count).clone()  # (N,), a copy so that the matrix it came from can go
    logits = _without_own_image(logits)
    negatives = logits.logsumexp(1)  # (2N,)
    return (torch.logaddexp(negatives[:count], negatives[count:]) - positives).mean()


def dcl(h1: Tensor, h2: Tensor, temperature: float, similarity: Similarity = cosine) -> Tensor:
    """Decoupled contrastive loss (Yeh et al. 2022), the mean over both directions of every pair:

        I_ik = -s(hk_i, hk'_i)/tau + log sum_{j != i} sum_{l in {1,2}} exp(s(hk_i, hl_j)/tau),    k' the other view

    NT-Xent without the positive in the denominator: each view has 2(N - 1) negatives. Eq. 3 is at least this plus
    log 2, and equal to it where both views of every image see the same negatives.

    Arguments and errors as `info_nce`.
    """
    logits, count = _logits(h1, h2, temperature, similarity)
    positive = _mean_positive(logits, count, similarity)
    logits = _without_own_image(logits)
    return logits.logsumexp(1).mean() - positive


def nt_xent(h1: Tensor, h2: Tensor, temperature: float, similarity: Similarity = cosine) -> Tensor:
    """SimCLR's loss (Chen et al. 2020): each of the 2N vectors picks its partner out of the 2N - 1 others; the mean
    of 2N.

    Arguments and errors as `info_nce`.
    """
    logits, count = _logits(h1, h2, temperature, similarity)
    positive = _mean_positive(logits, count, similarity)
    logits = logits.masked_fill(torch.eye(2 * count, dtype=torch.bool, device=logits.device), -math.inf)
    return logits.logsumexp(1).mean() - positive


def _logits(h1: Tensor, h2: Tensor, temperature: float, similarity: Similarity) -> tuple[Tensor, int]:
    """Similarity over tau between all 2N vectors of all ranks, (2N, 2N), and N."""
    with torch.autocast(h1.device.type, enabled=False):
        views = all_views(h1, h2)  # (N, 2, D)
        return similarity(views.transpose(0, 1).flatten(0, 1)) / temperature, len(views)


def _mean_positive(logits: Tensor, count: int, similarity: Similarity) -> Tensor:
    """The pairs' mean logit, over both directions where s(a, b) and s(b, a) differ."""
    there = logits.diagonal(count).mean()
    return there if similarity is cosine else (there + logits.diagonal(-count).mean()) / 2


def _without_own_image(logits: Tensor) -> Tensor:
    """Logits with -inf where row and column are views of one image."""
    count = len(logits) // 2
    image = torch.arange(2 * count, device=logits.device) % count
    return logits.masked_fill(image[:, None] == image[None, :], -math.inf)
