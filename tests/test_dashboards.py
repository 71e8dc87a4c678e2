"""Dashboards are what `dashboards/make.py` says, name only metrics that exist, and alerts fire when they should."""

import json
import re
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hssl_ray.study.live import FAMILIES

ROOT = Path(__file__).parents[1] / "dashboards"
MAKE = runpy.run_path(str(ROOT / "make.py"))
BOARDS: dict[str, dict[str, Any]] = {path.name: json.loads(path.read_text()) for path in (ROOT / "grafana").iterdir()}
OURS = {f"ray_{family.name}{'_total' if family.kind == 'counter' else ''}": family for family in FAMILIES}


def expressions() -> list[str]:
    boards = [target["expr"] for board in BOARDS.values() for panel in board["panels"] for target in panel["targets"]]
    rules = re.findall(r"expr:(.*?)(?=\n        (?:for|labels):)", (ROOT / "prometheus/rules.yml").read_text(), re.S)
    return boards + rules


def test_the_files_are_what_make_writes() -> None:
    made = {f"{board.uid}.json": MAKE["as_json"](board) for board in MAKE["DASHBOARDS"]}
    assert made == BOARDS, "run: python dashboards/make.py"


def test_every_metric_of_ours_exists_with_the_labels_it_is_asked_for() -> None:
    named = 0
    for expression in expressions():
        for name, inside in re.findall(r"(ray_hssl_[a-z_]+)(?:\{([^}]*)\})?", expression):
            family = OURS[name]
            assert set(re.findall(r"(\w+)=", inside)) <= set(family.labels), expression
            named += 1
    assert named > 20


def test_every_metric_is_shown_or_alerted_on() -> None:
    """A number that nobody looks at is not worth its series."""
    assert set(OURS) == set(re.findall(r"ray_hssl_[a-z_]+", " ".join(expressions())))


def test_panels_lie_beside_one_another() -> None:
    for board in BOARDS.values():
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            at = panel["gridPos"]
            cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
            assert at["x"] + at["w"] <= 24 and not cells & taken, panel["title"]
            taken |= cells
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_no_data_source_is_fixed() -> None:
    """So that a dashboard can be imported into any Grafana."""
    text = json.dumps(BOARDS)
    assert set(re.findall(r'"uid": "(\$?[^"]*)"', text)) == {"${datasource}", *(b["uid"] for b in BOARDS.values())}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize("command", [("check", "rules", "rules.yml"), ("test", "rules", "rules_test.yml")])
def test_promtool_accepts_the_alerts(command: tuple[str, ...]) -> None:
    ran = subprocess.run(["promtool", *command], cwd=ROOT / "prometheus", capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_the_alerts_tests_can_fail(tmp_path: Path) -> None:
    """The negative control: with a threshold moved, promtool says so."""
    for path in (ROOT / "prometheus").iterdir():
        shutil.copy(path, tmp_path)
    rules = (tmp_path / "rules.yml").read_text()
    assert "> 1800" in rules
    (tmp_path / "rules.yml").write_text(rules.replace("> 1800", "> 9000"))
    ran = subprocess.run(
        ["promtool", "test", "rules", "rules_test.yml"], cwd=tmp_path, capture_output=True, check=False
    )
    assert ran.returncode != 0


def test_every_alert_says_what_to_do() -> None:
    text = (ROOT / "prometheus/rules.yml").read_text()
    assert text.count("- alert:") == text.count("mend:") == text.count("summary:") == 6
