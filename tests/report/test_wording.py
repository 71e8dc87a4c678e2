"""Sentences and tables: what people and pipes read."""

from __future__ import annotations

import math
from collections.abc import Callable

import pyarrow as pa
import pytest

from hssl_ray.report.abridged import shown
from hssl_ray.report.compare import compare
from hssl_ray.report.comparison import Question
from hssl_ray.report.wording import Scale, cell_table, gap_table, headline, notes, pair_table, tables

MakeResults = Callable[..., pa.Table]

QUESTION = Question(study="by-hand")
A = {"method": "a_ssl", "values": [0.80, 0.81, 0.82]}
H = {"method": "h_ssl", "values": [0.805, 0.815, 0.826]}


def test_the_exact_tables(make_results: MakeResults) -> None:
    frozen = {"method": "frozen", "values": [0.70, 0.70, 0.71]}
    comparison = compare(make_results(A, H, frozen), QUESTION)
    assert pair_table(comparison).rows == (
        ("rotation", "81.0 ± 1.0 (3)", "81.5 ± 1.1 (3)", "+0.5", "[+0.4, +0.7]", "both", "0"),
    )
    assert cell_table(comparison).rows == (
        ("rotation: A-SSL", "81.0 ± 1.0", "3 of 3", "[78.5, 83.5]", "+10.7 [+9.2, +12.1]", "68.2 ± 2.5 (Δ +12.8)"),
        ("rotation: H-SSL", "81.5 ± 1.1", "3 of 3", "[78.9, 84.1]", "+11.2 [+9.7, +12.7]", "70.3 ± 5.4 (Δ +11.2)"),
        ("rotation: frozen", "70.3 ± 0.6", "3 of 3", "[68.9, 71.8]", "–", "87.2 ± 0.8 (Δ −16.9)"),
    )


@pytest.mark.parametrize(
    ("against", "says"),
    [
        (
            [0.800, 0.811, 0.819],
            "On rotation, H-SSL matches A-SSL within ±2 points: difference +0.0 points, "
            "95 % interval [−0.2, +0.2], 3 pairs of seeds.",
        ),
        (
            [0.85, 0.861, 0.871],
            "On rotation, H-SSL is above A-SSL by more than 2 points: difference +5.1 points, "
            "95 % interval [+4.9, +5.2], 3 pairs of seeds.",
        ),
        (
            [0.777, 0.79, 0.795],
            "On rotation, H-SSL is below A-SSL, and not shown to be within ±2 points: difference −2.3 points, "
            "95 % interval [−2.9, −1.6], 3 pairs of seeds.",
        ),
        (
            [0.805, 0.815, 0.826],
            "On rotation, H-SSL and A-SSL differ, but by less than 2 points: difference +0.5 points, "
            "95 % interval [+0.4, +0.7], 3 pairs of seeds.",
        ),
        (
            [0.79, 0.83, 0.80],
            "On rotation, 3 seeds do not decide whether H-SSL matches A-SSL within ±2 points "
            "(about 8 more per method would): difference −0.3 points, 95 % interval [−5.5, +4.8], 3 pairs of seeds.",
        ),
    ],
)
def test_one_pair_is_one_sentence(make_results: MakeResults, against: list[float], says: str) -> None:
    assert headline(compare(make_results(A, {"method": "h_ssl", "values": against}), QUESTION)) == says


def test_several_pairs_are_counted(make_results: MakeResults) -> None:
    arms = [
        A,
        H,
        {**A, "group": "scale"},
        {**H, "group": "scale", "values": [0.8, ("failed", "oom"), ("planned", None)]},
    ]
    assert headline(compare(make_results(*arms), QUESTION)) == (
        "H-SSL against A-SSL in 2 settings, at ±2 points: different, but by less than the margin, in 1 (rotation); "
        "without an answer in 1 (scale)."
    )


def test_no_answer_says_why(make_results: MakeResults) -> None:
    one = compare(make_results({"method": "a_ssl", "values": [0.8]}, {"method": "h_ssl", "values": [0.8]}), QUESTION)
    assert headline(one) == "No answer yet: rotation: n = 1: no interval, at least 2 seeds of both methods are needed."
    (row,) = pair_table(one).rows
    assert row == ("rotation", "80.0 (1)", "80.0 (1)", "–", "no interval", "no answer", "2 or more")
    lonely = compare(make_results(H), QUESTION)
    assert headline(lonely) == "No answer yet: the study has no a_ssl cell, so there is nothing to compare."
    assert pair_table(lonely).rows[0][1] == "not in the study"


def test_missing_trials_have_their_table(make_results: MakeResults) -> None:
    comparison = compare(make_results(A, {**H, "values": [0.8, 0.8, ("failed", "disk_full: no space")]}), QUESTION)
    (row,) = gap_table(comparison.gaps).rows
    assert row[:3] == ("h_ssl-rotation-s2", "failed", "disk_full: no space")
    assert len(tables(comparison)) == 3
    assert len(tables(compare(make_results(A, H), QUESTION))) == 2


def test_notes_name_the_papers_other_settings_and_the_other_design(make_results: MakeResults) -> None:
    said = notes(compare(make_results(A, H), QUESTION))
    assert said[0].startswith(
        "the paper's numbers were made with other settings; here batch_size=256, dataset=mnist-mini"
    )
    assert said[1:] == ["rotation: taken as independent seeds, the verdict would be undecided"]


def test_a_metric_that_is_no_accuracy_is_not_in_percent(make_results: MakeResults) -> None:
    question = Question(study="by-hand", metric="train/loss", margin=0.5)
    results = make_results({**A, "values": [3.0, 3.1]}, {**H, "values": [-3.0, -3.3]}, metric="train/loss")
    assert pair_table(compare(results, question)).rows[0][1:4] == ("3.05 ± 0.07071 (2)", "−3.15 ± 0.2121 (2)", "−6.2")
    assert "points" not in headline(compare(results, question))
    assert Scale("probe/top1").margin(0.02) == "2"
    assert Scale("probe/top1").margin(0.015) == "1.5"
    assert not math.isnan(float(Scale("train/loss").value(2.0)))


def test_markdown_cannot_be_broken_by_a_name(make_results: MakeResults) -> None:
    hostile = {**H, "values": [0.8, 0.8, ("failed", "a|b `<img src=x>`\n| c")]}
    text = shown(compare(make_results(A, hostile), QUESTION)).markdown()
    (line,) = [line for line in text.splitlines() if "img" in line and line.startswith("|")]
    assert r"a\|b \`\<img src=x\>\` \| c" in line
