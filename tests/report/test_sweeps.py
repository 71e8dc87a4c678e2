"""Trends along an axis: a slope that is there is found, one that is not is not, and the seeds are blocks."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from hssl_ray.report.compare import compare
from hssl_ray.report.comparison import Question
from hssl_ray.report.sweep_figure import sweep_figure
from hssl_ray.report.sweeps import sweeps, trend_table

MakeResults = Callable[..., pa.Table]
QUESTION = Question(study="by-hand")
SIZES = (1, 4, 16, 49)
SEEDS = [-0.05, 0.0, 0.02, 0.04]  # what a seed does to all of its trials: far more than the axis does
NOISE = 0.001 * np.outer(np.arange(len(SIZES)), [1, -1, 2, -2])  # slopes of single seeds, which cancel


def arms(slope: float, method: str = "h_ssl") -> list[dict[str, object]]:
    return [
        {
            "method": method,
            "group": "translation",
            "base_size": size,
            "values": [0.8 + seed + slope * math.log2(size) + float(NOISE[i, j]) for j, seed in enumerate(SEEDS)],
        }
        for i, size in enumerate(SIZES)
    ]


def trend(results: pa.Table, method: str = "h_ssl") -> object:
    (sweep,) = sweeps(compare(results, QUESTION), results)
    return next(series for series in sweep.series if series.method == method).trend


@pytest.mark.parametrize(("slope", "said"), [(0.005, "rises"), (-0.005, "falls"), (0.0, "none shown")])
def test_a_slope_is_found_below_what_seeds_differ_by(make_results: MakeResults, slope: float, said: str) -> None:
    results = make_results(*arms(slope))
    comparison = compare(results, QUESTION)
    found = sweeps(comparison, results)
    table = trend_table(found, comparison)
    assert table is not None
    ((axis, cells, _, _, _, _, seeds, verdict),) = table.rows
    assert (axis, cells, seeds, verdict) == ("base_size", "H-SSL", "4", said)


def test_a_trend_is_the_t_test_of_the_slopes_of_the_seeds(make_results: MakeResults) -> None:
    results = make_results(*arms(0.004))
    values = np.array([arm["values"] for arm in arms(0.004)])
    slopes = [stats.linregress(np.log2(SIZES), values[:, seed]).slope for seed in range(len(SEEDS))]
    oracle = stats.ttest_1samp(slopes, 0.0)
    found = trend(results)
    assert found.slope == pytest.approx(np.mean(slopes))  # type: ignore[attr-defined]
    assert found.p == pytest.approx(oracle.pvalue)  # type: ignore[attr-defined]
    low, high = oracle.confidence_interval(0.95)
    assert (found.interval.low, found.interval.high) == pytest.approx((low, high))  # type: ignore[attr-defined]
    assert found.per == "doubling"  # type: ignore[attr-defined]


def test_seeds_that_lack_a_place_are_left_out_and_one_is_too_few(make_results: MakeResults) -> None:
    gappy = arms(0.005)
    gappy[1]["values"] = [("failed", "oom"), *gappy[1]["values"][1:]]  # type: ignore[index]
    assert trend(make_results(*gappy)).n == 3  # type: ignore[attr-defined]
    for arm in gappy:
        arm["values"] = arm["values"][:2]  # type: ignore[index]
    assert trend(make_results(*gappy)) is None


def test_a_method_that_the_axis_does_not_concern_is_level_and_not_tested(make_results: MakeResults) -> None:
    frozen = {"method": "frozen", "group": "translation", "values": [0.7, 0.71, 0.69, 0.7]}
    results = make_results(*arms(0.005), frozen)
    comparison = compare(results, Question(study="by-hand", baseline="frozen"))
    (sweep,) = sweeps(comparison, results)
    assert {series.method: series.level for series in sweep.series} == {"h_ssl": False, "frozen": True}
    table = trend_table([sweep], comparison)
    assert table is not None and len(table.rows) == 1
    assert "frozen" in sweep_figure(sweep, comparison.question).svg


def test_no_bound_on_the_distance_stands_at_the_groups_diameter(make_results: MakeResults) -> None:
    results = make_results(
        *({"method": "h_ssl", "group": "scale", "max_distance": d, "values": [0.8, 0.9]} for d in (0.2, 0.4, None))
    )
    (sweep,) = sweeps(compare(results, QUESTION), results)
    places = sweep.series[0].places
    assert [place.setting for place in places] == [0.2, 0.4, None]
    assert places[-1].x == pytest.approx(np.log(1.75), abs=0.05)


def test_two_places_and_words_are_no_sweep(make_results: MakeResults) -> None:
    for results in (
        make_results(*arms(0.1)[:2]),
        make_results(
            *({"method": "h_ssl", "group": g, "values": [0.1, 0.2]} for g in ("scale", "rotation", "rotation8"))
        ),
    ):
        assert sweeps(compare(results, QUESTION), results) == []


def test_several_trends_are_corrected_for_being_several(make_results: MakeResults) -> None:
    results = make_results(*arms(0.0), *arms(0.005, "a_ssl"))
    (sweep,) = sweeps(compare(results, QUESTION), results)
    tested = [series.trend for series in sweep.series]
    assert all(one is not None and one.p_holm is not None and one.p_holm >= one.p for one in tested)
    assert len(tested) == 2
