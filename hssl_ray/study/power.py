"""What a number of seeds can show, in plain Python: `hssl-ray plan` has no time to import scipy.

Two independent arms of n seeds each with equal standard deviation; Student's t throughout, with the noncentral t
replaced by a shifted central one, which is within a few per cent from n = 3 on.
"""

from __future__ import annotations

import math

_MOST_SEEDS = 100_000


def detectable_difference(seeds: int, sd: float, confidence: float = 0.95, power: float = 0.8) -> float | None:
    """The true difference that a two-sided t test finds with the given power; None for one seed.

        delta = (t_{1 - alpha/2} + t_{power}) * sd * sqrt(2 / n),   2n - 2 degrees of freedom

    Args:
        seeds: replicates in each arm.
        sd: standard deviation between seeds, in the metric's unit.
        confidence: 1 - alpha.
    """
    if seeds < 2:
        return None
    freedom = 2 * seeds - 2
    quantiles = t_quantile(0.5 + confidence / 2, freedom) + t_quantile(power, freedom)
    return quantiles * sd * math.sqrt(2 / seeds)


def equivalence_power(seeds: int, sd: float, margin: float, confidence: float = 0.95) -> float:
    """Chance that two one-sided tests show equivalence within the margin when the true difference is zero."""
    if seeds < 2:
        return 0.0
    if sd == 0:
        return 1.0
    freedom = 2 * seeds - 2
    slack = margin / (sd * math.sqrt(2 / seeds)) - t_quantile(confidence, freedom)
    return max(0.0, 2 * t_cdf(slack, freedom) - 1)


def provable_margin(seeds: int, sd: float, confidence: float = 0.95, power: float = 0.8) -> float | None:
    """The smallest margin within which equivalence is shown with the given power; None for one seed."""
    if seeds < 2:
        return None
    freedom = 2 * seeds - 2
    quantiles = t_quantile(confidence, freedom) + t_quantile(0.5 + power / 2, freedom)
    return quantiles * sd * math.sqrt(2 / seeds)


def seeds_for_margin(sd: float, margin: float, confidence: float = 0.95, power: float = 0.8) -> int | None:
    """The seeds an arm needs to show equivalence within the margin; None above 100,000."""
    low, high = 1, 2
    while equivalence_power(high, sd, margin, confidence) < power:
        low, high = high, 2 * high
        if low > _MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        enough = equivalence_power(middle, sd, margin, confidence) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


def t_cdf(t: float, freedom: float) -> float:
    """Distribution function of Student's t."""
    tail = 0.5 * _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t))
    return tail if t < 0 else 1 - tail


def t_quantile(p: float, freedom: float) -> float:
    """The t below which a fraction p in (0, 1) lies, by bisection."""
    assert 0 < p < 1
    if p < 0.5:
        return -t_quantile(1 - p, freedom)
    low, high = 0.0, 1.0
    while t_cdf(high, freedom) < p:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if t_cdf(middle, freedom) < p else (low, middle)
    return high


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Regularised incomplete beta function I_x(a, b), by its continued fraction (modified Lentz)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(b, a, 1 - x)
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    front = math.exp(a * math.log(x) + b * math.log1p(-x) - log_beta) / a
    tiny = 1e-300
    c, d = 1.0, 1 / _nonzero(1 - (a + b) * x / (a + 1), tiny)
    fraction = d
    for m in range(1, 300):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _nonzero(1 + term * d, tiny)
            c = _nonzero(1 + term / c, tiny)
            fraction *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return front * fraction


def _nonzero(value: float, tiny: float) -> float:
    return value if abs(value) > tiny else tiny
