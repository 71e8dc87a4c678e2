"""Classifiers that probe a representation which they do not train: nearest neighbours and the logistic regression.

N images, D features, K classes. All compute in float64, so that ranks and machines agree; none looks at a test label
before it is done. The closed-form probe is in `ridge`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hssl_ray.trial.standardised import Standardised, Units, blocks

KNN_NEIGHBOURS = 20
KNN_TEMPERATURE = 0.07
KNN_BLOCKS = 8
"""Blocks' worth of numbers held at once: the whole bank is read for every block of queries."""
CACHED_BLOCKS = 4
"""Part of a block's numbers that the regression works on at once, as a divisor."""
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
    parts = blocks(len(test), len(train) // KNN_BLOCKS)
    # One place for the cosines of all parts: what is kept of a part would lie in the hole that its cosines leave, and
    # the next part's would not fit there.
    place = bank.new_empty(len(queries[parts[0]]), len(train))
    for rows in parts:
        cosines = torch.mm(queries[rows], bank.T, out=place[: len(queries[rows])])
        nearest = cosines.topk(min(neighbours, len(train)), dim=1)
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
    chosen, start = LOGISTIC_PENALTIES[-2], None
    if len(train) >= HELD_OUT * classes:
        held = torch.arange(len(train), device=train.device) % HELD_OUT == HELD_OUT - 1
        order, rest = held.argsort(stable=True), int((~held).sum())
        train, train_labels = train[order], train_labels[order]  # so that neither part is copied
        losses: list[float] = []
        found: list[Tensor] = []
        for penalty in LOGISTIC_PENALTIES:  # each starts where the stronger penalty before it ended
            of_rest = train[:rest], units, train_labels[:rest], classes
            found.append(logistic_regression(*of_rest, penalty, found[-1] if found else None, SEARCH_TOLERANCE))
            losses.append(_cross_entropy(found[-1], train[rest:], units, train_labels[rest:])[0].item())
        best = losses.index(min(losses))
        chosen, start = LOGISTIC_PENALTIES[best], found[best]
    weights = logistic_regression(train, units, train_labels, classes, chosen, start)
    return top1(torch.cat([_logits(units.like(test[rows]), weights) for rows in blocks(*test.shape)]), test_labels)


def logistic_regression(
    features: Tensor,
    units: Units,
    labels: Tensor,
    classes: int,
    penalty: float,
    start: Tensor | None = None,
    tolerance: float = TOLERANCE,
) -> Tensor:
    """Weights W (D + 1, K), the last row the biases, that minimise the mean cross-entropy + penalty / 2 |W|**2 of
    features (N, D) read in these units.

    Full-batch L-BFGS (Nocedal 1980) with strong Wolfe line search until no entry of the gradient is above the
    tolerance. The problem is strictly convex but for a constant added to all biases, so the start is a matter
    of time alone. So is the scale: the search is for V = B**(1/2) W, in which no curvature is above 1.
    Biases are not penalised.
    """
    root, inverse = _curvature_roots(features, units, penalty)
    v = (root.new_zeros(len(root), classes) if start is None else root @ start).requires_grad_()
    solver = torch.optim.LBFGS(
        [v],
        max_iter=MOST_ITERATIONS,
        max_eval=2 * MOST_ITERATIONS,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    @torch.no_grad()
    def loss() -> Tensor:
        weights = inverse @ v
        value, gradient = _cross_entropy(weights, features, units, labels)
        gradient[:-1] += penalty * weights[:-1]
        done = gradient.abs().max() <= tolerance
        v.grad = torch.zeros_like(v) if done else inverse @ gradient  # zero ends the search
        return value + penalty / 2 * weights[:-1].square().sum()

    solver.step(loss)  # type: ignore[no-untyped-call]
    return inverse @ v.detach()


def _curvature_roots(features: Tensor, units: Units, penalty: float) -> tuple[Tensor, Tensor]:
    """B**(1/2) and its inverse, (D + 1, D + 1), of the bound B = x'x / 2N + penalty on the curvature, where x has
    a column of ones for the biases.

    Source: Boehning, Multinomial logistic regression algorithm, 1992.
    """
    count, width = features.shape
    bound = units.mean.new_zeros(width + 1, width + 1)
    for rows in blocks(count, width):
        x = units.like(features[rows])
        bound[:-1, :-1].addmm_(x.T, x)
        bound[-1, :-1] += x.sum(0)
    bound[:-1, -1] = bound[-1, :-1]
    bound[-1, -1] = count
    bound /= 2 * count
    bound[:-1, :-1].diagonal().add_(penalty)
    eigenvalues, vectors = torch.linalg.eigh(bound)
    roots = eigenvalues.clamp(min=torch.finfo(bound.dtype).eps).sqrt()
    return vectors * roots @ vectors.T, vectors / roots @ vectors.T


def _cross_entropy(weights: Tensor, features: Tensor, units: Units, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The mean over rows, and its gradient: x'(p - y) / N, with p the probabilities.

    Blocks of rows stay in a core's cache from float64's making to the gradient; autograd would hold all of it.
    """
    value, gradient = weights.new_zeros(()), torch.zeros_like(weights)
    for rows in blocks(len(features), CACHED_BLOCKS * features.shape[1]):
        x, of_rows = units.like(features[rows]), labels[rows, None]
        log_p = _logits(x, weights).log_softmax(1)
        value -= log_p.gather(1, of_rows).sum()
        wrong = log_p.exp_()
        wrong.scatter_add_(1, of_rows, wrong.new_full(of_rows.shape, -1))
        gradient[:-1].addmm_(x.T, wrong)
        gradient[-1] += wrong.sum(0)
    return value / len(features), gradient / len(features)


def _logits(x: Tensor, weights: Tensor) -> Tensor:
    return torch.addmm(weights[-1], x, weights[:-1])
