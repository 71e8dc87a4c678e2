"""What a number of seeds can show, in plain Python: `hssl-ray plan` has no time to import scipy.

Two independent arms of n seeds each, normal values with one standard deviation sd, tested by Student's t with 2n - 2
degrees of freedom. Powers are exact: conditional on the estimated spread they are normal probabilities, and the
spread's distribution is integrated numerically.
"""

from __future__ import annotations

import math
from collections.abc import Callable

_MOST_SEEDS = 100_000
_INTERVALS = 200  # of Simpson's rule; powers agree with scipy's to 1e-6
_WIDEST = 8.0  # standard deviations of the estimated spread that are integrated over


def difference_power(seeds: int, sd: float, difference: float, confidence: float = 0.95) -> float:
    """Chance that a two-sided t test finds a true difference; 0 for one seed.

    Args:
        seeds: replicates in each arm.
        sd: standard deviation between seeds, > 0, in the metric's unit.
        difference: between the arms' true means.
        confidence: 1 - alpha.
    """
    if seeds < 2:
        return 0.0
    freedom, shift = 2 * seeds - 2, difference / (sd * math.sqrt(2 / seeds))
    bound = t_quantile(0.5 + confidence / 2, freedom)
    return _average(lambda u: _normal_cdf(shift - bound * u) + _normal_cdf(-shift - bound * u), freedom, math.inf)


def equivalence_power(seeds: int, sd: float, margin: float, confidence: float = 0.95) -> float:
    """Chance that two one-sided tests show equivalence within the margin when the true difference is zero."""
    if seeds < 2:
        return 0.0
    freedom, room = 2 * seeds - 2, margin / (sd * math.sqrt(2 / seeds))
    bound = t_quantile(confidence, freedom)
    return _average(lambda u: 2 * _normal_cdf(room - bound * u) - 1, freedom, room / bound)


def detectable_difference(seeds: int, sd: float, confidence: float = 0.95, power: float = 0.8) -> float | None:
    """The true difference that a two-sided t test finds with the given power; None for one seed."""
    if seeds < 2:
        return None
    return _root(lambda difference: difference_power(seeds, sd, difference, confidence) - power, sd)


def provable_margin(seeds: int, sd: float, confidence: float = 0.95, power: float = 0.8) -> float | None:
    """The smallest margin within which equivalence is shown with the given power; None for one seed."""
    if seeds < 2:
        return None
    return _root(lambda margin: equivalence_power(seeds, sd, margin, confidence) - power, sd)


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


def _average(chance: Callable[[float], float], freedom: int, end: float) -> float:
    """Mean of chance(u) over u = estimated / true spread = sqrt(chi2 / freedom), where u < end, by Simpson's rule."""
    reach = _WIDEST / math.sqrt(2 * freedom)
    low, high = max(0.0, 1 - reach), min(1 + reach, end)
    if high <= low:
        return 0.0
    constant = math.log(2) + freedom / 2 * math.log(freedom / 2) - math.lgamma(freedom / 2)

    def weighted(u: float) -> float:
        if u == 0:
            return 0.0
        return chance(u) * math.exp(constant + (freedom - 1) * math.log(u) - freedom * u * u / 2)

    step = (high - low) / _INTERVALS
    inner = sum((4 if i % 2 else 2) * weighted(low + i * step) for i in range(1, _INTERVALS))
    return step / 3 * (weighted(low) + inner + weighted(high))


def _root(rising: Callable[[float], float], scale: float) -> float:
    """Where a rising function crosses zero, above 0, to a part in 1e9."""
    low, high = 0.0, scale
    while rising(high) < 0:
        low, high = high, 2 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return high


def _normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


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
