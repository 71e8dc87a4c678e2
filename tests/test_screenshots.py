"""What the pictures of docs/images are made with, and what a real browser says of the page."""

from __future__ import annotations

import importlib
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from hssl_ray.report.compare import compare
from hssl_ray.report.comparison import Question
from hssl_ray.report.page import StudyInfo, render
from tests.report.conftest import make_results

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "docs" / "screenshots"
__all__ = ["make_results"]
MakeResults = Callable[..., pa.Table]
needs_browser = pytest.mark.skipif(
    shutil.which("chromium") is None or shutil.which("chromedriver") is None, reason="Chromium is not installed"
)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield importlib.import_module
    for name in ("browser", "make", "panels", "postgresql"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(("program", "names"), [("make.py", "chromium"), ("panels.py", "prometheus")])
def test_what_is_not_installed_is_said_in_one_line(program: str, names: str) -> None:
    arguments = [str(ROOT / "studies" / "quickstart.yaml")] if program == "make.py" else []
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / program), *arguments],
        env={**os.environ, "PATH": "/nowhere", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"{names}: must be installed") and done.stderr.count("\n") == 1


def test_a_picture_is_kept_small(script: Callable[[str], ModuleType]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3), np.uint8)
    whole = io.BytesIO()
    Image.fromarray(noise).save(whole, "PNG")
    kept = script("make").small(whole.getvalue())
    assert len(kept) < 200_000 < len(whole.getvalue())
    with Image.open(io.BytesIO(kept)) as picture:
        assert picture.size == (600, 600)


def test_every_panel_is_drawn_with_what_prometheus_said(
    script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    panels = script("panels")
    asked = []

    def answer(server: str, path: str, **query: str) -> Any:
        asked.append(query["query"])
        points = [[0, "1"], [2, "3"]] if len(asked) % 3 else []
        return {"result": [{"metric": {"method": "h_ssl"}, "values": points}] if points else []}

    monkeypatch.setattr(panels, "ask", answer)
    board = panels.json.loads(panels.BOARDS[0].read_text())
    picture = panels.board_picture(board, "http://127.0.0.1:1", 0.0, 2.0)
    assert len(asked) == len(board["panels"]) and not any("$" in query for query in asked)
    with Image.open(io.BytesIO(picture)) as drawn:
        assert len(drawn.convert("RGB").getcolors(1 << 24) or ()) > 8


@pytest.mark.slow
@needs_browser
def test_the_page_fits_a_phone_follows_the_scheme_and_unfolds_on_paper(
    script: Callable[[str], ModuleType], make_results: MakeResults, tmp_path: Path
) -> None:
    arms = [
        {"method": m, "group": g, "values": [0.8, 0.81, 0.82]}
        for m in ("a_ssl", "h_ssl")
        for g in ("scale", "rotation")
    ]
    results = make_results(*arms, **{"eval/equivariance_error": 3e-7, "perf/images_per_second": 1234.0})
    empty = pa.table({name: [] for name in ("cell", "epoch", "metric", "value")})
    question = Question(study="by-hand")
    html = render(compare(results, question), results, empty, StudyInfo("by-hand")).html
    page, wide = tmp_path / "page.html", tmp_path / "wide.html"
    page.write_text(html)
    wide.write_text(html.replace("<main", '<div style="width: 600px">wide</div><main'))
    grounds = {}
    with script("browser").browser() as tab:
        for scheme in ("light", "dark"):
            tab.look(390, 844, scheme=scheme, phone=True)
            tab.open(page.as_uri())
            assert tab.run("return document.documentElement.scrollWidth") == 390
            grounds[scheme] = tab.run("return getComputedStyle(document.body).backgroundColor")
        heights = {}
        for media in ("screen", "print"):
            tab.look(794, 1123, media=media)
            tab.open(page.as_uri())
            heights[media] = tab.run("return [...document.querySelectorAll('details')].map(one => one.clientHeight)")
        tab.look(390, 844, phone=True)
        tab.open(wide.as_uri())
        assert tab.run("return document.documentElement.scrollWidth") > 390, "the check above can fail"
    assert heights["print"] and all(
        on_paper > 2 * folded for on_paper, folded in zip(heights["print"], heights["screen"], strict=True)
    ), "nothing can be unfolded on paper"
    assert grounds == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}
