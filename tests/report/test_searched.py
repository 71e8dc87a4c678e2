"""What a search's figures say: the field that decides is the most important one, and every suggestion is a line."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from hssl_ray.report.compare import compare
from hssl_ray.report.comparison import Question
from hssl_ray.report.page import StudyInfo, render
from hssl_ray.report.searched import importance_table, searched
from hssl_ray.report.searched_figure import importance_figure, parallel_figure
from hssl_ray.study.file.sections import Search
from hssl_ray.study.search.importance import importance

MakeResults = Callable[..., pa.Table]
SEARCH = Search.model_validate(
    {
        "sampler": "random",
        "trials": 24,
        "metric": "probe/ridge_top1",
        "space": {
            "temperature": {"low": 0.03, "high": 1.0, "log": True},
            "learning_rate": {"low": 0.001, "high": 0.1, "log": True},
            "max_distance": [1, 2],
        },
    }
)
QUESTION = Question("by-hand", sampled=tuple(SEARCH.space), search_metric="probe/ridge_top1")
POINTS = [
    {
        "temperature": float(np.exp(rng.uniform(math.log(0.03), 0.0))),
        "learning_rate": float(np.exp(rng.uniform(math.log(0.001), math.log(0.1)))),
        "max_distance": int(rng.integers(1, 3)),
    }
    for rng in map(np.random.default_rng, range(24))
]


def worth(point: dict[str, float], field: str) -> float:
    return 0.8 - 0.05 * abs(math.log(point[field] / 0.1)) if field == "temperature" else 0.8 + point[field]


def arms(field: str) -> list[dict[str, object]]:
    return [
        {"method": method, **point, "values": [worth(point, field), worth(point, field) + 0.001]}
        for method in ("a_ssl", "h_ssl")
        for point in POINTS
    ]


def test_the_field_that_decides_is_the_most_important() -> None:
    for field in ("temperature", "learning_rate"):
        shares = importance(SEARCH, [(point, worth(point, field)) for point in POINTS])
        assert shares[0].field == field and shares[0].fanova > 0.6
        assert math.isclose(sum(share.fanova for share in shares), 1)
        assert {share.field for share in shares} == set(SEARCH.space)


def test_suggestions_that_are_all_alike_tell_nothing() -> None:
    assert importance(SEARCH, [(point, 0.5) for point in POINTS]) == []


def test_every_suggestion_with_all_of_its_seeds_is_a_line(make_results: MakeResults) -> None:
    planned = arms("temperature")
    planned[0]["values"] = [0.5, ("failed", "oom")]
    results = make_results(*planned)
    a_ssl, h_ssl = searched(compare(results, QUESTION), results, SEARCH)
    assert (len(a_ssl.tried), len(h_ssl.tried)) == (len(POINTS) - 1, len(POINTS))
    drawing = parallel_figure(h_ssl, SEARCH)
    assert f"{len(POINTS)} suggestions" in drawing.label
    svg = drawing.svg
    assert svg.count("var(--h-ssl") == 5 and svg.count("var(--a-ssl") == 0  # the best fifth of 24


def test_the_table_names_what_mattered_and_the_best_suggestion(make_results: MakeResults) -> None:
    results = make_results(*arms("temperature"))
    found = searched(compare(results, QUESTION), results, SEARCH)
    table = importance_table(found, SEARCH)
    best = max(POINTS, key=lambda point: worth(point, "temperature"))
    assert table.rows[0][:2] == ("rotation: A-SSL", "temperature")
    assert table.rows[0][4] == f"{best['temperature']:.3g}"
    assert importance_figure(found).svg.count("A-SSL: ") == len(SEARCH.space)


def test_a_search_that_has_hardly_begun_is_said_to_tell_nothing(make_results: MakeResults) -> None:
    results = make_results(*arms("temperature")[:3])
    assert searched(compare(results, QUESTION), results, SEARCH) == []
    history = pa.table({name: [] for name in ("cell", "epoch", "metric", "value")})
    comparison = compare(results, QUESTION)
    says = "nothing\nis said of which field mattered"
    assert says in render(comparison, results, history, StudyInfo("begun"), search=SEARCH).html
    assert says not in render(comparison, results, history, StudyInfo("begun")).html
