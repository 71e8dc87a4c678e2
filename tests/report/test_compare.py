"""Hand-written results in, exact cells, pairs, verdicts and notes out."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import scipy.stats

from hssl_ray.report.compare import cell_curves, compare
from hssl_ray.report.comparison import SCHEMA, Comparison, Question

MakeResults = Callable[..., pa.Table]

QUESTION = Question(study="by-hand", margin=0.02)
A = {"method": "a_ssl", "values": [0.80, 0.81, 0.82]}
H = {"method": "h_ssl", "values": [0.805, 0.815, 0.826]}
FROZEN = {"method": "frozen", "values": [0.70, 0.70, 0.71]}
GOLDEN = Path(__file__).parent / "golden_comparison.json"


def answered(comparison: Comparison) -> Any:
    (pair,) = comparison.pairs
    assert pair.answer is not None
    return pair.answer


def test_the_exact_table_of_three_seeds(make_results: MakeResults) -> None:
    comparison = compare(make_results(A, H, FROZEN), QUESTION)
    (pair,) = comparison.pairs
    assert pair.label == "rotation"
    assert pair.baseline and pair.against
    assert (pair.baseline.name, pair.against.name) == ("a_ssl-rotation", "h_ssl-rotation")
    assert [cell.method for cell in pair.references] == ["frozen"]
    assert pair.baseline.summary and pair.baseline.summary.n == 3
    assert pair.baseline.summary.mean == pytest.approx(0.81)
    assert pair.baseline.summary.std == pytest.approx(0.01)
    answer = answered(comparison)
    assert answer.difference.estimate == pytest.approx(0.016 / 3)
    paired = scipy.stats.ttest_rel(H["values"], A["values"])
    assert answer.p_different == pytest.approx(paired.pvalue)
    assert (answer.interval.low, answer.interval.high) == pytest.approx(tuple(paired.confidence_interval()))
    assert answer.verdict == "both"  # a third of a point's standard error: real, and far inside two points
    assert answer.seeds_missing == 0
    assert pair.notes == ()
    assert comparison.notes == ()


def test_a_cell_stands_in_every_pair_whose_difference_does_not_concern_it(make_results: MakeResults) -> None:
    """A frozen backbone has no base space and H-SSL no augmentation, so one cell of each serves several settings."""
    matched = {**A, "augmentation": "matched", "values": [0.83, 0.82, 0.84]}
    wide = {**H, "base_size": 3, "values": [0.82, 0.83, 0.84]}
    augmented = compare(make_results(A, matched, H, FROZEN), QUESTION)
    assert [(pair.settings["augmentation"], len(pair.cells), pair.answer is None) for pair in augmented.pairs] == [
        ("paper", 3, False),
        ("matched", 3, False),
    ]
    assert {pair.against.name for pair in augmented.pairs if pair.against} == {"h_ssl-rotation"}
    sizes = compare(make_results(H, wide, FROZEN), Question(study="by-hand", baseline="frozen", margin=0.02))
    assert [pair.settings["base_size"] for pair in sizes.pairs if pair.answer] == [1, 3]


def test_a_cell_is_not_lent_where_the_difference_concerns_it(make_results: MakeResults) -> None:
    """Negative control: another width is another frozen backbone, another base another H-SSL."""
    comparison = compare(make_results(A, H, FROZEN, {**H, "width": 0.5}, {**A, "base_size": 3}), QUESTION)
    assert [len(pair.cells) for pair in comparison.pairs] == [3, 1, 2]  # base_size 3 has A-SSL and the frozen backbone


def test_two_settings_that_differ_in_nothing_of_concern_are_one_pair(make_results: MakeResults) -> None:
    """Each has what the other lacks: one of them is left, whole."""
    comparison = compare(make_results(A, {**H, "augmentation": "matched"}), QUESTION)
    (pair,) = comparison.pairs
    assert pair.answer is not None


def test_a_sweep_whose_last_value_is_no_bound_keeps_every_setting(make_results: MakeResults) -> None:
    """Unbounded H-SSL has the frozen backbone's setting and lends to it: one of the two settings must stay."""
    a_ssl, frozen, unbounded = ({**arm, "group": "scale"} for arm in (A, FROZEN, {**H, "distance_metric": "index"}))
    bounded = [{**unbounded, "max_distance": bound} for bound in (1.0, 2.0)]
    question = Question(study="by-hand", baseline="frozen", margin=0.02)
    for arms in ([*bounded, unbounded, a_ssl, frozen], [a_ssl, frozen, *bounded, unbounded]):
        pairs = compare(make_results(*arms), question).pairs
        assert sorted(str(pair.settings["max_distance"]) for pair in pairs if pair.answer) == ["1.0", "2.0", "None"]


def test_gain_over_frozen_has_an_interval(make_results: MakeResults) -> None:
    (pair,) = compare(make_results(A, H, FROZEN), QUESTION).pairs
    assert pair.against and pair.against.gain
    gain = scipy.stats.ttest_rel(H["values"], FROZEN["values"]).confidence_interval()
    assert (pair.against.gain.interval.low, pair.against.gain.interval.high) == pytest.approx(tuple(gain))
    (frozen,) = pair.references
    assert frozen.gain is None


@pytest.mark.parametrize(
    ("against", "verdict", "missing"),
    [
        ([0.800, 0.811, 0.819], "equivalent", 0),
        ([0.85, 0.861, 0.871], "different", 0),
        ([0.805, 0.815, 0.826], "both", 0),
        ([0.79, 0.83, 0.80], "undecided", 8),
    ],
)
def test_the_four_verdicts(make_results: MakeResults, against: list[float], verdict: str, missing: int) -> None:
    answer = answered(compare(make_results(A, {"method": "h_ssl", "values": against}), QUESTION))
    assert answer.verdict == verdict
    assert answer.seeds_missing == missing


def test_a_wider_margin_decides(make_results: MakeResults) -> None:
    results = make_results(A, {"method": "h_ssl", "values": [0.79, 0.83, 0.80]})
    assert answered(compare(results, QUESTION)).verdict == "undecided"
    assert answered(compare(results, Question(study="by-hand", margin=0.2))).verdict == "equivalent"


def test_pairs_are_by_seed_not_by_row(make_results: MakeResults) -> None:
    results = make_results(A, {**H, "values": H["values"][::-1], "seeds": [2, 1, 0]})
    shuffled = results.take(pa.array([5, 0, 3, 2, 4, 1]))
    straight = answered(compare(make_results(A, H), QUESTION))
    assert answered(compare(shuffled, QUESTION)).difference == straight.difference
    crossed = make_results(A, {**H, "seeds": [2, 1, 0]})  # negative control: other partners, other spread
    assert answered(compare(crossed, QUESTION)).difference.spread > 2 * straight.difference.spread


def test_the_plan_chooses_the_design(make_results: MakeResults) -> None:
    """Same seeds: paired. Other seeds: Welch, and said so. One missing trial does not change the design."""
    assert answered(compare(make_results(A, H), QUESTION)).difference.design == "paired"
    disjoint = compare(make_results(A, {**H, "seeds": [3, 4, 5]}), QUESTION)
    assert answered(disjoint).difference.design == "welch"
    assert disjoint.pairs[0].notes == ("the methods have different seeds, so they are compared unpaired (Welch)",)
    partial = compare(make_results(A, {**H, "values": [0.805, 0.815, ("failed", "worker_lost")]}), QUESTION)
    assert answered(partial).difference.design == "paired"
    assert answered(partial).difference.n == 2


def test_unfinished_trials_are_named(make_results: MakeResults) -> None:
    comparison = compare(
        make_results(
            {"method": "a_ssl", "values": [0.80, 0.81, ("planned", None)]},
            {"method": "h_ssl", "values": [0.80, 0.812, ("failed", "out of memory")]},
        ),
        QUESTION,
    )
    assert comparison.pairs[0].notes == (
        "a_ssl: 1 of 3 seeds without a result: seed 2 planned",
        "h_ssl: 1 of 3 seeds without a result: seed 2 failed (out of memory)",
    )
    assert [(gap.name, gap.state) for gap in comparison.gaps] == [
        ("a_ssl-rotation-s2", "planned"),
        ("h_ssl-rotation-s2", "failed"),
    ]
    alone = compare(make_results(A, {**H, "values": [0.805, 0.815, ("running", None)]}), QUESTION)
    assert "compared on seeds 0, 1; only one method has finished on 2" in alone.pairs[0].notes


def test_one_seed_says_that_there_is_no_interval(make_results: MakeResults) -> None:
    one = compare(make_results({"method": "a_ssl", "values": [0.80]}, {"method": "h_ssl", "values": [0.81]}), QUESTION)
    (pair,) = one.pairs
    assert pair.answer is None
    assert pair.notes == ("n = 1: no interval, at least 2 seeds of both methods are needed",)
    assert pair.baseline and pair.baseline.interval is None
    assert json.loads(one.to_json())["pairs"][0]["answer"] is None
    none = compare(make_results({"method": "a_ssl", "values": [("planned", None)]}), QUESTION)
    assert none.pairs[0].baseline and none.pairs[0].baseline.summary is None


def test_seeds_without_any_spread_are_not_trusted_in_silence(make_results: MakeResults) -> None:
    same = [{"method": method, "values": [0.75, 0.5]} for method in ("a_ssl", "h_ssl")]
    (pair,) = compare(make_results(*same), QUESTION).pairs
    assert pair.answer and pair.answer.verdict == "equivalent"
    assert pair.notes[0].startswith("all seeds give the same difference, so its interval has no width")
    assert compare(make_results(A, H), QUESTION).pairs[0].notes == ()


def test_a_missing_partner_is_named(make_results: MakeResults) -> None:
    results = make_results(A, H, {**H, "base_size": 2})
    comparison = compare(results, QUESTION)
    assert [pair.label for pair in comparison.pairs] == ["rotation, base_size=1", "rotation, base_size=2"]
    whole, lonely = comparison.pairs
    assert whole.answer is not None
    assert lonely.answer is None
    assert lonely.notes == ("a_ssl: the study has no cell with this setting, so there is no pair",)
    assert comparison.notes == ()
    only_h = compare(make_results(H), QUESTION)
    assert only_h.notes == ("the study has no a_ssl cell, so there is nothing to compare",)


def test_no_trials_at_all(make_results: MakeResults) -> None:
    comparison = compare(make_results(A).slice(0, 0), QUESTION)
    assert comparison.pairs == ()
    assert comparison.notes == ("no trials: nothing of this study has been planned or run here",)


def test_a_metric_that_nobody_measured_is_named(make_results: MakeResults) -> None:
    comparison = compare(make_results(A, H), Question(study="by-hand", metric="probe/top5"))
    assert {gap.reason for gap in comparison.gaps} == {"no probe/top5"}


def test_a_value_that_is_not_finite_is_a_gap(make_results: MakeResults) -> None:
    comparison = compare(make_results(A, {**H, "values": [0.8, 0.81, math.nan]}), QUESTION)
    assert [gap.seed for gap in comparison.gaps] == [2]
    json.loads(comparison.to_json(), parse_constant=lambda name: pytest.fail(f"{name} in the JSON"))


def test_several_pairs_are_corrected_together(make_results: MakeResults) -> None:
    other = {"method": "h_ssl", "values": [0.840, 0.862, 0.868]}
    arms = [{**arm, "group": group} for group in ("rotation", "scale") for arm in (A, other)]
    comparison = compare(make_results(*arms), QUESTION)
    raw = [pair.answer.p_different for pair in comparison.pairs if pair.answer]
    corrected = [pair.answer.p_different_holm for pair in comparison.pairs if pair.answer]
    assert corrected == pytest.approx([2 * p for p in raw])
    assert comparison.notes[0].startswith("2 pairs, each judged alone; Holm's correction")
    assert answered(compare(make_results(A, other), QUESTION)).p_different_holm is None


def test_the_paper_is_shown_with_the_settings_that_differ(make_results: MakeResults) -> None:
    (pair,) = compare(make_results(A, H, FROZEN), QUESTION).pairs
    assert pair.baseline and pair.baseline.paper
    assert pair.baseline.paper.printed.mean == pytest.approx(0.682)
    assert pair.baseline.paper.departures == (
        "dataset=mnist-mini", "epochs=3", "width=0.25", "warmup_epochs=1", "batch_size=256", "metric=probe/ridge_top1",
    )  # fmt: skip
    assert pair.references[0].paper and pair.references[0].paper.printed.mean == pytest.approx(0.872)
    shape = {"dataset": "mnist", "epochs": 500, "width": 1.0, "warmup_epochs": 10, "batch_size": 4096}
    faithful = compare(
        make_results({**A, **shape}, {**H, **shape, "base_size": 2}, metric="probe/top1"),
        Question(study="by-hand", metric="probe/top1"),
    )
    same, fig_3 = (next(pair.cells.__iter__()) for pair in faithful.pairs)
    assert same.paper and same.paper.departures == ()
    assert fig_3.paper is None  # Table 1 has no other base size
    low = scipy.stats.ttest_ind_from_stats(0.81, 0.01, 3, 0.682, 0.025, 3, equal_var=False).pvalue
    assert same.paper_interval and (0 in same.paper_interval) == (low > 0.05)


def test_a_search_is_represented_by_its_best_suggestion(make_results: MakeResults) -> None:
    arms = [
        {"method": method, "temperature": temperature, "values": values}
        for method, temperature, values in [
            ("a_ssl", 0.1, [0.80, 0.81]),
            ("a_ssl", 0.2, [0.84, 0.85]),
            ("a_ssl", 0.3, [0.95, ("pruned", None)]),
            ("h_ssl", 0.5, [0.83, 0.85]),
            ("h_ssl", 0.6, [0.82, 0.82]),
        ]
    ]
    question = Question(study="by-hand", sampled=("temperature",), search_metric="probe/ridge_top1")
    (pair,) = compare(make_results(*arms), question).pairs
    assert pair.label == "rotation"
    assert pair.baseline and pair.against
    assert (pair.baseline.settings["temperature"], pair.against.settings["temperature"]) == (0.2, 0.5)
    assert pair.baseline.gaps == ()
    assert pair.notes[0] == "a_ssl: the best of 3 suggestions on these seeds, so its mean is optimistic"
    lowest = Question(study="by-hand", sampled=("temperature",), maximize=False)
    (worst,) = compare(make_results(*arms), lowest).pairs
    assert worst.baseline and worst.baseline.settings["temperature"] == 0.1


def test_the_json_is_stable(make_results: MakeResults) -> None:
    """The golden file is the promise to scripts: a change here is a new `SCHEMA`."""
    arms = [
        A,
        H,
        FROZEN,
        {**A, "group": "scale", "values": [0.8, 0.9, ("failed", "disk_full")]},
        {**H, "group": "scale"},
    ]
    said = compare(make_results(*arms), QUESTION).to_json()
    assert json.loads(said)["schema"] == SCHEMA
    expected = json.loads(GOLDEN.read_text())
    assert _rounded(json.loads(said)) == expected


def test_the_verdicts_of_a_study_are_a_table(make_results: MakeResults) -> None:
    table = compare(make_results(A, H), QUESTION).verdicts()
    (row,) = table.to_pylist()
    assert (row["cell"], row["baseline_cell"], row["verdict"], row["n"]) == (
        "h_ssl-rotation",
        "a_ssl-rotation",
        "both",
        3,
    )
    assert compare(make_results(A), QUESTION).verdicts().schema == table.schema


def test_curves_over_seeds() -> None:
    rows = [
        {"trial_id": str(s), "cell": "a", "method": "a_ssl", "seed": s, "epoch": e, "metric": "train/loss", "value": v}
        for s, e, v in [(0, 1, 3.0), (1, 1, 5.0), (0, 2, 1.0), (1, 2, math.nan), (0, 10, None)]
    ]
    curves = cell_curves(pa.Table.from_pylist(rows), 0.9).to_pylist()
    low, high = scipy.stats.t.interval(0.9, 1, loc=4, scale=1)
    assert curves == [
        {"cell": "a", "epoch": 1, "metric": "train/loss", "mean": 4.0, "std": pytest.approx(math.sqrt(2)), "n": 2,
         "low": pytest.approx(low), "high": pytest.approx(high)},
        {"cell": "a", "epoch": 2, "metric": "train/loss", "mean": 1.0, "std": None, "n": 1, "low": None, "high": None},
    ]  # fmt: skip
    empty = pa.Table.from_pylist(rows).slice(0, 0)
    assert cell_curves(empty).num_rows == 0
    assert cell_curves(empty).schema == cell_curves(pa.Table.from_pylist(rows)).schema
    tables = [{**row, "metric": "equivariance/stage1/g1/map"} for row in rows]
    assert cell_curves(pa.Table.from_pylist(rows + tables)).num_rows == 2, "tables of one trial are no curves"


def _rounded(value: Any) -> Any:
    """Twelve digits: the last bits of a t quantile are the library's, not ours."""
    match value:
        case float():
            return float(f"{value:.12g}")
        case dict():
            return {key: _rounded(item) for key, item in value.items()}
        case list():
            return [_rounded(item) for item in value]
        case _:
            return value
