"""What a table is made of: one candidate a row, one reading a table, nothing mixed in silence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from hssl_ray.report.paper.readings import TableError
from hssl_ray.report.paper.selection import Query, trials_of
from hssl_ray.report.paper.tables import PaperTable, paper_table
from hssl_ray.report.paper.where import read_where

MakeResults = Callable[..., pa.Table]
TOP1 = {"metric": "probe/top1"}

A: dict[str, Any] = {"dataset": "mnist", "group": "scale", "method": "a_ssl", "values": [0.95, 0.96, 0.955]}
H = {**A, "method": "h_ssl", "values": [0.94, 0.945, 0.946]}
FROZEN = {**A, "method": "frozen", "values": [0.90, 0.91, 0.90]}


def table1(store: pa.Table, *where: str, **query: Any) -> PaperTable:
    return paper_table("table1", store, Query(where=read_where(where), **query))


def refusal(store: pa.Table, *where: str, **query: Any) -> list[str]:
    with pytest.raises(TableError) as refused:
        table1(store, *where, **query)
    return str(refused.value).splitlines()


def means(table: PaperTable, label: str = "mnist scale") -> dict[str, tuple[float, int]]:
    (row,) = [row for row in table.rows if row.key.label == label]
    return {c.method: (round(c.summary.mean, 4), c.summary.n) for c in row.pair.cells if c.summary}


def test_a_trial_that_two_studies_share_counts_once(make_results: MakeResults) -> None:
    store = make_results({**A, "study": "one"}, {**A, "study": "two"}, {**H, "study": "two"}, **TOP1)
    table = table1(store)
    assert means(table) == {"a_ssl": (0.955, 3), "h_ssl": (0.9437, 3)}
    (row,) = [row for row in table.rows if row.pair.cells]
    assert row.studies == ("one", "two")
    assert means(table1(store, studies=("one",))) == {"a_ssl": (0.955, 3)}


def test_one_reading_needs_no_option_and_two_are_refused(make_results: MakeResults) -> None:
    other = {**A, "objective": "nt_xent", "study": "ntx", "values": [0.5, 0.5, 0.5]}
    assert means(table1(make_results(A, H, **TOP1)))["a_ssl"] == (0.955, 3)
    store = make_results(A, H, other, **TOP1)
    assert refusal(store) == [
        "table1: objective: one value in a table, got info_nce (by-hand), nt_xent (ntx); "
        "choose with --where objective=info_nce or --where objective=nt_xent",
        "`--study NAME` makes it of that study's trials alone",
    ]
    assert means(table1(store, "objective=nt_xent")) == {"a_ssl": (0.5, 3)}
    assert means(table1(store, "objective=info_nce")) == {"a_ssl": (0.955, 3), "h_ssl": (0.9437, 3)}
    assert means(table1(store, studies=("ntx",))) == {"a_ssl": (0.5, 3)}


def test_a_reading_may_not_differ_between_rows_but_the_budget_may(make_results: MakeResults) -> None:
    rotation = {**A, "group": "rotation", "study": "turns"}
    table1(make_results(A, {**rotation, "epochs": 9, "width": 0.5}, **TOP1))
    (told, _) = refusal(make_results(A, {**rotation, "precision": "fp32"}, **TOP1))
    assert told.startswith("table1: precision: one value in a table, got auto (by-hand), fp32 (turns)")


def test_in_one_row_the_budget_may_not_differ(make_results: MakeResults) -> None:
    store = make_results(A, {**H, "epochs": 9, "study": "long"}, **TOP1)
    assert refusal(store)[0] == (
        "table1: mnist scale: epochs: one value in a row, got 3 (by-hand), 9 (long); "
        "choose with --where epochs=3 or --where epochs=9"
    )
    assert means(table1(store, "epochs=9")) == {"h_ssl": (0.9437, 3)}


def test_every_clash_is_told_at_once(make_results: MakeResults) -> None:
    arms = [A, {**A, "objective": "nt_xent"}, {**A, "epochs": 9, "width": 0.5}, {**H, "temperature": 0.5}]
    told = refusal(make_results(*arms, **TOP1))
    named = [line.split(": one value")[0] for line in told[:-1]]
    assert named == [
        "table1: objective",
        "table1: temperature",
        "table1: mnist scale: width",
        "table1: mnist scale: epochs",
    ]


def test_what_does_not_concern_a_method_neither_clashes_nor_is_counted_twice(make_results: MakeResults) -> None:
    """A grid over the augmentation trains frozen and H-SSL once for each value, with the same result."""
    arms = [{**arm, "augmentation": value} for arm in (H, FROZEN) for value in ("paper", "matched")]
    table = table1(make_results(*arms, {**FROZEN, "objective": "nt_xent"}, **TOP1))
    assert means(table) == {"h_ssl": (0.9437, 3), "frozen": (0.9033, 3)}
    both = make_results(*arms, A, {**A, "augmentation": "matched"}, **TOP1)
    assert "augmentation: one value in a table, got paper (by-hand), matched (by-hand)" in refusal(both)[0]
    assert means(table1(both, "augmentation=matched"))["frozen"] == (0.9033, 3)


def test_the_grid_policy_is_compared_over_rows_and_the_cells_in_a_row(make_results: MakeResults) -> None:
    turns = {**A, "group": "rotation"}
    table1(make_results(A, {**turns, "image_size": 29}, **TOP1))  # exact by default and exact in so many words
    store = make_results(A, {**turns, "image_size": 28}, **TOP1)
    assert (
        "choose with --where image_size=exact or --where image_size=paper or --where image_size=native"
        in (refusal(store)[0])
    )
    assert means(table1(store, "image_size=native"), "mnist rotation") == {"a_ssl": (0.955, 3)}
    table = table1(make_results(A, {**turns, "image_size": 29}, **TOP1))
    assert table.readings["image_size"] == "exact"  # which is the paper's too, but exact comes first
    assert "mnist scale: image_size: one value in a row" in refusal(make_results(A, {**H, "image_size": 29}, **TOP1))[0]


def test_unfinished_trials_of_another_candidate_are_not_this_rows(make_results: MakeResults) -> None:
    started = {**H, "epochs": 9, "values": [("running", None)] * 3}
    stopped = {**H, "values": [0.94, ("failed", "oom"), ("running", None)]}
    table = table1(make_results(A, stopped, started, **TOP1))
    assert [(gap.seed, gap.state) for gap in table.comparison.gaps] == [(1, "failed"), (2, "running")]


def test_trials_that_are_all_unfinished_are_named(make_results: MakeResults) -> None:
    table = table1(make_results({**H, "values": [("running", None), ("failed", "oom")]}, **TOP1))
    assert [gap.state for gap in table.comparison.gaps] == ["running", "failed"]
    assert means(table) == {}


def test_unknown_studies_and_metrics_are_refused(make_results: MakeResults) -> None:
    store = make_results(A, **TOP1)
    assert refusal(store, studies=("by-hnad",)) == [
        '--study by-hnad: the store has no such study (did you mean "by-hand"?)'
    ]
    assert refusal(store, metric="probe/top") == [
        '--metric probe/top: no trial of the store has this metric (did you mean "probe/top1"?)'
    ]


def test_many_values_are_not_all_listed(make_results: MakeResults) -> None:
    arms = [{**A, "temperature": 0.01 * n} for n in range(1, 12)]
    (told, _) = refusal(make_results(*arms, **TOP1))
    assert "5 more; choose with" in told and told.count("--where") == 6


def test_many_studies_are_not_all_named(make_results: MakeResults) -> None:
    store = make_results(*({**A, "study": f"s{n}"} for n in range(5)), {**A, "epochs": 9}, **TOP1)
    assert "got 3 (s0, s1, s2, 2 more), 9 (by-hand);" in refusal(store)[0]


def test_a_pruned_or_unmeasured_trial_has_no_value(make_results: MakeResults) -> None:
    store = make_results({**A, "values": [0.95, float("nan"), ("pruned", "asha")]}, **TOP1)
    assert means(table1(store)) == {"a_ssl": (0.95, 1)}
    assert len(trials_of(store, Query())) == 3
