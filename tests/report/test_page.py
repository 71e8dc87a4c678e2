"""The page: it escapes, it asks nothing of the network, and it says what the tables say."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from PIL import Image

from hssl_ray.report import page as page_module
from hssl_ray.report.compare import cell_curves, compare
from hssl_ray.report.comparison import Question
from hssl_ray.report.cost import cost_table, health_table, one_pass_against_two
from hssl_ray.report.drawing import Drawing, canvas
from hssl_ray.report.figures import curve_figure, curve_metrics, difference_figure, seed_figure
from hssl_ray.report.page import Page, StudyInfo, drawn_cells, render

MakeResults = Callable[..., pa.Table]

QUESTION = Question(study="by-hand")
HOSTILE = "<script>alert(1)</script>\"'&{{ 7777 * 7 }}$x_{"
A = {"method": "a_ssl", "values": [0.80, 0.81, 0.82]}
H = {"method": "h_ssl", "values": [0.80, 0.811, ("failed", HOSTILE)]}
FROZEN = {"method": "frozen", "values": [0.70, 0.70, 0.71]}


def history(results: pa.Table) -> pa.Table:
    identity = ("trial_id", "cell", "method", "seed")
    rows = [
        {**{name: row[name] for name in identity}, "epoch": epoch, "metric": metric, "value": value}
        for row in results.to_pylist()
        if row["state"] == "finished"
        for epoch in (1, 2, 3)
        for metric, value in (("probe/top1", 0.2 * epoch), ("train/loss", 5.0 - epoch))
    ]
    return pa.Table.from_pylist(rows)


def page(results: pa.Table, info: StudyInfo | None = None) -> str:
    return render(compare(results, QUESTION), results, history(results), info or StudyInfo("by-hand")).html


class Tags(HTMLParser):
    """What a browser would find: elements with their attributes, and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "path", "use", "rect"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("meta", "path", "use", "rect"):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_holds_the_answer(make_results: MakeResults) -> None:
    info = StudyInfo(
        "by-hand",
        question="Does it?\nIt costs 2 minutes.",
        commands={"run what is missing": "hssl-ray run by-hand.yaml"},
        datasets={"mnist-mini": "ab" * 32},
        versions={"torch": "2.13.0"},
        digest="cd" * 32,
        commit="ef" * 20,
    )
    results = make_results(A, H, FROZEN)
    parsed = Tags(page(results, info))
    assert parsed.open == []
    assert parsed.elements[0][0] == "html"
    wanted = [
        "Does it?",
        "81.0 ± 1.0",
        "compared on seeds 0, 1",
        "hssl-ray run by-hand.yaml",
        "ab" * 32,
        "2.13.0",
        "cd" * 32,
        "ef" * 20,
        "How sure",
    ]
    wanted += [*results["trial_id"].to_pylist(), "8 of 9 trials finished; 1 failed."]
    assert [text for text in wanted if text not in parsed.text] == []
    assert sum(tag == "svg" for tag, _ in parsed.elements) == 4  # difference, seeds, two curves


def test_the_history_of_the_drawn_cells_is_all_that_a_page_shows(
    make_results: MakeResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a hundred pairs, nine tenths of all journals need not be read."""
    monkeypatch.setattr(page_module, "DRAWN", 2)
    arms = [{**arm, "temperature": t} for t in (0.1, 0.2, 0.3, 0.4) for arm in (A, {**H, "values": [0.8, 0.8, 0.9]})]
    results = make_results(*arms)
    comparison, whole = compare(results, QUESTION), history(results)
    cells = drawn_cells(comparison)
    assert (len(comparison.pairs), len(cells)) == (4, 4)
    part = whole.filter(pc.is_in(whole["cell"], pa.array(sorted(cells))))
    assert 0 < len(part) < len(whole)
    pages = [render(comparison, results, of, StudyInfo("by-hand")).html for of in (whole, part, whole.slice(0, 0))]
    assert pages[0] == pages[1] != pages[2]


def test_no_name_becomes_markup(make_results: MakeResults) -> None:
    told = {HOSTILE: HOSTILE}
    info = StudyInfo(HOSTILE, HOSTILE, HOSTILE, HOSTILE, told, told, told, HOSTILE, HOSTILE)
    parsed = Tags(page(make_results(A, H, FROZEN), info))
    assert not any(tag == "script" for tag, _ in parsed.elements)
    assert HOSTILE in parsed.text  # shown as it is, in the title, the reason and elsewhere
    assert "54439" not in parsed.text.replace(HOSTILE, "")
    assert all(not name.startswith("on") for _, attrs in parsed.elements for name in attrs)


def test_the_page_asks_nothing_of_the_network(make_results: MakeResults) -> None:
    text = page(make_results(A, H, FROZEN))
    assert re.findall(r"https?:|//[a-z]|@import|url\((?!#)", text) == []
    for tag, attributes in Tags(text).elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "script")
        targets = [value for name, value in attributes.items() if name in ("src", "href", "xlink:href", "action")]
        assert all(value is not None and value.startswith("#") for value in targets)
    assert "default-src 'none'" in text


@pytest.mark.parametrize(
    "arms",
    {
        "nothing": [],
        "one seed": [{"method": "a_ssl", "values": [0.8]}, {"method": "h_ssl", "values": [0.7]}],
        "one side": [A],
        "nothing finished": [{"method": "a_ssl", "values": [("planned", None)]}],
        "no spread": [{"method": m, "values": [0.5, 0.5, 0.5]} for m in ("a_ssl", "h_ssl", "supervised")],
        "f_ssl": [{"method": m, "group": "translation", "values": [0.5, 0.6]} for m in ("a_ssl", "f_ssl", "h_ssl")],
    }.values(),
)
def test_a_study_in_any_state_has_a_page(make_results: MakeResults, arms: list[dict[str, Any]]) -> None:
    results = make_results(*arms) if arms else make_results(A).slice(0, 0)
    empty = history(make_results(A)).slice(0, 0)
    text = render(compare(results, QUESTION), results, empty, StudyInfo("by-hand")).html
    assert Tags(text).open == []


def test_many_settings_keep_the_page_small(make_results: MakeResults) -> None:
    arms = [{**arm, "temperature": 0.1 + i / 100} for i in range(50) for arm in (A, {**A, "method": "h_ssl"})]
    text = page(make_results(*arms))
    assert "42 more settings have no figures of their own here." in text
    assert "10 more settings are in the table alone." in text
    assert len(text) < 2_000_000


def test_figures_are_the_same_text_twice_and_follow_the_theme(make_results: MakeResults) -> None:
    results = make_results(A, H, FROZEN)
    comparison = compare(results, QUESTION)
    curves = cell_curves(history(results))
    (pair,) = comparison.pairs
    assert curve_metrics(curves, QUESTION) == ["probe/top1", "train/loss"]

    drawings = [
        difference_figure(comparison),
        seed_figure(pair, QUESTION),
        curve_figure(curves, pair.cells, "train/loss", pair.label),
    ]
    first = [drawing.svg for drawing in drawings]
    assert first == [replace(drawing).svg for drawing in drawings], "the same text when it is drawn again"
    for svg in first:
        drawn = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", svg))
        assert drawn == set()  # every colour is a variable
        assert "var(--ink, #1c1f24)" in svg
    assert "A-SSL" in first[2] and "frozen" in first[2]


def test_every_figure_of_a_page_is_a_picture_in_the_light_themes_colours(make_results: MakeResults) -> None:
    results = make_results(A, H, FROZEN, **{"eval/equivariance_error": 3e-7})
    made = render(compare(results, QUESTION), results, history(results), StudyInfo("by-hand"))
    pictures = made.pictures()
    wanted = {"differences", "seeds-rotation", "curves-rotation-probe-top1", "curves-rotation-train-loss"}
    assert {name.removesuffix(".png") for name in pictures} == {*wanted, "equivariance-and-gap"}
    assert made.html.count("<svg") == len(pictures)
    with Image.open(io.BytesIO(pictures["seeds-rotation.png"])) as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24) or ()}
    assert picture.format == "PNG" and (255, 255, 255) in colours
    assert not {(number,) * 3 for number in range(1, 10)} & colours, "a placeholder was drawn"
    assert (0x1C, 0x1F, 0x24) in colours  # ink


def test_figures_of_one_name_are_two_files() -> None:
    def drawing(name: str) -> Drawing:
        return Drawing(name, name, lambda paint: canvas(1.0, paint)[0])

    assert list(Page("", (drawing("a"), drawing("a"), drawing("a.b"))).pictures()) == ["a.png", "a.2.png", "a.b.png"]


def test_cost_by_cell_and_one_pass_against_two(make_results: MakeResults) -> None:
    results = make_results(A, {**A, "method": "h_ssl"}, FROZEN, **{"eval/equivariance_error": 3e-7})
    speeds = {"a_ssl": 100.0, "h_ssl": 180.0, "frozen": None}
    results = results.append_column(
        "perf/images_per_second", pa.array([speeds[m] for m in results["method"].to_pylist()], pa.float64())
    )
    table = cost_table(results)
    assert table.title == "Cost: 9.0 min of training"
    assert table.rows[0] == ("a_ssl-rotation", "3", "3.0 min", "100")
    assert table.rows[2] == ("frozen-rotation", "3", "3.0 min", "–")
    assert one_pass_against_two(results, compare(results, QUESTION)) == [
        "rotation: H-SSL saw 180 images a second, A-SSL 100: 1.80 times as many"
    ]
    health = health_table(results)
    assert health is not None and health.header == ("cell", "equivariance error")
    assert health.rows[0] == ("a_ssl-rotation", "3e-07")
    assert health_table(make_results(A)) is None
