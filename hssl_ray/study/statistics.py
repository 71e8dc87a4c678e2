"""What a few seeds can tell: means with intervals, differences, and tests of equivalence. Pure functions on numbers.

Only `scipy.special` is imported: it has the same t distribution as `scipy.stats` and starts in half the time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from scipy.special import stdtr, stdtrit

Design = Literal["paired", "welch"]
Verdict = Literal["equivalent", "different", "both", "undecided"]


@dataclass(frozen=True)
class Interval:
    """A two-sided confidence interval; `low <= high`, in the units of the values."""

    low: float
    high: float
    confidence: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation (ddof 1) of `n` values; one value has no deviation."""

    mean: float
    std: float | None
    n: int

    def interval(self, confidence: float = 0.95) -> Interval | None:
        """Student's t interval of the mean; None for a single value."""
        if self.std is None:
            return None
        return _interval(self.mean, self.std / math.sqrt(self.n), self.n - 1, confidence)


@dataclass(frozen=True)
class Difference:
    """An estimated difference of two means, and what its uncertainty is made of.

    `standard_error` has `degrees_of_freedom` under Student's t. `spread` is the standard deviation that one more seed
    per side brings, so that n seeds have the standard error spread / sqrt(n) on (n - 1) * freedom_per_seed degrees.
    """

    design: Design
    estimate: float
    standard_error: float
    degrees_of_freedom: float
    spread: float
    freedom_per_seed: float
    n: int

    def interval(self, confidence: float = 0.95) -> Interval:
        """Student's t interval of the difference."""
        return _interval(self.estimate, self.standard_error, self.degrees_of_freedom, confidence)

    def equivalence_interval(self, confidence: float = 0.95) -> Interval:
        """The interval that lies inside ±margin exactly when TOST passes: 1 - 2 alpha, so 90 % at confidence 95 %."""
        return self.interval(2 * confidence - 1)

    @property
    def p_different(self) -> float:
        """Two-sided p of "the means are the same" (Student's or Welch's t test)."""
        return min(1.0, 2 * self._tail(-abs(self.estimate)))

    def p_equivalent(self, margin: float) -> float:
        """p of "the means differ by at least `margin`": two one-sided tests, the worse of the two (TOST)."""
        if not margin > 0:
            raise ValueError(f"margin: must be above 0, got {margin}")
        return max(self._tail(-(self.estimate + margin)), self._tail(self.estimate - margin))

    def verdict(self, margin: float, confidence: float = 0.95) -> Verdict:
        """Equivalent (TOST passes), different (t test rejects), both (a real but small difference), or undecided."""
        return verdict(self.p_equivalent(margin), self.p_different, confidence)

    def _tail(self, distance: float) -> float:
        """P(T <= distance / standard error)."""
        if self.standard_error == 0:  # every seed said the same: the limit of ever smaller errors
            return 0.5 if distance == 0 else float(distance > 0)
        return float(stdtr(self.degrees_of_freedom, distance / self.standard_error))


def summarise(values: Sequence[float]) -> Summary:
    """Mean and standard deviation over seeds. The sums are exact, so equal values have deviation 0, not 1e-17.

    Both are the floats of `statistics.mean` and `statistics.stdev`, which come by way of fractions and take twenty
    times as long: a study may have thousands of cells.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    values = [float(v) for v in values]
    if not values:
        raise ValueError("values: at least one is needed, got none")
    if not all(map(math.isfinite, values)):
        raise ValueError(f"values: must be finite, got {values}")
    ratios = [value.as_integer_ratio() for value in values]
    unit = max(below for _, below in ratios)  # powers of two, so the largest is a multiple of all
    steps = [above * (unit // below) for above, below in ratios]
    n, total = len(steps), sum(steps)
    mean = total / (n * unit)  # of two integers, so rounded once
    if n == 1:
        return Summary(mean, None, 1)
    squares = n * sum(step * step for step in steps) - total * total
    return Summary(mean, _root(squares, n * (n - 1) * unit * unit), n)


def _root(above: int, below: int) -> float:
    """The square root of a ratio of integers, rounded once.

    The integer root has at least 54 bits, and its last one is set where the root is not exact: it lies between two
    floats, or between a float and the middle to the next one, exactly where the true root does.
    """
    shift = max(0, (128 - above.bit_length() + below.bit_length()) // 2)
    whole, rest = divmod(above << 2 * shift, below)
    root = math.isqrt(whole)
    inexact = rest != 0 or root * root != whole
    return (2 * root + inexact) / (2 << shift)


def paired_difference(baseline: Sequence[float], against: Sequence[float]) -> Difference | None:
    """against - baseline where position i of both is the same seed; None below two pairs.

    Raises:
        ValueError: the two do not have one value per seed each.
    """
    if len(baseline) != len(against):
        raise ValueError(f"pairs: both sides need one value per seed, got {len(baseline)} and {len(against)}")
    if len(baseline) < 2:
        return None
    gaps = summarise([b - a for a, b in zip(baseline, against, strict=True)])
    assert gaps.std is not None
    return Difference(
        "paired", gaps.mean, gaps.std / math.sqrt(gaps.n), gaps.n - 1, spread=gaps.std, freedom_per_seed=1, n=gaps.n
    )


def welch_difference(baseline: Summary, against: Summary) -> Difference | None:
    """against - baseline of independent seeds with unequal variances (Welch 1947); None below two values a side.

    `n` is the smaller side's.
    """
    if baseline.std is None or against.std is None:
        return None
    variance_a, variance_b = baseline.std**2, against.std**2
    error_a, error_b = variance_a / baseline.n, variance_b / against.n
    return Difference(
        "welch",
        against.mean - baseline.mean,
        math.sqrt(error_a + error_b),
        _satterthwaite((error_a, baseline.n - 1), (error_b, against.n - 1)),
        spread=math.sqrt(variance_a + variance_b),
        freedom_per_seed=_satterthwaite((variance_a, 1), (variance_b, 1)),
        n=min(baseline.n, against.n),
    )


def verdict(p_equivalent: float, p_different: float, confidence: float = 0.95) -> Verdict:
    """The four outcomes of asking both questions at level 1 - confidence."""
    alpha = 1 - confidence
    match p_equivalent < alpha, p_different < alpha:
        case True, True:
            return "both"
        case True, False:
            return "equivalent"
        case False, True:
            return "different"
        case _:
            return "undecided"


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction for asking several questions at once, in the order given (Holm 1979)."""
    adjusted = [0.0] * len(p_values)
    worst = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = worst
    return adjusted


def _satterthwaite(*parts: tuple[float, float]) -> float:
    """Degrees of freedom of a sum of (variance, degrees of freedom) parts; all of them where no part varies."""
    largest = max(variance for variance, _ in parts)
    if largest == 0:
        return sum(freedom for _, freedom in parts)
    shares = [(variance / largest, freedom) for variance, freedom in parts]  # relative, so that no square underflows
    return sum(share for share, _ in shares) ** 2 / sum(share**2 / freedom for share, freedom in shares)


def _interval(centre: float, standard_error: float, degrees_of_freedom: float, confidence: float) -> Interval:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: must be between 0 and 1, got {confidence}")
    reach = t_quantile((1 + confidence) / 2, degrees_of_freedom) * standard_error
    return Interval(centre - reach, centre + reach, confidence)


@lru_cache(maxsize=1024)
def t_quantile(p: float, degrees_of_freedom: float) -> float:
    """The t below which a fraction p lies; cells of one study share their degrees of freedom."""
    return float(stdtrit(degrees_of_freedom, p))
