"""Similarities s(a, b) between all rows of a batch, as contrastive objectives compare them: (M, D) -> (M, M)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hssl_ray.method.criterion_spec import SimilarityName

Similarity = Callable[[Tensor], Tensor]
"""Entry [a, b] is s(row a, row b); only cosine's matrix is symmetric."""


def cosine(rows: Tensor) -> Tensor:
    """s(a, b) = a . b / |a| |b|."""
    rows = F.normalize(rows, dim=1)
    return rows @ rows.T


class Bilinear(nn.Module):
    """The log-bilinear model of Eq. 8 on projected views a = h(v1), b = h(v2), with a learned W.

    Inside the softmax (reading A2, the practice of DIM and GIM) it is s(a, b) = a^T W b, so that the exponential of
    the softmax is the one in "sim(a, b) = exp(a^T W b)". `literal` exponentiates here too, as Eq. 8 is printed:
    s(a, b) = exp(a^T W b), which leaves float32 where a^T W b passes 88.

    W is kept as D times W and starts at the identity: rows that BatchNorm has brought to length sqrt(D) then start
    near their cosine, a temperature means what it means there, and one step of Adam moves s by a share of itself.
    """

    def __init__(self, width: int, *, literal: bool) -> None:
        super().__init__()
        self.literal = literal
        self.weight = nn.Parameter(torch.eye(width))

    def forward(self, rows: Tensor) -> Tensor:
        scores = rows @ (self.weight / len(self.weight)) @ rows.T
        return scores.exp() if self.literal else scores


def build_similarity(name: SimilarityName, width: int) -> Similarity:
    """The similarity of a study file, for rows of `width` numbers; a module where it learns."""
    return cosine if name == "cosine" else Bilinear(width, literal=name == "literal_bilinear")
