"""The closed-form probe: ridge regression whose penalty is chosen by leave-one-out error, in bounded memory.

N images, D features, K classes, P penalties.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hssl_ray.trial.probes import top1
from hssl_ray.trial.ranks import Ranks
from hssl_ray.trial.standardised import Standardised, Units, blocks

PENALTIES = torch.logspace(-6, 2, 17, dtype=torch.float64)
"""Relative to the mean eigenvalue of the standardised features' second moments."""
ALONE = Ranks(0, 1)


def ridge_top1(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor, classes: int) -> float:
    """Test accuracy of `Ridge` on features (N, D)."""
    return top1(Ridge.fit(train, train_labels, classes).logits(test), test_labels)


@dataclass(frozen=True)
class Ridge:
    """Ridge regression from features onto one-hot labels, in closed form and in float64; the training set is gone.

    Features are standardised by the training set. The penalty is the one of PENALTIES with least leave-one-out error
    on the training set, which one eigendecomposition gives for all of them; a test set chooses nothing.

    With standardised x = U S V', the fit at penalty p is U s U'y, where s = S**2 / (S**2 + p). Row i has leverage
    (U s U')_ii + 1/N, of which 1/N is the mean's, and would miss by its residual / (1 - leverage) if it were left out.
    """

    units: Units
    weights: Tensor
    """(D, K)."""
    label_means: Tensor
    """(K,)."""

    @classmethod
    def fit(cls, train: Tensor, labels: Tensor, classes: int) -> Ridge:
        """From features (N, D) and labels (N,): from their D x D moments, or the N x N products of rows where that is
        smaller.
        """
        if len(train) < train.shape[1]:
            return _fit_products(Standardised(train), labels, classes)
        moments = RidgeMoments(classes)
        moments.add(train, labels)
        choice = moments.choice()
        choice.add(train, labels)
        return choice.best()

    def logits(self, features: Tensor) -> Tensor:
        """Fits (N, K) of other features (N, D); the largest one's class is the guess."""
        fits = [self.units.like(features[rows]) @ self.weights for rows in blocks(*features.shape)]
        return torch.cat(fits) + self.label_means


@dataclass
class _Sums:
    """Of rows x, about a point of the training set so that they keep their digits, and their one-hot labels y."""

    about: Tensor
    """(D,)."""
    x: Tensor
    """(D,)."""
    squares: Tensor
    """x'x, (D, D)."""
    of_classes: Tensor
    """x'y, (D, K)."""
    labels: Tensor
    """(K,)."""

    @classmethod
    def empty(cls, about: Tensor, classes: int) -> _Sums:
        width = len(about)
        return cls(
            about, *(about.new_zeros(shape) for shape in ((width,), (width, width), (width, classes), (classes,)))
        )


class RidgeMoments:
    """First pass over a training set of more images than features: what the eigendecomposition needs of it."""

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._sums: _Sums | None = None

    def add(self, features: Tensor, labels: Tensor, ranks: Ranks = ALONE) -> None:
        """Some of this rank's rows (n, D), as many times as it takes; ranks begin together."""
        if self._sums is None:
            first = features[0].double()
            self._sums = _Sums.empty(ranks.total(first if ranks.first else torch.zeros_like(first)), self._classes)
        sums = self._sums
        for rows in blocks(*features.shape):
            x, y = torch.sub(features[rows], sums.about), F.one_hot(labels[rows], self._classes).double()
            sums.x += x.sum(0)
            sums.squares.addmm_(x.T, x)
            sums.of_classes.addmm_(x.T, y)
            sums.labels += y.sum(0)

    def choice(self, ranks: Ranks = ALONE) -> RidgeChoice:
        """What is left to choose; the moments are used up."""
        assert self._sums is not None
        sums, self._sums = self._sums, None
        x, labels = ranks.total(sums.x), ranks.total(sums.labels)
        squares, of_classes = ranks.total(sums.squares), ranks.total(sums.of_classes)
        del sums.squares
        count = int(labels.sum())
        mean = x / count
        squares.addr_(x, mean, alpha=-1)
        std = (squares.diagonal().clamp(min=0) / (count - 1)).sqrt()
        units = Units(sums.about + mean, torch.where(std > 0, std, torch.ones_like(std)))
        squares.div_(units.std).div_(units.std[:, None])
        of_classes = of_classes.addr(mean, labels, alpha=-1) / units.std[:, None]
        eigenvalues, vectors = torch.linalg.eigh(squares)
        return RidgeChoice(units, count, labels / count, eigenvalues, vectors, of_classes)


class RidgeChoice:
    """Second pass, over the same rows: the leave-one-out error of every penalty.

    Args:
        units, count, label_means: of the training set.
        eigenvalues, vectors: of its standardised features' moments x'x; S**2, (D,), and V, (D, D).
        of_classes: x'y, y the centred targets, (D, K).
    """

    def __init__(
        self, units: Units, count: int, label_means: Tensor, eigenvalues: Tensor, vectors: Tensor, of_classes: Tensor
    ) -> None:
        self._units, self._count, self._label_means, self._vectors = units, count, label_means, vectors
        self._errors = _Errors(eigenvalues, vectors.T @ of_classes, len(of_classes), count)

    def add(self, features: Tensor, labels: Tensor) -> None:
        """Some of this rank's rows (n, D), as many times as it takes."""
        for rows in blocks(*features.shape):
            y = F.one_hot(labels[rows], len(self._label_means)) - self._label_means
            self._errors.add(self._units.like(features[rows]) @ self._vectors, y)

    def best(self, ranks: Ranks = ALONE) -> Ridge:
        errors = self._errors
        return Ridge(self._units, self._vectors @ (errors.best_shrink(ranks) * errors.moments), self._label_means)


class _Errors:
    """Leave-one-out errors of all penalties, from rows of U S.

    Args:
        eigenvalues: S**2.
        moments: (U S)'y.
        width: features, D.
        count: images, N.
    """

    def __init__(self, eigenvalues: Tensor, moments: Tensor, width: int, count: int) -> None:
        eigenvalues = eigenvalues.clamp(min=0)
        penalties = PENALTIES.to(moments.device) * eigenvalues.sum() / width
        tiny = torch.finfo(torch.float64).tiny
        self.moments, self._count = moments, count
        self._shrink = 1 / (eigenvalues + penalties.clamp(min=tiny)[:, None])  # (P, D or N)
        coefficients = self._shrink[:, :, None] * moments
        self._coefficients = coefficients.transpose(0, 1).flatten(1)  # of all penalties side by side
        self._errors = torch.zeros_like(penalties)

    def add(self, scores: Tensor, y: Tensor) -> None:
        """Rows of U S, (n, D or N), and their centred targets (n, K)."""
        rest = (1 - scores.square() @ self._shrink.T - 1 / self._count).clamp(min=1e-9)  # 1 - leverage, (n, P)
        missed = y[:, None] - (scores @ self._coefficients).view(len(y), len(self._errors), -1)  # (n, P, K)
        self._errors += (missed / rest[:, :, None]).square().sum((0, 2))

    def best_shrink(self, ranks: Ranks) -> Tensor:
        """s / S**2 of the penalty with least error, (D or N, 1)."""
        return self._shrink[ranks.total(self._errors).argmin(), :, None]


def _fit_products(x: Standardised, labels: Tensor, classes: int) -> Ridge:
    """Where there are fewer images than features: from x x', whose eigenvectors are U."""
    y = F.one_hot(labels, classes).double()
    label_means = y.mean(0)
    y -= label_means
    eigenvalues, u = torch.linalg.eigh(_products(x))
    lengths, of_u = eigenvalues.clamp(min=0).sqrt(), u.T @ y
    errors = _Errors(eigenvalues, lengths[:, None] * of_u, x.width, x.count)
    for rows in x.blocks():
        errors.add(u[rows] * lengths, y[rows])
    return Ridge(x.units, x.across(u @ (errors.best_shrink(ALONE) * of_u)), label_means)


def _products(x: Standardised) -> Tensor:
    """x x', (N, N)."""
    total = torch.empty(x.count, x.count, dtype=torch.float64, device=x.device)
    for rows in x.blocks():
        part = x[rows]
        for others in x.blocks():
            total[rows, others] = part @ x[others].T
    return total
