"""compare and status as a person runs them: a study file, a ledger, text or JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from hssl_ray.cli.compare import compare
from hssl_ray.cli.programs import again
from hssl_ray.cli.questions import question_of
from hssl_ray.cli.readers import leading_comment, read_study
from hssl_ray.cli.report import report
from hssl_ray.cli.status import status
from hssl_ray.data.home import home
from hssl_ray.study.file.problems import StudyError
from hssl_ray.study.ledger import Ledger, Outcome
from hssl_ray.study.spec import PlannedTrial, Study, load_study

STUDY = """\
# Does H-SSL match A-SSL?
#
# 6 trials, a minute.
# yaml-language-server: $schema=study.json
study: by-file
base: {group: rotation, epochs: 3, warmup_epochs: 1, batch_size: 256}
# not part of the question
grid: {method: [a_ssl, h_ssl]}
seeds: 3
"""


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    path = tmp_path / "by-file.yaml"
    path.write_text(STUDY)
    return path


def ran(path: Path, values: Sequence[float | Outcome | None], overrides: Sequence[str] = ()) -> None:
    """Write what a driver would have: these outcomes, in the order of the plan; None is never started."""
    study = load_study(path, overrides)
    trials: list[PlannedTrial] = [*study.planned()]
    with Ledger.open(home(), study.study) as ledger:
        ledger.planned(study.digest, study.model_dump(mode="json"), trials)
        for trial, value in zip(trials, values, strict=True):
            if value is None:
                continue
            ledger.started(trial, 1)
            if isinstance(value, float):
                value = Outcome("finished", metrics={"probe/ridge_top1": value}, attempt=1, seconds=60.0)
            ledger.ended(trial.trial_id, value)


def call(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(compare)
    app.command()(status)
    app.command()(report)
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def test_compare_prints_cells_verdict_and_nothing_else_to_do(study_file: Path) -> None:
    ran(study_file, [0.80, 0.81, 0.82, 0.80, 0.811, 0.819])
    said = call("compare", str(study_file))
    assert said.exit_code == 0
    assert "81.0 ± 1.0 (3)" in said.output
    assert "On rotation, H-SSL matches A-SSL within ±2 points" in said.output
    assert "Run what is missing" not in said.output
    assert all(len(line) < 200 for line in said.output.splitlines())  # a pipe gets lines, not a page's width of blanks


def test_compare_as_markdown_has_the_same_numbers(study_file: Path) -> None:
    ran(study_file, [0.80, 0.81, 0.82, 0.805, 0.815, 0.826])
    text, page = (call("compare", str(study_file), *flag).output for flag in ((), ("--markdown",)))
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| rotation")]
    assert len(rows) == 3  # the pair and its two cells
    assert all(cell.strip() in text for row in rows for cell in row)


def test_compare_names_what_is_missing_and_still_succeeds(study_file: Path) -> None:
    ran(study_file, [0.80, 0.81, 0.82, 0.80, 0.811, Outcome("failed", "out_of_memory: [red]2 GiB[/red]")])
    said = call("compare", str(study_file))
    assert said.exit_code == 0
    assert "h_ssl-rotation-s2" in said.output
    assert "out_of_memory: [red]2 GiB[/red]" in said.output  # brackets are text, not markup
    assert f"Run what is missing: {again('run', study_file, [])}" in said.output


def test_compare_before_anything_ran(study_file: Path) -> None:
    said = call("compare", str(study_file))
    assert said.exit_code == 0
    assert "No answer yet" in said.output
    comparison = json.loads(call("compare", str(study_file), "--json").output)
    assert [gap["state"] for gap in comparison["missing"]] == ["planned"] * 6


def test_compare_json_has_both_methods_with_their_seeds(study_file: Path) -> None:
    ran(study_file, [0.80, 0.81, 0.82, 0.80, 0.811, 0.819])
    (pair,) = json.loads(call("compare", str(study_file), "--json").output)["pairs"]
    assert (pair["baseline"]["method"], pair["baseline"]["n"]) == ("a_ssl", 3)
    assert (pair["against"]["method"], pair["against"]["n"]) == ("h_ssl", 3)
    assert pair["answer"]["verdict"] == "equivalent"


def test_an_unknown_or_broken_study_is_a_study_error(study_file: Path, tmp_path: Path) -> None:
    """The command line turns it into exit code 2."""
    with pytest.raises(StudyError):
        call("compare", str(tmp_path / "absent.yaml"))
    study_file.write_text("study: [")
    with pytest.raises(StudyError):
        call("status", str(study_file))


def test_status_counts_states_and_says_how_to_go_on(study_file: Path) -> None:
    broken = [Outcome("diverged", "loss: nan at epoch 2"), Outcome("failed", "disk_full: x")]
    ran(study_file, [0.8, 0.8, *broken, None, None])
    said = call("status", str(study_file))
    assert said.exit_code == 0
    assert "2 of 6 trials finished; 2 planned, 1 diverged, 1 failed." in said.output
    assert "loss: nan at epoch 2" in said.output
    assert f"Continue: {again('run', study_file, [])}" in said.output
    counted = json.loads(call("status", str(study_file), "--json").output)
    assert counted["states"] == {"finished": 2, "planned": 2, "diverged": 1, "failed": 1}
    assert counted["left"] == 3


def test_a_changed_file_is_read_as_it_is_now(study_file: Path) -> None:
    """More seeds: the new ones are planned. Other epochs: the old trials are others, left out and counted."""
    ran(study_file, [0.80, 0.81, 0.82, 0.80, 0.811, 0.819])
    study_file.write_text(STUDY.replace("seeds: 3", "seeds: 4"))
    more = read_study(study_file, (), home())
    assert (more.results.num_rows, more.stale) == (8, 0)
    assert more.results["state"].to_pylist().count("planned") == 2
    study_file.write_text(STUDY.replace("epochs: 3", "epochs: 4"))
    other = read_study(study_file, (), home())
    assert (other.results["state"].to_pylist(), other.stale) == (["planned"] * 6, 6)
    assert "6 trials of an earlier version of the study file are left out" in call("status", str(study_file)).output


def test_overrides_of_the_run_are_overrides_of_its_readers(study_file: Path) -> None:
    ran(study_file, [0.8] * 6, overrides=["base.epochs=2"])
    assert read_study(study_file, ["base.epochs=2"], home()).stale == 0
    said = call("status", str(study_file), "--set", "base.epochs=2")
    assert "6 of 6 trials finished." in said.output


def test_the_question_is_the_files(study_file: Path) -> None:
    study_file.write_text(
        STUDY + "compare: {margin: 0.05, metric: probe/top1}\n"
        "search: {trials: 2, goal: minimize, metric: train/loss, space: {temperature: [0.1, 0.2]}}\n"
    )
    question = question_of(load_study(study_file))
    assert (question.margin, question.metric, question.confidence) == (0.05, "probe/top1", 0.95)
    assert (question.sampled, question.search_metric, question.maximize) == (("temperature",), "train/loss", False)


def test_the_leading_comment_is_the_question(study_file: Path) -> None:
    assert leading_comment(study_file) == "Does H-SSL match A-SSL?\n\n6 trials, a minute."
    study_file.write_text("study: x\n# no\n")
    assert leading_comment(study_file) == ""


def test_a_leading_comments_lines_flow_and_its_lists_stay(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("# One\n# two?\n#\n#\n# Seen:\n# - this\n# - that\nstudy: s\n# no\n")
    assert leading_comment(path) == "One two?\n\nSeen:\n- this\n- that"


def test_the_page_of_a_study_is_written_beside_its_ledger(study_file: Path, tmp_path: Path) -> None:
    ran(study_file, [0.80, 0.81, 0.82, 0.80, 0.811, None])
    said = call("report", str(study_file))
    page = home() / "studies" / "by-file" / "report.html"
    assert (said.exit_code, said.output) == (0, f"{page}\n")
    text = page.read_text()
    assert "Does H-SSL match A-SSL?" in text
    assert again("run", study_file, []) in text
    assert "h_ssl-rotation-s2" in text
    assert version("torch") in text
    call("report", str(study_file), "--output", str(tmp_path / "elsewhere.html"))
    assert (tmp_path / "elsewhere.html").exists()
    assert list(tmp_path.glob("*.partial")) == []


@pytest.mark.parametrize("module", ["compare", "status", "report", "pages", "similarity"])
def test_readers_start_without_torch_ray_or_mlflow(module: str) -> None:
    heavy = "('torch', 'ray', 'mlflow', 'optuna')"
    check = f"import sys, hssl_ray.cli.{module}; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_a_study_read_as_it_was_planned_is_not_planned_again(study_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Making 10,000 trials takes longer than reading them; what the ledger has is what the file says."""
    ran(study_file, [0.80, 0.81, 0.82, 0.80, 0.811, 0.819])
    planned = [trial.trial_id for trial in load_study(study_file).planned()]
    calls: list[str] = []
    original = Study.planned

    def planning(study: Study) -> Iterator[PlannedTrial]:
        calls.append(study.study)
        return original(study)

    monkeypatch.setattr(Study, "planned", planning)
    assert read_study(study_file, (), home()).results["trial_id"].to_pylist() == planned
    assert not calls
    study_file.write_text(STUDY.replace("seeds: 3", "seeds: 4"))
    assert read_study(study_file, (), home()).results.num_rows == 8
    assert calls


def test_only_the_metrics_that_are_wanted_become_columns(study_file: Path) -> None:
    both = {"probe/ridge_top1": 0.8, "train/loss": 1.0}
    ran(study_file, [Outcome("finished", metrics=both)] * 6)
    assert set(both) <= set(read_study(study_file, (), home()).results.column_names)
    some = read_study(study_file, (), home(), lambda study: {study.compare.metric}).results
    assert some["probe/ridge_top1"].to_pylist() == [0.8] * 6
    assert "train/loss" not in some.column_names


def test_many_settings_are_summed_up_unless_all_are_asked_for(study_file: Path) -> None:
    temperatures = [round(0.1 + 0.01 * k, 2) for k in range(51)]
    study_file.write_text(STUDY.replace("[a_ssl, h_ssl]", f"[a_ssl, h_ssl], temperature: {temperatures}"))
    ran(study_file, [0.8 + 0.001 * (k % 7) for k in range(306)])
    assert "102 cells; --all lists each" in call("status", str(study_file)).output
    assert call("status", str(study_file), "--all").output.count("h_ssl-rotation-temperature=") == 51
    assert "the best 50 of 51 settings" in call("compare", str(study_file)).output
    whole = call("compare", str(study_file), "--all").output
    assert "of 51 settings" not in whole and all(f"temperature={t}" in whole for t in temperatures)
