"""docs/diagnostics.md lists every metric that a study may name, and none that is not measured."""

import re
from pathlib import Path

from hssl_ray.study.metrics import FINAL_METRICS, METRICS, TABLES

PAGE = (Path(__file__).parents[2] / "docs" / "diagnostics.md").read_text()
ROWS = re.findall(r"^\| (`.*?`) \| (.*?) \|", PAGE, re.MULTILINE)


def test_every_metric_has_its_row_and_every_row_its_metric() -> None:
    named = [name for first, _ in ROWS for name in re.findall(r"`([a-z]+/[^`]+)`", first)]
    assert len(named) == len(set(named))
    # Those that no study names: one for each stage, or of some epochs alone.
    unnamed = (TABLES, "train/loss_stage", "perf/checkpoint_seconds")
    assert {name for name in named if not name.startswith(unnamed)} == set(METRICS)
    assert any(name.startswith(TABLES) for name in named)


def test_the_rows_say_which_metrics_come_with_the_last_epoch_alone() -> None:
    last = {name for first, when in ROWS if when == "last" for name in re.findall(r"`([^`]+)`", first)}
    assert last == set(FINAL_METRICS)
