"""The table of how sure an answer can be, and the figure of equivariance against the gap."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from hssl_ray.report.compare import compare
from hssl_ray.report.comparison import Question
from hssl_ray.report.drawing import themed
from hssl_ray.report.equivariance_figure import gap_figure
from hssl_ray.report.power_table import power_table

MakeResults = Callable[..., pa.Table]
QUESTION = Question(study="by-hand", margin=0.03)
ERROR = "eval/equivariance_error"


def arms(noise: float, seeds: int, group: str = "rotation") -> list[dict[str, object]]:
    values = [0.8 + noise * (-1) ** seed * (1 + seed / 10) for seed in range(seeds)]
    same: dict[str, object] = {"method": "a_ssl", "group": group, "values": [0.8] * seeds}
    return [same, {"method": "h_ssl", "group": group, "values": values}]


def chances(results: pa.Table) -> tuple[int, int]:
    table = power_table(compare(results, QUESTION))
    assert table is not None
    row = dict(zip(table.header, table.rows[0], strict=True))
    none, some = row["chance to show none"], row["chance to find 3 points"]
    return int(none.removesuffix(" %")), int(some.removesuffix(" %"))


def test_chances_grow_with_seeds_and_shrink_with_noise(make_results: MakeResults) -> None:
    quiet, loud, more = (make_results(*arms(*of)) for of in ((0.01, 4), (0.03, 4), (0.03, 12)))
    for one, other in ((loud, quiet), (loud, more)):
        assert all(a < b for a, b in zip(chances(one), chances(other), strict=True))


def test_no_answer_has_no_row_and_several_have_holms_verdict(make_results: MakeResults) -> None:
    assert power_table(compare(make_results(*arms(0.01, 1)), QUESTION)) is None
    one = power_table(compare(make_results(*arms(0.01, 3)), QUESTION))
    two = power_table(compare(make_results(*arms(0.01, 3), *arms(0.01, 3, "scale")), QUESTION))
    assert one and two and "verdict (Holm)" in two.header and "verdict (Holm)" not in one.header
    assert len(two.rows) == 2


def test_the_gap_is_drawn_where_equivariance_was_measured(make_results: MakeResults) -> None:
    both = [*arms(0.01, 3), *arms(0.01, 3, "scale")]
    results = make_results(*both, **{ERROR: 2e-7})
    drawing = gap_figure(compare(results, QUESTION), results)
    assert drawing is not None
    svg = drawing.svg
    assert "rotation" in svg and "scale" in svg and "1e-07" in svg
    assert "mathdefault" not in svg  # a logarithmic axis' own labels are mathematics, which is switched off
    plain = make_results(*both)
    assert gap_figure(compare(plain, QUESTION), plain) is None


def test_of_many_pairs_the_same_is_drawn_without_their_names(
    make_results: MakeResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = make_results(*arms(0.01, 3), *arms(0.01, 3, "scale"), **{ERROR: 2e-7})

    def drawn() -> tuple[list[tuple[float, float]], str]:
        drawing = gap_figure(compare(results, QUESTION), results)
        assert drawing is not None
        lines = drawing.drawn(themed).axes[0].lines[1:]  # the first one is zero
        points = np.concatenate([line.get_xydata() for line in lines])
        return sorted((x, y) for x, y in points.tolist() if math.isfinite(y)), drawing.svg

    named, svg = drawn()
    monkeypatch.setattr("hssl_ray.report.equivariance_figure.NAMED", 1)
    unnamed, bare = drawn()
    assert named == unnamed and len(named) == 2 * (2 + 1 + 3)
    assert ">rotation<" in svg and ">rotation<" not in bare
