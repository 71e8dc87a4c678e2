"""How many seeds a decision needs: exact power of the tests in `statistics`, and the smallest n that reaches it."""

from __future__ import annotations

import math
from functools import cache, lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri, ndtr

from hssl_ray.study.statistics import Difference, t_quantile

Outcome = Literal["equivalent", "different", "decided"]
Floats = NDArray[np.float64]

POWER = 0.8
MOST_SEEDS = 1_000_000  # an answer beyond this is "never"


def power(
    outcome: Outcome,
    n: int,
    *,
    spread: float,
    freedom_per_seed: float,
    true_difference: float,
    margin: float,
    confidence: float = 0.95,
) -> float:
    """Chance that n seeds per side end with `outcome`, for normal values; `spread` and freedom as in `Difference`.

    Given the estimated standard error s, the estimate D is normal around the true difference; the verdict is
    equivalent when |D| < margin - t1 s and different when |D| > t2 s. s follows a chi distribution, over whose
    quantiles this is integrated. `decided` is either outcome or both.
    """
    if n < 2:
        return 0.0
    freedom = (n - 1) * freedom_per_seed
    true_error = max(spread / math.sqrt(n), 1e-12 * margin)  # no spread at all: the limit of a small one
    _, weights = _quadrature()
    errors = true_error * _spreads(freedom)
    inner = margin - t_quantile(confidence, freedom) * errors
    outer = t_quantile((1 + confidence) / 2, freedom) * errors
    match outcome:
        case "equivalent":
            chances = _inside(inner, true_difference, true_error)
        case "different":
            chances = 1 - _inside(outer, true_difference, true_error)
        case "decided":
            either = _inside(inner, true_difference, true_error) + (1 - _inside(outer, true_difference, true_error))
            chances = np.where(inner >= outer, 1.0, either)
    return float(weights @ chances)


def seeds_needed(
    outcome: Outcome,
    difference: Difference | None,
    margin: float,
    confidence: float = 0.95,
    *,
    true_difference: float | None = None,
) -> int | None:
    """Smallest number of seeds per side that ends with `outcome` with power 0.8, at the observed spread.

    `true_difference` defaults to the observed one; 0 asks how many seeds would show an equivalence that is there.
    None where nothing can be said: fewer than two seeds seen, or an outcome that no number of seeds reaches
    (equivalence of a true difference at or beyond the margin).
    """
    if difference is None:
        return None
    truth = difference.estimate if true_difference is None else true_difference

    def enough(n: int) -> bool:
        return (
            power(
                outcome,
                n,
                spread=difference.spread,
                freedom_per_seed=difference.freedom_per_seed,
                true_difference=truth,
                margin=margin,
                confidence=confidence,
            )
            >= POWER
        )

    too_few, many = 1, 2
    while not enough(many):
        if many >= MOST_SEEDS:
            return None
        too_few, many = many, 2 * many
    while many - too_few > 1:
        middle = (too_few + many) // 2
        too_few, many = (too_few, middle) if enough(middle) else (middle, many)
    return many


def _inside(half_width: Floats, mean: float, deviation: float) -> Floats:
    """P(|D| < half_width) for D normal; 0 where the width is negative."""
    inside: Any = ndtr((half_width - mean) / deviation) - ndtr((-half_width - mean) / deviation)
    return np.where(half_width > 0, inside, 0.0)


@lru_cache(maxsize=1024)
def _spreads(freedom: float) -> Floats:
    """Estimated over true standard error at the quadrature's nodes; pairs of one study ask for the same freedoms."""
    quantiles, _ = _quadrature()
    spreads: Floats = np.sqrt(chdtri(freedom, quantiles) / freedom)
    return spreads


@cache
def _quadrature() -> tuple[Floats, Floats]:
    """Gauss-Legendre nodes and weights on (0, 1)."""
    nodes, weights = np.polynomial.legendre.leggauss(96)
    return (nodes + 1) / 2, weights / 2
