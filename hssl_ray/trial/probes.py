"""Classifiers that probe a representation which they do not train: nearest neighbours and the logistic regression.

N images, D features, K classes. All compute in float64, so that ranks and machines agree; none looks at a test label
before it is done. The closed-form probe is in `ridge`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from hssl_ray.trial.standardised import Standardised, blocks

KNN_NEIGHBOURS = 20
KNN_TEMPERATURE = 0.07
KNN_BLOCKS = 8
"""Blocks' worth of numbers held at once: the whole bank is read for every block of queries."""
LOGISTIC_PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4)
"""Half the weight of |W|**2 beside the mean cross-entropy, strongest first."""
HELD_OUT = 5
"""One training image in this many chooses the penalty."""
TOLERANCE, SEARCH_TOLERANCE = 1e-6, 1e-3
"""Largest entry of the gradient at which a regression is done, and one that is only there to choose a penalty."""
MOST_ITERATIONS = 1000


def top1(logits: Tensor, labels: Tensor) -> float:
    """Share of images whose largest logit is their class."""
    return (logits.argmax(1) == labels).double().mean().item()


def knn_top1(
    train: Tensor,
    train_labels: Tensor,
    test: Tensor,
    test_labels: Tensor,
    classes: int,
    neighbours: int = KNN_NEIGHBOURS,
) -> float:
    """Test accuracy of the vote of the nearest training images, by cosine s, each with the weight exp(s / 0.07).

    Source: Wu et al., Unsupervised feature learning via non-parametric instance discrimination, 2018.
    """
    bank, queries = _unit(train), _unit(test)
    votes = torch.zeros(len(test), classes, dtype=torch.float64, device=test.device)
    for rows in blocks(len(test), len(train) // KNN_BLOCKS):
        nearest = (queries[rows] @ bank.T).topk(min(neighbours, len(train)), dim=1)
        weights = ((nearest.values - 1) / KNN_TEMPERATURE).exp()  # a common factor changes no vote
        votes[rows].scatter_add_(1, train_labels[nearest.indices], weights)
    return top1(votes, test_labels)


def _unit(features: Tensor) -> Tensor:
    """Rows at unit length, float64, in no more memory than that."""
    rows = features.to(torch.float64, copy=True)
    return rows.div_(rows.norm(dim=1, keepdim=True).clamp_min_(1e-12))


def linear_top1(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor, classes: int) -> float:
    """Test accuracy of multinomial logistic regression on standardised features, trained to convergence.

    The penalty is the one of LOGISTIC_PENALTIES with least cross-entropy on every fifth training image, of regressions
    on the others; the weakest but one if the training set is too small to hold any out.
    """
    units = Standardised(train).units
    x, x_test = units.like(train), units.like(test)
    held = torch.arange(len(x), device=x.device) % HELD_OUT == HELD_OUT - 1
    chosen, start = LOGISTIC_PENALTIES[-2], None
    if len(x) >= HELD_OUT * classes:
        losses, found = [], []
        rest, rest_labels = x[~held], train_labels[~held]
        for penalty in LOGISTIC_PENALTIES:  # each starts where the stronger penalty before it ended
            start = logistic_regression(rest, rest_labels, classes, penalty, start, SEARCH_TOLERANCE)
            losses.append(F.cross_entropy(_logits(x[held], start), train_labels[held]).item())
            found.append(start)
        best = losses.index(min(losses))
        chosen, start = LOGISTIC_PENALTIES[best], found[best]
    weights = logistic_regression(x, train_labels, classes, chosen, start)
    return top1(_logits(x_test, weights), test_labels)


def logistic_regression(
    x: Tensor,
    labels: Tensor,
    classes: int,
    penalty: float,
    start: Tensor | None = None,
    tolerance: float = TOLERANCE,
) -> Tensor:
    """Weights W (D + 1, K), the last row the biases, that minimise the mean cross-entropy + penalty / 2 |W|**2.

    Full-batch L-BFGS (Nocedal 1980) with strong Wolfe line search until no entry of the gradient is above the
    tolerance. The problem is strictly convex but for a constant added to all biases, so the start is a matter
    of time alone. So is the scale: the search is for V = B**(1/2) W, in which no curvature is above 1.
    Biases are not penalised.
    """
    root, inverse = _curvature_roots(x, penalty)
    shape = (x.shape[1] + 1, classes)
    v = (torch.zeros(shape, dtype=x.dtype, device=x.device) if start is None else root @ start).requires_grad_()
    solver = torch.optim.LBFGS(
        [v],
        max_iter=MOST_ITERATIONS,
        max_eval=2 * MOST_ITERATIONS,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        solver.zero_grad()
        with torch.enable_grad():
            weights = inverse @ v
            value = F.cross_entropy(_logits(x, weights), labels) + penalty / 2 * weights[:-1].square().sum()
            value.backward()  # type: ignore[no-untyped-call]
        assert v.grad is not None
        if (root @ v.grad).abs().max() <= tolerance:  # that of W
            v.grad.zero_()  # which ends the search
        return value

    solver.step(loss)  # type: ignore[no-untyped-call]
    return inverse @ v.detach()


def _curvature_roots(x: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """B**(1/2) and its inverse, (D + 1, D + 1), of the bound B = x'x / 2N + penalty on the curvature, where x has
    a column of ones for the biases.

    Source: Boehning, Multinomial logistic regression algorithm, 1992.
    """
    count, width = x.shape
    bound = x.new_zeros(width + 1, width + 1)
    bound[:-1, :-1] = x.T @ x / (2 * count)
    bound[-1, :-1] = bound[:-1, -1] = x.mean(0) / 2
    bound[-1, -1] = 0.5
    bound[:-1, :-1].diagonal().add_(penalty)
    eigenvalues, vectors = torch.linalg.eigh(bound)
    roots = eigenvalues.clamp(min=torch.finfo(x.dtype).eps).sqrt()
    return vectors * roots @ vectors.T, vectors / roots @ vectors.T


def _logits(x: Tensor, weights: Tensor) -> Tensor:
    return x @ weights[:-1] + weights[-1]
