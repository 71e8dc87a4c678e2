"""Figure 3's series from hand-written stores: what is a curve, what it is relative to, and every format."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
import scipy.stats

from hssl_ray.report.paper.figure3 import Figure3, figure3
from hssl_ray.report.paper.figure3_data import SCHEMA
from hssl_ray.report.paper.figure3_drawing import figure_png, figure_svg
from hssl_ray.report.paper.readings import TableError
from hssl_ray.report.paper.selection import Query
from hssl_ray.report.paper.sheet import figure_sheet
from hssl_ray.report.paper.where import read_where
from hssl_ray.study.results import results_schema
from hssl_ray.trial.config import TrialConfig

MakeResults = Callable[..., pa.Table]
TOP1 = {"metric": "probe/top1"}

H: dict[str, Any] = {"dataset": "mnist", "group": "scale", "method": "h_ssl", "values": [0.94, 0.95, 0.945]}
LARGER = {**H, "base_size": 3, "values": [0.95, 0.952, 0.956]}
LARGEST = {**H, "base_size": 5, "values": [0.96, ("failed", "oom"), 0.961]}
TURNS = {**H, "dataset": "mnist-mini", "group": "rotation"}
FAR = [{**TURNS, "max_distance": d, "values": [v, v + 0.01]} for d, v in ((0.0, 0.7), (1.0, 0.8), (None, 0.81))]


@pytest.fixture
def store(make_results: MakeResults) -> pa.Table:
    return make_results(H, LARGER, LARGEST, *FAR, {**H, "method": "a_ssl"}, **TOP1)


def made(store: pa.Table, *where: str) -> Figure3:
    return figure3(store, Query(where=read_where(where)))


def test_the_left_half_is_the_change_from_base_size_1_paired_by_seed(store: pa.Table) -> None:
    (curve,) = made(store).left.curves
    one, three, five = curve.points
    assert [point.setting for point in curve.points] == [1, 3, 5]
    assert (one.value, one.interval, one.cell.summary and one.cell.summary.n) == (0.0, None, 3)
    expected = scipy.stats.ttest_rel(LARGER["values"], H["values"]).confidence_interval()
    assert three.value == pytest.approx((0.952667 - 0.945) / 0.945, rel=1e-3)
    assert three.interval is not None
    assert (three.interval.low, three.interval.high) == pytest.approx((expected.low / 0.945, expected.high / 0.945))
    assert five.value == pytest.approx((0.02 + 0.016) / 2 / 0.945)  # seeds 0 and 2, which both have
    assert [gap.seed for gap in curve.gaps] == [1]


def test_the_right_half_is_the_mean_and_no_bound_lies_at_the_diameter(store: pa.Table) -> None:
    (curve,) = made(store).right.curves
    assert [(point.x, point.setting) for point in curve.points] == [(0.0, 0.0), (1.0, 1.0), (2.0, None)]
    assert [round(point.value, 4) for point in curve.points] == [0.705, 0.805, 0.815]
    diameter = TrialConfig(dataset="mnist-mini", group="rotation").geometry.diameter
    assert curve.points[-1].x == diameter
    assert curve.points[0].interval is not None and 0.705 in curve.points[0].interval


def test_one_value_is_no_curve_and_neither_are_sizes_without_1(make_results: MakeResults) -> None:
    for arms in ([H], [LARGER, LARGEST], [{**H, "method": "a_ssl"}, {**LARGER, "method": "a_ssl"}]):
        figure = made(make_results(*arms, **TOP1))
        assert figure.curves == []
        assert figure.left_out == sum(len(arm["values"]) for arm in arms if arm["method"] == "h_ssl")
    said = figure_sheet(made(make_results(H, **TOP1)))
    assert said.headline == "The store has no curve of Figure 3 yet."
    assert said.notes[:3] == [
        "no curve over base size |g0|: it takes h_ssl trials at two values of base_size, one of them 1",
        "no curve over largest distance of g1 and g2: it takes h_ssl trials at two values of max_distance",
        "left out: 3 h_ssl trials of no curve",
    ]


def test_trials_that_are_no_curve_do_not_stand_in_the_way_of_one(make_results: MakeResults) -> None:
    other = {**H, "epochs": 9, "study": "other"}
    assert len(made(make_results(H, LARGER, other, **TOP1)).left.curves) == 1
    with pytest.raises(TableError, match=r"figure3: mnist scale: epochs: one value in a row, got 3 .*, 9 "):
        made(make_results(H, LARGER, other, {**other, "base_size": 2}, **TOP1))
    chosen = made(make_results(H, LARGER, other, {**other, "base_size": 2}, **TOP1), "epochs=9")
    assert [point.setting for point in chosen.left.curves[0].points] == [1, 2]


def test_both_halves_have_one_reading(make_results: MakeResults) -> None:
    turns = [{**arm, "objective": "nt_xent"} for arm in FAR]
    with pytest.raises(TableError, match="figure3: objective: one value in a figure, got info_nce and nt_xent; choose"):
        made(make_results(H, LARGER, *turns, **TOP1))
    assert made(make_results(H, LARGER, *turns, **TOP1), "objective=nt_xent").left.curves == ()


def test_the_page_says_that_the_paper_prints_no_numbers(store: pa.Table) -> None:
    said = figure_sheet(made(store))
    assert said.notes[-1].startswith("the paper prints no numbers for Figure 3")
    assert said.headline.startswith("H-SSL: +1.9 [")
    assert "; 70.5 to 81.5 % from max_distance 0.0 to null on mnist-mini rotation." in said.headline
    left, right, gaps = said.tables
    assert left.rows[0] == ("mnist", "scale", "mnist_cnn", "1", "94.5 ± 0.5 (3)", "[93.3, 95.7]", "–", "1")
    assert right.rows[2] == ("mnist-mini", "rotation", "mnist_cnn", "null", "81.5 ± 0.7 (2)", "[75.1, 87.9]", "2")
    assert gaps.rows[0][1:3] == ("failed", "oom")
    assert said.footnotes["1"] == "not as in the paper: batch_size=256, epochs=3, warmup_epochs=1, width=0.25"


def test_csv_and_json_have_every_point(store: pa.Table) -> None:
    said = figure_sheet(made(store))
    lines = list(csv.DictReader(said.to_csv().splitlines()))
    assert [(line["axis"], line["setting"], line["n"], line["trials"]) for line in lines] == [
        ("base_size", "1", "3", "3"),
        ("base_size", "3", "3", "3"),
        ("base_size", "5", "2", "3"),
        ("max_distance", "0.0", "2", "2"),
        ("max_distance", "1.0", "2", "2"),
        ("max_distance", "null", "2", "2"),
    ]
    assert lines[0]["change"] == "0.0" and lines[3]["change"] == ""
    content = json.loads(said.to_json())
    assert content["schema"] == SCHEMA
    assert [point["max_distance"] for point in content["panels"][1]["curves"][0]["points"]] == [0.0, 1.0, None]
    assert said.latex().count(r"\begin{tabular}") == 3 and r"base\_size" in said.latex()


def test_the_picture_is_the_same_each_time_and_holds_its_curves(store: pa.Table) -> None:
    figure = made(store)
    svg, png = figure_svg(figure), figure_png(figure)
    assert (svg, png) == (figure_svg(figure), figure_png(figure))
    assert svg.startswith("<svg ") and "mnist scale" in svg and "mnist-mini rotation" in svg
    assert "#0" not in svg.replace("#0072b2", "").replace("#007a5a", "")  # no placeholder of a colour is left
    assert png.startswith(b"\x89PNG")
    page = figure_sheet(figure).html("", {})
    assert page.count("<svg") == 2


def test_an_empty_store_is_an_empty_figure() -> None:
    figure = made(results_schema().empty_table())
    assert figure_sheet(figure).tables == []
    assert figure_sheet(figure).to_csv() == ""
    assert "no curve in the store" in figure_svg(figure)
