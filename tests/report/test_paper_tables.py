"""Tables 1 and 2 from hand-written stores: exact in every format, and honest about what is not there."""

from __future__ import annotations

import csv
import html
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import scipy.stats

from hssl_ray.data.catalog import CATALOG
from hssl_ray.report.paper.printed import TABLE_1, TABLE_2, RowKey, paper_backbone, paper_rows
from hssl_ray.report.paper.readings import TableError
from hssl_ray.report.paper.selection import Query
from hssl_ray.report.paper.sheet import Sheet, table_sheet
from hssl_ray.report.paper.table_data import SCHEMA
from hssl_ray.report.paper.table_wording import winners
from hssl_ray.report.paper.tables import PaperTable, TableName, TableRow, paper_table
from hssl_ray.study.results import results_schema

MakeResults = Callable[..., pa.Table]
TOP1 = {"metric": "probe/top1"}
GOLDEN = Path(__file__).parent

PAPER: dict[str, Any] = {"width": 1.0, "epochs": 500, "warmup_epochs": 10, "batch_size": 4096}
A: dict[str, Any] = {"dataset": "mnist", "group": "scale", "method": "a_ssl", "values": [0.985, 0.986, 0.987], **PAPER}
H = {**A, "method": "h_ssl", "values": [0.983, 0.984, 0.982]}
FROZEN = {**A, "method": "frozen", "values": [0.94, ("failed", "oom_100%"), ("running", None)]}
MINI = {**A, "dataset": "mnist-mini", "width": 0.25, "values": [0.8, 0.81, 0.82]}
MINI_H = {**MINI, "method": "h_ssl", "values": [0.9, 0.91, 0.92]}


@pytest.fixture
def store(make_results: MakeResults) -> pa.Table:
    """Table 1's MNIST / Scale row at the paper's own settings, without supervised, and a row of the smaller set."""
    return make_results(A, H, FROZEN, MINI, MINI_H, **TOP1)


def sheet(store: pa.Table, name: TableName = "table1", **query: Any) -> Sheet:
    return table_sheet(paper_table(name, store, Query(**query)))


def row_of(table: PaperTable, label: str) -> TableRow:
    (row,) = [row for row in table.rows if row.key.label == label]
    return row


def shown(made: Sheet) -> dict[str, Mapping[str, str]]:
    """The main table's lines by data set, group and structure."""
    main = made.tables[0]
    lines = [dict(zip(main.header, row, strict=True)) for row in main.rows]
    return {" ".join((line["data set"], line["group"], line.get("structure", ""))).strip(): line for line in lines}


@pytest.mark.parametrize("suffix", ["md", "tex"])
def test_the_whole_table_to_the_letter(store: pa.Table, suffix: str) -> None:
    made = sheet(store)
    made = replace(made, notes=[note for note in made.notes if not note.startswith("readings")])  # as many as fields
    text = made.markdown() if suffix == "md" else made.latex()
    assert text == (GOLDEN / f"golden_table1.{suffix}").read_text(encoding="utf-8")


def test_the_whole_csv(store: pa.Table) -> None:
    ours, golden = (
        list(csv.reader(text.splitlines()))
        for text in (sheet(store).to_csv(), (GOLDEN / "golden_table1.csv").read_text(encoding="utf-8"))
    )
    assert len(ours) == len(golden) == 1 + 4 * 9
    for line, expected in zip(ours, golden, strict=True):
        wanted = [as_number(text) for text in expected]  # the last digits are the processor's
        close = [pytest.approx(v, rel=1e-10, abs=1e-12) if isinstance(v, float) else v for v in wanted]
        assert [as_number(text) for text in line] == close


def as_number(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def test_the_papers_rows_stand_first_and_other_data_sets_after_them(store: pa.Table) -> None:
    table = paper_table("table1", store, Query())
    assert [row.key[:2] for row in table.rows] == [*TABLE_1, ("mnist-mini", "scale")]
    assert [row.in_paper for row in table.rows] == [True] * 8 + [False]
    ours = row_of(table, "mnist-mini scale")
    assert ours.pair.answer and ours.pair.answer.verdict == "different"
    assert all(cell.paper is None and cell.paper_interval is None for cell in ours.pair.cells)


def test_a_cell_has_its_distance_to_the_printed_number_with_welchs_interval(store: pa.Table) -> None:
    cell = row_of(paper_table("table1", store, Query()), "mnist scale").cell("h_ssl")
    assert cell and cell.paper and cell.summary and cell.paper_interval
    assert (cell.paper.printed.mean, cell.paper.printed.std, cell.paper.printed.n) == (0.983, 0.002, 3)
    ours = [0.983, 0.984, 0.982]
    theirs = [0.983 - 0.002, 0.983, 0.983 + 0.002]  # three numbers with the printed mean and deviation
    expected = scipy.stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval()
    assert (cell.paper_interval.low, cell.paper_interval.high) == pytest.approx((expected.low, expected.high))


def test_every_printed_number_is_in_the_csv_and_every_cell_has_one_line(store: pa.Table) -> None:
    for name, printed in (("table1", TABLE_1), ("table2", TABLE_2)):
        lines = list(csv.DictReader(sheet(store, name).to_csv().splitlines()))  # type: ignore[arg-type]
        places = [(line["dataset"], line["group"], line["structure"], line["method"]) for line in lines]
        assert len(set(places)) == len(lines)
        structure = "none" if name == "table2" else "equivariant"
        for (dataset, group), cells in printed.items():
            for method, (mean, std) in cells.items():
                line = lines[places.index((dataset, group, structure, method))]
                assert (float(line["paper_mean"]), float(line["paper_std"])) == pytest.approx((mean / 100, std / 100))


def test_missing_cells_are_named_with_what_the_paper_has(store: pa.Table) -> None:
    made = sheet(store)
    assert shown(made)["mnist scale"]["supervised"] == "missing (paper 99.3)"
    assert shown(made)["mnist-mini scale"]["frozen"] == "missing"
    assert "missing: mnist scale, supervised" in made.notes
    assert "missing: mnist-mini scale, frozen, supervised" in made.notes
    (absent,) = [note for note in made.notes if note.startswith("missing altogether")]
    assert absent.count(",") == 6 and "cifar10 rotation" in absent and "mnist scale" not in absent


def test_failed_and_running_trials_are_named(store: pa.Table) -> None:
    made = sheet(store)
    assert [row[:3] for row in made.tables[-1].rows] == [
        ("frozen-scale-dataset=mnist-width=1.0-epochs=500-warmup_epochs=10-batch_size=4096-s1", "failed", "oom_100%"),
        ("frozen-scale-dataset=mnist-width=1.0-epochs=500-warmup_epochs=10-batch_size=4096-s2", "running", "–"),
    ]
    assert [gap["state"] for gap in json.loads(made.to_json())["missing"]] == ["failed", "running"]


def test_one_seed_has_a_mean_and_no_interval(make_results: MakeResults) -> None:
    one = make_results({**A, "values": [0.985]}, {**H, "values": [0.983]}, **TOP1)
    made = sheet(one)
    line = shown(made)["mnist scale"]
    assert (line["A-SSL"], line["H-SSL − A-SSL"], line["verdict at ±2"]) == ("98.5 (1)", "–", "no answer")
    (cell, _) = made.tables[1].rows
    assert cell[1:4] == ("98.5", "1 of 1", "–") and cell[5] == "98.6 ± 0.1 (Δ −0.1, no interval)"
    assert json.loads(made.to_json())["rows"][2]["answer"] is None


def test_an_empty_store_is_a_table_of_missing_cells() -> None:
    made = sheet(results_schema().empty_table())
    assert made.headline == "The store has no trial of this table yet."
    assert all(line["A-SSL"].startswith("missing (paper") for line in shown(made).values())
    assert len(made.tables) == 1 and "<figure" not in made.html("", {})
    assert json.loads(made.to_json())["readings"] == {}


def test_rows_say_in_which_settings_they_depart_from_the_paper(store: pa.Table) -> None:
    made = sheet(store)
    assert shown(made)["mnist scale"]["note"] == ""  # the paper's own settings
    mark = shown(made)["mnist-mini scale"]["note"]
    assert made.footnotes[mark] == "not as in the paper: dataset=mnist-mini, width=0.25"


def test_bold_goes_by_the_verdict(make_results: MakeResults) -> None:
    verdicts = {
        "different": ([0.8, 0.81, 0.82], [0.9, 0.91, 0.92], ("h_ssl",)),
        "equivalent": ([0.80, 0.81, 0.82], [0.800, 0.811, 0.819], ("a_ssl", "h_ssl")),
        "both": ([0.80, 0.81, 0.82], [0.805, 0.815, 0.826], ("a_ssl", "h_ssl")),
        "undecided": ([0.80, 0.81, 0.82], [0.79, 0.93, 0.80], ()),
    }
    for verdict, (a, h, bold) in verdicts.items():
        table = paper_table("table1", make_results({**A, "values": a}, {**H, "values": h}, **TOP1), Query())
        row = row_of(table, "mnist scale")
        assert row.pair.answer and row.pair.answer.verdict == verdict
        assert winners(row) == bold
        main = table_sheet(table).tables[0]
        assert {main.header[column] for _, column in main.strong} == {
            {"a_ssl": "A-SSL", "h_ssl": "H-SSL"}[m] for m in bold
        }
    worse = make_results({**A, "values": [0.9, 0.91, 0.92]}, {**H, "values": [0.8, 0.81, 0.82]}, **TOP1)
    assert winners(row_of(paper_table("table1", worse, Query()), "mnist scale")) == ("a_ssl",)


def test_frozen_stands_beside_and_the_page_says_why_rotated_digits_lie_below(store: pa.Table) -> None:
    said = " ".join(sheet(store).notes)
    assert "mnist rotation (68.2 and 70.3 against 87.2), cifar10 translation (39.2 and 36.3 against 40.4)" in said
    assert "cannot tell 6 from 9" in said
    assert "cannot tell 6 from 9" not in " ".join(sheet(store, "table2").notes)


def test_left_out_trials_are_counted(make_results: MakeResults) -> None:
    f_ssl = {**A, "method": "f_ssl", "group": "translation"}
    store = make_results(A, H, f_ssl, {**H, "base_size": 3}, {**H, "max_distance": 0.1, "values": [0.9]}, **TOP1)
    table = paper_table("table1", store, Query())
    assert table.notes == (
        "left out: 3 trials of f_ssl, which is no column of the paper's",
        "left out: 3 trials with another base_size than 1",
        "left out: 1 trial with another max_distance than null",
    )
    chosen = row_of(paper_table("table1", store, Query(where={"base_size": 3})), "mnist scale")
    cell = chosen.cell("h_ssl")
    assert cell and cell.summary and cell.summary.n == 3 and cell.paper is None  # the paper has no such cell
    assert "base_size=3" in chosen.departures


def test_a_row_without_the_papers_distance_has_its_own_and_says_so(make_results: MakeResults) -> None:
    """What bounds the distance does not change A-SSL in the paper's ranges, so its cell stands."""
    table = paper_table("table1", make_results(A, {**H, "max_distance": 0.1}, **TOP1), Query())
    row = row_of(table, "mnist scale")
    assert row.pair.answer and row.departures == ("max_distance=0.1",)
    assert [cell.paper is None for cell in row.pair.cells] == [False, True]
    two = make_results(A, {**H, "max_distance": 0.1}, {**H, "max_distance": 0.2}, **TOP1)
    with pytest.raises(TableError, match=r"mnist scale: max_distance: one value in a row, got 0\.1 .*, 0\.2 "):
        paper_table("table1", two, Query())


def test_a_chosen_data_set_has_its_rows_alone(store: pa.Table) -> None:
    table = paper_table("table1", store, Query(where={"dataset": "mnist"}))
    assert [row.key[:2] for row in table.rows] == [key for key in TABLE_1 if key[0] == "mnist"]
    scales = paper_table("table1", store, Query(where={"group": "scale"}))
    assert {row.key.group for row in scales.rows} == {"scale"} and len(scales.rows) == 4


def test_an_undecided_row_says_how_many_seeds_would_decide(make_results: MakeResults) -> None:
    made = sheet(make_results({**A, "values": [0.8, 0.81, 0.82]}, {**H, "values": [0.79, 0.83, 0.8]}, **TOP1))
    assert "mnist scale: undecided; seeds still needed per method: about 8" in made.notes


def test_another_metric_is_named_as_a_departure(make_results: MakeResults) -> None:
    table = paper_table("table1", make_results(A, H, metric="probe/ridge_top1"), Query(metric="probe/ridge_top1"))
    assert "metric=probe/ridge_top1" in row_of(table, "mnist scale").departures


def without_structure(store: pa.Table, structure: str) -> pa.Table:
    """The same trials as those of a network with or without structure."""
    ids = [f"{trial}{structure}" for trial in store["trial_id"].to_pylist()]
    store = store.set_column(store.column_names.index("trial_id"), "trial_id", pa.array(ids))
    if "structure" in store.column_names:
        store = store.drop_columns("structure")
    return store.append_column("structure", pa.array([structure] * store.num_rows))


def test_table_2_has_each_twin_above_its_structured_row(make_results: MakeResults) -> None:
    twin = make_results({**A, "values": [0.952, 0.951, 0.953]}, {**H, "values": [0.87, 0.88, 0.86]}, **TOP1)
    real = make_results(A, {**H, "width": 0.5}, {**A, "width": 0.5}, **TOP1)
    store = pa.concat_tables([without_structure(twin, "none"), without_structure(real, "equivariant")])
    table = paper_table("table2", store, Query(where={"width": 1.0}))
    assert [row.key[:2] for row in table.rows] == [key for twin in TABLE_2 for key in (twin, twin)]
    assert [row.key.structure for row in table.rows] == ["none", "equivariant"] * 3
    assert [row.key.backbone for row in table.rows[:2]] == ["mlp", "mnist_cnn"]
    lines = shown(table_sheet(table))
    assert lines["mnist scale none"]["H-SSL"] == "87.0 ± 1.0 (3)"
    assert lines["mnist scale equivariant"]["A-SSL"].strip("*") == "98.6 ± 0.1 (3)"
    printed = {key: row_of(table, key).pair.cells[0].paper for key in ("mnist scale", "mnist scale without structure")}
    assert [cell.printed.mean for cell in printed.values() if cell] == [0.986, 0.952]
    # Table 1 of the same store has the structured row alone, and says where the twins are.
    first = paper_table("table1", store, Query(where={"width": 1.0}))
    assert all(row.key.structure != "none" for row in first.rows)
    assert "left out: 6 trials without structure, which Table 2 has" in first.notes


def test_table_2_says_when_twin_and_structured_row_differ_in_more_than_structure(make_results: MakeResults) -> None:
    twin, real = make_results(A, **TOP1), make_results({**A, "width": 0.5, "epochs": 20}, **TOP1)
    store = pa.concat_tables([without_structure(twin, "none"), without_structure(real, "equivariant")])
    assert (
        "mnist scale without structure: its structured row differs in more than the structure: "
        "width 1.0 and 0.5, epochs 500 and 20"
    ) in paper_table("table2", store, Query()).notes


def test_json_has_the_cells_the_answers_and_the_printed_numbers(store: pa.Table) -> None:
    content = json.loads(sheet(store).to_json())
    assert (content["schema"], content["table"], content["metric"]) == (SCHEMA, "table1", "probe/top1")
    row = content["rows"][2]
    assert row["cells"]["a_ssl"]["n"] == 3 and row["cells"]["supervised"] is None
    assert row["paper"]["supervised"] == {"mean": 0.993, "std": 0.001}
    assert row["answer"]["verdict"] in ("equivalent", "both") and row["answer"]["design"] == "paired"
    assert row["missing"] == ["supervised"] and row["studies"] == ["by-hand"]
    assert content["readings"]["image_size"] == "exact" and content["readings"]["objective"] == "info_nce"


def test_the_page_stands_alone_and_escapes_what_it_is_told(make_results: MakeResults) -> None:
    hostile = {**FROZEN, "values": [0.94, ("failed", "<script>x</script>"), 0.95]}
    page = sheet(make_results(A, H, hostile, **TOP1)).html("sqlite:///x.db & co", {"make it again": "hssl-ray <x>"})
    assert "<script" not in page and html.escape("<script>x</script>") in page
    assert not re.search(r"""(src|href)\s*=\s*"(?!#)|@import|https?:""", page)
    assert "<svg" in page and "<strong>98.6 ± 0.1 (3)</strong>" in page and "sqlite:///x.db &amp; co" in page


def test_the_rows_of_the_paper_are_those_of_its_tables() -> None:
    assert [key.backbone for key in paper_rows("equivariant")] == ["mnist_cnn"] * 3 + ["resnet20"] * 3 + [
        "resnet18"
    ] * 2
    assert [key.backbone for key in paper_rows("none")] == ["mlp", "mnist_cnn", "resnet20"]
    assert paper_rows("none")[0].label == "mnist translation without structure"


def test_every_data_set_has_a_network_so_that_a_label_names_only_another() -> None:
    assert {paper_backbone(dataset, "scale", "equivariant") for dataset in CATALOG} == {
        "mnist_cnn",
        "resnet20",
        "resnet18",
    }
    assert RowKey("fashion-mnist", "scale", "mnist_cnn").label == "fashion-mnist scale"
    assert RowKey("cifar10", "scale", "mnist_cnn").label == "cifar10 scale mnist_cnn"
