"""Objectives I(V1, V2): two batches of vectors in, one number out; negatives come from every rank.

N images, D numbers per vector. Row i of both batches belongs to image i. The projection head h is applied by the
caller.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from hssl_ray.method.gather import all_gather


def info_nce(h1: Tensor, h2: Tensor, temperature: float) -> Tensor:
    """Contrastive loss of Eq. 3, summed over the batch:

        I_i = -1/N log( exp(s(h1_i, h2_i)/tau) / sum_{j != i} sum_{k,l in {1,2}} exp(s(hk_i, hl_j)/tau) )

    with cosine similarity s. To the letter: the positive pair is not in the denominator, and both views of image i
    share the one denominator of 4(N - 1) negatives, so the loss may be negative. With several ranks every rank
    computes the loss of the whole batch.

    Args:
        h1, h2: projected views, (N, D), of any floating type; computed in at least float32.
        temperature: tau > 0.

    Raises:
        ValueError: shapes differ, or fewer than two images.
    """
    logits, count = _logits(h1, h2, temperature)
    image = torch.arange(2 * count, device=logits.device) % count
    negatives = logits.masked_fill(image[:, None] == image[None, :], -math.inf).logsumexp(1)  # (2N,)
    positives = logits.diagonal(count)  # (N,)
    return (torch.logaddexp(negatives[:count], negatives[count:]) - positives).mean()


def nt_xent(h1: Tensor, h2: Tensor, temperature: float) -> Tensor:
    """SimCLR's loss (Chen et al. 2020): each of the 2N vectors picks its partner out of the 2N - 1 others; the mean
    of 2N.

    Arguments and errors as `info_nce`.
    """
    logits, count = _logits(h1, h2, temperature)
    others = logits.masked_fill(torch.eye(2 * count, dtype=torch.bool, device=logits.device), -math.inf)
    return others.logsumexp(1).mean() - logits.diagonal(count).mean()


def _logits(h1: Tensor, h2: Tensor, temperature: float) -> tuple[Tensor, int]:
    """Cosine similarity over tau between all 2N vectors of all ranks, (2N, 2N), and N."""
    if h1.shape != h2.shape or h1.dim() != 2:
        raise ValueError(f"views: must be two (N, D) batches of one shape, got {tuple(h1.shape)} and {tuple(h2.shape)}")
    with torch.autocast(h1.device.type, enabled=False):
        wide = torch.promote_types(h1.dtype, torch.float32)
        views = all_gather(torch.stack([h1, h2], dim=1).to(wide))  # (N, 2, D), N of all ranks
        if len(views) < 2:
            raise ValueError(f"views: contrast needs at least 2 images, got {len(views)}")
        rows = F.normalize(views.transpose(0, 1).flatten(0, 1), dim=1)  # (2N, D)
        return rows @ rows.T / temperature, len(views)
