"""The closed-form probe: ridge regression whose penalty is chosen by leave-one-out error, in bounded memory.

N images, D features, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hssl_ray.trial.probes import top1
from hssl_ray.trial.standardised import Standardised, Units, blocks

PENALTIES = torch.logspace(-6, 2, 17, dtype=torch.float64)
"""Relative to the mean eigenvalue of the standardised features' second moments."""


def ridge_top1(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor, classes: int) -> float:
    """Test accuracy of `Ridge` on features (N, D)."""
    return Ridge.fit(train, train_labels, classes).top1(test, test_labels)


@dataclass(frozen=True)
class Ridge:
    """Ridge regression from features onto one-hot labels, in closed form and in float64; the training set is gone.

    Features are standardised by the training set. The penalty is the one of PENALTIES with least leave-one-out error
    on the training set, which one eigendecomposition gives for all of them; a test set chooses nothing.
    """

    units: Units
    weights: Tensor
    """(D, K)."""
    label_means: Tensor
    """(K,)."""

    @classmethod
    def fit(cls, train: Tensor, labels: Tensor, classes: int) -> Ridge:
        """From features (N, D) and labels (N,)."""
        x = Standardised(train)
        y = F.one_hot(labels, classes).double()
        y_mean = y.mean(0)
        return cls(x.units, _weights(x, y - y_mean), y_mean)

    def top1(self, test: Tensor, labels: Tensor) -> float:
        """Share of (N, D) features whose class is found."""
        fits = [self.units.like(test[rows]) @ self.weights for rows in blocks(len(test), test.shape[1])]
        return top1(torch.cat(fits) + self.label_means, labels)


def _weights(x: Standardised, y: Tensor) -> Tensor:
    """Weights (D, K) from standardised features to centred targets (N, K), at the penalty of least leave-one-out error.

    With x = U S V', the fit at penalty p is U s U'y, where s = S**2 / (S**2 + p). Row i has leverage (U s U')_ii + 1/N,
    of which 1/N is the mean's, and would miss by its residual / (1 - leverage) if it were left out. U S comes from the
    D x D moments, or from the N x N products of rows where that is smaller; nothing else of that size is held.
    """
    primal = x.width <= x.count
    eigenvalues, vectors = torch.linalg.eigh(_moments(x) if primal else _products(x))
    eigenvalues = eigenvalues.clamp(min=0)

    def scores(rows: slice) -> Tensor:
        """Rows of U S."""
        return torch.matmul(x[rows], vectors) if primal else vectors[rows] * eigenvalues.sqrt()

    of_u = None if primal else vectors.T @ y  # U'y
    moments = vectors.T @ x.across(y) if of_u is None else eigenvalues.sqrt()[:, None] * of_u  # (U S)'y
    penalties = PENALTIES.to(y.device) * eigenvalues.sum() / x.width
    shrink = 1 / (eigenvalues + penalties.clamp(min=torch.finfo(torch.float64).tiny)[:, None])  # (P, D or N)
    coefficients = (shrink[:, :, None] * moments).transpose(0, 1).flatten(1)  # of all penalties side by side
    errors = torch.zeros_like(penalties)
    for rows in x.blocks():
        part = scores(rows)
        rest = (1 - part.square() @ shrink.T - 1 / x.count).clamp(min=1e-9)  # 1 - leverage, (n, P)
        missed = y[rows, None] - (part @ coefficients).unflatten(1, (len(penalties), -1))  # (n, P, K)
        errors += (missed / rest[:, :, None]).square().sum((0, 2))
    best = shrink[errors.argmin(), :, None]
    return torch.matmul(vectors, best * moments) if of_u is None else x.across(vectors @ (best * of_u))


def _moments(x: Standardised) -> Tensor:
    """x' x, (D, D)."""
    total = torch.zeros(x.width, x.width, dtype=torch.float64, device=x.device)
    for rows in x.blocks():
        part = x[rows]
        total.addmm_(part.T, part)
    return total


def _products(x: Standardised) -> Tensor:
    """x x', (N, N)."""
    total = torch.empty(x.count, x.count, dtype=torch.float64, device=x.device)
    for rows in x.blocks():
        part = x[rows]
        for others in x.blocks():
            total[rows, others] = part @ x[others].T
    return total
