"""The statistics against statsmodels, scipy, and the paper's printed means."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st
from statsmodels.stats.weightstats import ttost_ind, ttost_paired

from hssl_ray.study.statistics import (
    Difference,
    Summary,
    holm,
    paired_difference,
    summarise,
    verdict,
    welch_difference,
)

# A-SSL and H-SSL of the paper's Table 1 in points, mean and std of 3 runs, with what a test of equivalence says:
# difference, 90 % interval, TOST p at 2, 3 and 5 points, smallest margin that passes at 5 %, Welch's p.
PAPER = {
    "MNIST rotation": ((68.2, 2.5), (70.3, 5.4), 2.1, (-6.2, 10.4), (0.511, 0.406, 0.232), 10.4, 0.587, "undecided"),
    "MNIST translation": ((95.9, 0.3), (96.0, 1.3), 0.1, (-2.0, 2.2), (0.060, 0.027, 0.009), 2.2, 0.908, "undecided"),
    "MNIST scale": ((98.6, 0.1), (98.3, 0.2), -0.3, (-0.6, 0.0), (0.001, 0.000, 0.000), 0.6, 0.104, "equivalent"),
    "CIFAR rotation": ((46.1, 0.6), (48.3, 0.5), 2.2, (1.2, 3.2), (0.659, 0.077, 0.002), 3.2, 0.009, "different"),
    "CIFAR translation": ((39.2, 0.5), (36.3, 1.1), -2.9, (-4.6, -1.2), (0.853, 0.448, 0.031), 4.6, 0.029, "different"),
    "CIFAR scale": ((59.4, 0.2), (56.7, 0.4), -2.7, (-3.3, -2.1), (0.963, 0.165, 0.002), 3.3, 0.002, "different"),
    "TIN rotation": ((14.9, 0.3), (13.5, 0.5), -1.4, (-2.2, -0.6), (0.082, 0.007, 0.001), 2.2, 0.021, "different"),
    "TIN scale": ((16.2, 0.4), (14.0, 1.3), -2.2, (-4.3, -0.1), (0.590, 0.200, 0.027), 4.3, 0.088, "undecided"),
}

A = [0.812, 0.804, 0.831, 0.799, 0.820]
H = [0.815, 0.812, 0.826, 0.801, 0.833]

accuracies = st.lists(st.floats(0, 1, width=32), min_size=2, max_size=8)
margins = st.floats(0.001, 0.5)


@pytest.mark.parametrize("row", PAPER)
def test_the_papers_rows(row: str) -> None:
    """Every figure of the table that three runs' mean and std give, to its last printed digit."""
    (a, a_std), (h, h_std), estimate, interval, tost, smallest, welch, answer = PAPER[row]
    difference = welch_difference(Summary(a, a_std, 3), Summary(h, h_std, 3))
    assert difference is not None
    ninety = difference.equivalence_interval(0.95)
    assert ninety.confidence == pytest.approx(0.9)
    assert difference.estimate == pytest.approx(estimate)
    assert (ninety.low, ninety.high) == pytest.approx(interval, abs=0.0501)
    assert [difference.p_equivalent(m) for m in (2, 3, 5)] == pytest.approx(list(tost), abs=0.000501)
    assert max(abs(ninety.low), abs(ninety.high)) == pytest.approx(smallest, abs=0.0501)
    assert difference.p_different == pytest.approx(welch, abs=0.000501)
    assert difference.verdict(2) == answer


def test_the_paper_shows_equivalence_in_one_row_of_eight() -> None:
    differences = [welch_difference(Summary(*row[0], 3), Summary(*row[1], 3)) for row in PAPER.values()]
    passed = {m: sum(d is not None and d.p_equivalent(m) < 0.05 for d in differences) for m in (2, 3, 5)}
    assert passed == {2: 1, 3: 3, 5: 7}
    assert sum(d is not None and d.p_different < 0.05 for d in differences) == 4


@pytest.mark.parametrize("margin", [0.005, 0.01, 0.02])
def test_both_designs_equal_statsmodels_and_scipy(margin: float) -> None:
    paired = paired_difference(A, H)
    welch = welch_difference(summarise(A), summarise(H[:4]))
    assert paired is not None and welch is not None
    assert paired.p_equivalent(margin) == pytest.approx(
        ttost_paired(np.array(H), np.array(A), -margin, margin)[0], rel=1e-9
    )
    oracle = ttost_ind(H[:4], A, -margin, margin, usevar="unequal")[0]
    assert welch.p_equivalent(margin) == pytest.approx(oracle, rel=1e-9)
    for ours, theirs in (
        (paired, scipy.stats.ttest_rel(H, A)),
        (welch, scipy.stats.ttest_ind(H[:4], A, equal_var=False)),
    ):
        assert ours.p_different == pytest.approx(theirs.pvalue, rel=1e-9)
        assert ours.degrees_of_freedom == pytest.approx(theirs.df)
        low, high = theirs.confidence_interval(0.95)
        assert (ours.interval().low, ours.interval().high) == pytest.approx((low, high), rel=1e-9)
    assert paired.p_equivalent(margin) != pytest.approx(welch.p_equivalent(margin), rel=0.01)  # the designs differ


def test_summary_and_its_interval() -> None:
    summary = summarise(A)
    interval = summary.interval(0.95)
    assert interval is not None
    assert summary.std == pytest.approx(scipy.stats.tstd(A))
    low, high = scipy.stats.t.interval(0.95, 4, loc=summary.mean, scale=scipy.stats.sem(A))
    assert (interval.low, interval.high) == pytest.approx((low, high))


def test_one_seed_has_no_interval() -> None:
    one = summarise([0.8])
    assert (one.mean, one.std, one.n) == (0.8, None, 1)
    assert one.interval() is None
    assert welch_difference(one, summarise(A)) is None
    assert paired_difference([0.8], [0.9]) is None


def test_seeds_that_all_agree_decide_without_a_division_by_zero() -> None:
    same = paired_difference([0.8, 0.7, 0.6], [0.8, 0.7, 0.6])
    shifted = welch_difference(summarise([0.5, 0.5]), summarise([0.75, 0.75, 0.75]))
    assert same is not None and shifted is not None
    assert (same.p_equivalent(0.02), same.p_different, same.verdict(0.02)) == (0.0, 1.0, "equivalent")
    assert (shifted.p_equivalent(0.02), shifted.p_different, shifted.verdict(0.02)) == (1.0, 0.0, "different")
    assert shifted.verdict(0.3) == "both"
    assert shifted.p_equivalent(0.25) == 0.5


def test_equal_values_have_no_spread_from_rounding() -> None:
    assert summarise([0.1] * 49).std == 0
    assert summarise([0.1] * 49).mean == 0.1


@pytest.mark.parametrize(
    ("p_equivalent", "p_different", "answer"),
    [(0.01, 0.5, "equivalent"), (0.5, 0.01, "different"), (0.01, 0.01, "both"), (0.5, 0.5, "undecided")],
)
def test_the_four_verdicts(p_equivalent: float, p_different: float, answer: str) -> None:
    assert verdict(p_equivalent, p_different) == answer


@pytest.mark.parametrize(
    ("call", "says"),
    {
        "no values": (lambda: summarise([]), "values: at least one is needed, got none"),
        "not a number": (lambda: summarise([0.1, math.nan]), "values: must be finite, got"),
        "uneven pairs": (lambda: paired_difference(A, A[:2]), "pairs: both sides need one value per seed, got 5 and 2"),
        "confidence": (lambda: summarise(A).interval(1.0), "confidence: must be between 0 and 1, got 1.0"),
        "margin": (lambda: _welch(A, H).p_equivalent(0), "margin: must be above 0, got 0"),
    }.values(),
)
def test_errors_name_the_rule_and_the_value(call: object, says: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=says):
        call()


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_only_raises_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    assert [adjusted[i] for i in order] == sorted(adjusted)


@given(accuracies, margins)
def test_tost_passes_exactly_when_its_interval_lies_inside_the_margin(values: list[float], margin: float) -> None:
    difference = paired_difference([0.0] * len(values), [v - 0.5 for v in values])
    assert difference is not None
    inside = difference.equivalence_interval()
    reach = max(-inside.low, inside.high)
    assume(abs(reach - margin) > 1e-9)
    assert (difference.p_equivalent(margin) < 0.05) == (reach < margin)
    outside = difference.interval()
    assume(min(abs(outside.low), abs(outside.high)) > 1e-9)
    assert (difference.p_different < 0.05) == (0 not in outside)


@given(accuracies, accuracies, margins)
def test_exchanging_the_sides_changes_the_sign_alone(a: list[float], h: list[float], margin: float) -> None:
    there, back = _welch(a, h), _welch(h, a)
    assert there.estimate == -back.estimate
    assert there.p_equivalent(margin) == pytest.approx(back.p_equivalent(margin))
    assert there.p_different == pytest.approx(back.p_different)


@given(accuracies, st.floats(-0.5, 0.5), margins)
def test_a_common_shift_of_both_sides_changes_nothing(a: list[float], shift: float, margin: float) -> None:
    h = a[::-1]
    here = paired_difference(a, h)
    moved = paired_difference([v + shift for v in a], [v + shift for v in h])
    assert here is not None and moved is not None
    assert moved.estimate == pytest.approx(here.estimate, abs=1e-12)
    assert moved.spread == pytest.approx(here.spread, abs=1e-12)


@given(accuracies, margins, margins)
def test_a_wider_margin_is_easier(values: list[float], one: float, other: float) -> None:
    difference = _welch(values, values[::-1])
    narrow, wide = sorted((one, other))
    assert difference.p_equivalent(wide) <= difference.p_equivalent(narrow)


def _welch(a: Sequence[float], h: Sequence[float]) -> Difference:
    difference = welch_difference(summarise(a), summarise(h))
    assert difference is not None
    return difference


finite = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e150, max_value=1e150)


@given(st.lists(finite | st.floats(0, 1) | st.sampled_from([0.1, -0.0, 5e-324]), min_size=2, max_size=7))
def test_mean_and_deviation_are_those_of_the_standard_library_to_the_last_bit(values: list[float]) -> None:
    found = summarise(values)
    assert (repr(found.mean), repr(found.std)) == (repr(statistics.mean(values)), repr(statistics.stdev(values)))


def test_plain_sums_are_not_exact() -> None:
    """Why they are not used: three equal values would have a deviation."""
    assert np.std([0.1] * 3, ddof=1) > 0
    assert summarise([0.1] * 3).std == 0.0
