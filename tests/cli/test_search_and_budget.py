"""A budget, a race and a search as a user has them: files, exit codes, what is printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_run import TINY, hssl_ray

SEARCH = """\
search:
  sampler: tpe
  trials: 2
  metric: probe/top1
  warm_start: another
  space: {temperature: {low: 0.05, high: 0.5, log: true}}
"""


def test_a_warm_start_from_a_study_that_never_ran_is_exit_code_2(tmp_path: Path) -> None:
    study = tmp_path / "tiny.yaml"
    study.write_text(TINY.replace("[a_ssl, h_ssl, frozen]", "[a_ssl, h_ssl]") + SEARCH)
    told = hssl_ray("run", str(study), "--engine", "inline")
    assert told.returncode == 2 and "Traceback" not in told.stderr
    assert 'search.warm_start: no study of this name has run here, got "another"' in told.stderr


def test_a_plan_of_a_race_shows_the_least_and_the_most(tmp_path: Path) -> None:
    study = tmp_path / "tiny.yaml"
    study.write_text(TINY.replace("seeds: 2", "seeds: {start: 2, at_most: 6}"))
    told = hssl_ray("plan", str(study))
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("tiny: 6 to 14 trials = 3 cells x 2 to 6 seeds\n")
    assert json.loads(hssl_ray("plan", str(study), "--json").stdout)["least_trials"] == 6


@pytest.mark.slow
def test_a_budget_that_is_used_up_is_exit_code_7_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    """Of a race, whose comparison names its look."""
    study = tmp_path / "tiny.yaml"
    short = TINY.replace("epochs: 2\n  warmup_epochs: 1", "epochs: 1\n  warmup_epochs: 0").replace(", frozen]", "]")
    study.write_text(short.replace("seeds: 2", "seeds: {start: 2, at_most: 4}\nbudget: {trials: 2}"))
    first = hssl_ray("run", str(study), "--engine", "inline")
    assert first.returncode == 7, first.stderr
    assert "Stopped by budget.trials: 2 of 2 have begun. With a larger budget the study goes on" in first.stdout
    assert "stopped by budget.trials: 2 of 2 have begun" in hssl_ray("status", str(study)).stdout
    larger = hssl_ray("run", str(study), "--engine", "inline", "--set", "budget.trials=20")
    assert larger.returncode == 0, larger.stderr
    assert "of at most 2, " in larger.stdout and "so that all looks together are wrong at most 5 %" in larger.stdout
    status = json.loads(hssl_ray("status", str(study), "--json").stdout)
    assert status["stopped"] is None and status["left"] == 0
    assert status["trials"] in (4, 8)
