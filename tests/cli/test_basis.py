"""`hssl-ray basis`: what it prints and writes, what it refuses, and that it starts without the heavy libraries."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hssl_ray.cli.basis import app
from hssl_ray.study.file.problems import StudyError

SCALE = """
study: bases
base: {group: scale, batch_size: 250}
grid: {method: [a_ssl, h_ssl], width: [0.25, 0.5]}
search: {trials: 2, space: {group: [scale, rotation]}}
"""


def invoke(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "bases.yaml"
    path.write_text(SCALE.replace("group: scale, ", ""))
    return path


def test_the_paper_s_bases_are_printed_with_who_uses_them() -> None:
    text = invoke("report")
    assert "mnist_cnn on scale: convolution 2 to 4; resnet20 on scale: convolution 2 to 20; resnet18" in text
    assert "resnet20 on scale: convolution 1; resnet18 on scale: convolution 1" in text
    assert re.search(r"^1\.33 +9 x 9 +81 of 121 .* 31\.84", text, re.MULTILINE)
    assert re.search(r"^1\.25 +5 x 5 +9 of 9 .* 0\.899 ", text, re.MULTILINE)
    assert re.search(r"^to 1 +0\.195 +0\.264 +0\.057", text, re.MULTILINE)
    assert "at scale 1 the 121 functions span 49 dimensions" in text


def test_a_study_s_bases_are_those_of_its_cells_and_of_what_it_searches(study: Path) -> None:
    found = json.loads(invoke("report", study, "--json"))
    specs = {(b["spec"]["kernel_size"], len(b["spec"]["scales"]), b["spec"]["rotations"]) for b in found}
    assert specs == {(11, 6, 1), (7, 6, 1), (11, 1, 4), (7, 1, 4)}
    only: Any = json.loads(invoke("report", study, "--json", "--set", "search.space.group=[rotation]"))
    assert {len(b["spec"]["scales"]) for b in only} == {1}


def test_a_basis_of_one_s_own() -> None:
    (own,) = json.loads(
        invoke("report", "--kernel-size", 15, "--effective-size", 3, "--scales", "1,1.26,1.59,2", "--json")
    )
    assert own["spec"]["scales"] == [1, 1.26, 1.59, 2]
    assert max(own["residuals"][0][1:]) < 0.003
    assert own["residuals"][1][0] is None
    (full,) = json.loads(invoke("report", "--kernel-size", 5, "--kind", "B", "--scales", "1", "--json"))
    assert (full["spec"]["effective_size"], full["spec"]["kind"]) == (5, "B")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["report", "--effective-size", "3"], "a basis of your own is a --kernel-size"),
        (["report", "bases.yaml", "--kernel-size", "7"], "a basis of your own is a --kernel-size"),
        (["report", "--kernel-size", "6"], "kernel_size: must be odd"),
        (["report", "--kernel-size", "7", "--rotations", "3"], "rotations: must be 1, 4"),
        (["report", "--kernel-size", "7", "--scales", "1,x"], "must be numbers with commas between, got 1,x"),
        (["report", "--kernel-size", "7", "--scales", "2,1"], "scales: must be positive and ascending"),
        (["report", "--smoothness", "0"], "smoothness: must be above 0"),
        (["report", "--output", "basis.pdf"], "must end in .html or .png"),
        (["sweep", "--output", "sweep.png"], "must end in .html, got"),
        (["sweep", "--kernel-sizes", "7.5"], "must be whole numbers"),
        (["sweep", "--scales", "1"], "scales: a sweep needs two or more"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(arguments: list[str], says: str) -> None:
    text = re.sub(r"[\s│╭╮╰╯─]+", " ", invoke(*arguments, code=2))
    assert says in text


def test_a_broken_study_is_told_as_everywhere(study: Path) -> None:
    with pytest.raises(StudyError, match=r"base\.epohcs: unknown key"):
        CliRunner().invoke(app, ["report", str(study), "--set", "base.epohcs=1"], catch_exceptions=False)


def test_the_page_stands_alone_and_holds_pictures(study: Path, tmp_path: Path) -> None:
    page = tmp_path / "basis.html"
    assert invoke("report", study, "--output", page).splitlines()[-1] == str(page)
    html = page.read_text()
    svgs = re.findall(r"<svg .*?</svg>", html, re.DOTALL)
    assert len(svgs) == 2 * 4
    for svg in svgs:
        ET.fromstring(svg.replace("xlink:href", "href"))
    sources = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert sources and all(source.startswith(("data:image/png;base64,", "#")) for source in sources)
    assert "https://" not in re.sub(r"data:[^\"]*", "", html)
    assert "img-src data:" in html


def test_pictures_are_small_and_the_same_again(study: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "1.png", tmp_path / "2.png"
    for path in (one, two):
        invoke("report", study, "--output", path)
    assert one.read_bytes() == two.read_bytes()
    assert one.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(one.read_bytes()) < 200_000


def test_a_sweep_is_printed_ranked_and_drawn(tmp_path: Path) -> None:
    arguments = ("sweep", "--kernel-sizes", "7,9", "--effective-sizes", "3", "--output")
    text = invoke(*arguments, tmp_path / "sweep.html")
    rows = [line.split() for line in text.splitlines() if line.startswith("k")]
    assert [row[:2] for row in rows] == [["k9", "e3"], ["k7", "e3"]]
    assert "<svg" in (tmp_path / "sweep.html").read_text()
    found = json.loads(invoke(*arguments, tmp_path / "again.html", "--json"))
    assert (tmp_path / "again.html").read_bytes() == (tmp_path / "sweep.html").read_bytes()
    assert [c["kernel_size"] for c in found] == [9, 7]
