"""A comparison or a status of hundreds of rows is summed up; small ones, and all on request, are printed whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from hssl_ray.report import wording
from hssl_ray.report.abridged import LONGEST_NOTE, shown
from hssl_ray.report.compare import compare
from hssl_ray.report.comparison import Comparison, Question
from hssl_ray.report.progress import progress
from hssl_ray.report.text_table import MOST_ROWS

MakeResults = Callable[..., pa.Table]
QUESTION = Question(study="s")


def arms(settings: int, **h_ssl: Any) -> list[dict[str, Any]]:
    """Both methods at `settings` temperatures; the higher the temperature the better."""
    return [
        {"method": method, "temperature": 0.1 + 0.001 * k, "values": [0.5 + 0.001 * k, 0.51 + 0.001 * k], **extra}
        for k in range(settings)
        for method, extra in (("a_ssl", {}), ("h_ssl", h_ssl))
    ]


def comparison(make_results: MakeResults, settings: int, **h_ssl: Any) -> Comparison:
    return compare(make_results(*arms(settings, **h_ssl)), QUESTION)


def test_as_many_settings_as_fit_are_shown_as_they_are(make_results: MakeResults) -> None:
    whole = comparison(make_results, MOST_ROWS)
    said = shown(whole)
    assert said.tables == wording.tables(whole)
    assert (said.headline, said.notes) == (wording.headline(whole), wording.notes(whole))


def test_of_more_the_best_are_shown_and_all_are_counted(make_results: MakeResults) -> None:
    many = comparison(make_results, MOST_ROWS + 7)
    said = shown(many)
    pairs, cells = said.tables
    assert [len(pairs.rows), len(cells.rows)] == [MOST_ROWS, 2 * MOST_ROWS]
    assert pairs.rows[0][0] == many.pairs[-1].label  # the best came last in the study
    assert {row[0] for row in pairs.rows} == {pair.label for pair in many.pairs[7:]}
    assert pairs.left_out == "the best 50 of 57 settings; --all prints the other 7"
    assert said.headline == "H-SSL against A-SSL in 57 settings, at ±2 points: equivalent in 57."
    assert many.pairs[0].label in wording.headline(many)


def test_a_metric_that_should_be_small_has_its_best_at_the_bottom(make_results: MakeResults) -> None:
    results = make_results(*arms(MOST_ROWS + 7), metric="train/loss")
    many = compare(results, Question(study="s", metric="train/loss"))
    assert shown(many).tables[0].rows[0][0] == many.pairs[0].label


def test_everything_is_there_on_request(make_results: MakeResults) -> None:
    many = comparison(make_results, MOST_ROWS + 7)
    said = shown(many, everything=True)
    assert said.tables == wording.tables(many)
    assert not any(table.left_out for table in said.tables)


def test_gaps_and_notes_beyond_the_first_are_counted(make_results: MakeResults) -> None:
    """Every H-SSL trial is missing: so many gaps, and a note or more for each setting."""
    many = comparison(make_results, MOST_ROWS + 7, values=[("planned", None), ("planned", None)])
    said = shown(many)
    assert len(said.tables[-1].rows) == MOST_ROWS
    assert said.tables[-1].left_out == f"... and {2 * (MOST_ROWS + 7) - MOST_ROWS} more; --all prints them"
    unsaid = len(wording.notes(many)) - (len(said.notes) - 1)
    assert said.notes[-1] == f"{unsaid} more notes on the other settings; --all prints them"
    assert all(len(note) < LONGEST_NOTE + 40 for note in said.notes)
    assert said.tables[-1].left_out in said.markdown()


def results(make_results: MakeResults, cells: int) -> pa.Table:
    broken = {"method": "a_ssl", "temperature": 0.99, "values": [0.5, ("failed", "oom: killed")]}
    return make_results(*arms(cells // 2), broken)


def test_cells_alike_are_counted_together(make_results: MakeResults) -> None:
    table, broken = progress(results(make_results, MOST_ROWS + 2), "s").tables()
    assert table.header == ("cells", "finished", "failed", "the first")
    assert [row[:3] for row in table.rows] == [("52", "2", "0"), ("1", "1", "1")]
    assert table.left_out == "53 cells; --all lists each"
    assert len(broken.rows) == 1 and not broken.left_out


@pytest.mark.parametrize(("cells", "everything"), [(MOST_ROWS - 2, False), (MOST_ROWS + 2, True)])
def test_cells_are_listed_when_few_or_asked_for(make_results: MakeResults, cells: int, everything: bool) -> None:
    table = progress(results(make_results, cells), "s").tables(everything=everything)[0]
    assert (table.header[0], len(table.rows), table.left_out) == ("cell", cells + 1, "")


def test_broken_trials_beyond_the_first_are_counted(make_results: MakeResults) -> None:
    arm = {"method": "a_ssl", "values": [("failed", "oom: killed")] * (MOST_ROWS + 3)}
    counted = progress(make_results(arm), "s")
    assert counted.tables()[1].left_out == "... and 3 more; --all lists them"
    assert len(counted.tables(everything=True)[1].rows) == MOST_ROWS + 3
