"""`hssl-ray plan` and `hssl-ray schema`: what they print, how they end, how fast they start."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from hssl_ray.cli.plan import plan
from hssl_ray.cli.schema import schema
from hssl_ray.study.file.schema import study_keys, study_schema
from hssl_ray.study.spec import load_study

GOOD = "study: quick\nbase: {epochs: 5, warmup_epochs: 1, batch_size: 250}\ngrid: {method: [a_ssl, h_ssl]}\nseeds: 3\n"

app = typer.Typer()
app.command()(plan)
app.command()(schema)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "s.yaml"
    path.write_text(GOOD)
    return path


def invoke(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_a_person_sees_cells_cost_power_and_warnings(study: Path) -> None:
    text = invoke("plan", study, "--set", "base.image_size=28", "--throughput", "1000", "--sd", "0.005")
    lines = text.splitlines()
    assert lines[0] == "quick: 6 trials = 2 cells x 3 seeds"
    row = lines[2].split()
    assert row[:-1] == ["a_ssl-rotation", "3", "28", "x", "28", "96,480", "0.1695", "2", "5", "200"]
    assert float(row[-1].replace(",", "")) == pytest.approx(3 * 0.1695 * (5 * 62_000 + 10_000), rel=1e-3)
    (cost,) = [line for line in lines if line.startswith("Cost: about")]
    assert "at 1,000 GMAC/s (stated)" in cost
    (power,) = [line for line in lines if line.startswith("Power:")]
    assert "varies by 0.005 between seeds" in power and "equivalence within 0.02 takes 3 seeds" in power
    (warning,) = [line for line in lines if line.startswith("Warning:")]
    assert "a quarter turn does not commute" in warning


def test_json_holds_the_study_the_trials_and_the_forecast(study: Path) -> None:
    data: dict[str, Any] = json.loads(invoke("plan", study, "--json"))
    loaded = load_study(study)
    assert data["digest"] == loaded.digest
    assert data["study"] == loaded.model_dump(mode="json")
    assert [t["trial_id"] for t in data["planned"]] == [t.trial_id for t in loaded.planned()]
    assert (data["trials"], data["at_most"], data["power"]["seeds"]) == (6, False, 3)
    assert data["hours"] == pytest.approx(data["gmac"] / data["throughput"] / 3600)


def test_json_of_an_invalid_study_lists_its_problems(study: Path) -> None:
    data = json.loads(invoke("plan", study, "--json", "--set", "base.epohcs=1", code=2))
    assert data == {
        "problems": [
            {
                "file": "--set base.epohcs=1",
                "line": 1,
                "column": 1,
                "path": "base.epohcs",
                "message": 'unknown key (did you mean "epochs"?)',
            }
        ]
    }


def test_more_than_10000_trials_need_yes(study: Path) -> None:
    assert "more than 10,000 need --yes" in invoke("plan", study, "--set", "seeds=5001", code=2)
    assert "10,002 trials" in invoke("plan", study, "--set", "seeds=5001", "--yes")


def test_a_searched_study_says_that_its_cost_is_a_bound(study: Path) -> None:
    text = invoke("plan", study, "--set", "search={trials: 4, space: {temperature: [0.1, 0.2, 0.3, 0.4]}}")
    assert "quick: 24 trials = 2 cells x 3 seeds, 4 suggestions in each" in text
    assert "Cost: at most" in text


def test_one_seed_is_said_to_show_nothing(study: Path) -> None:
    text = invoke("plan", study, "--set", "seeds=1")
    assert "1 seed a cell can show nothing; equivalence within 0.02 takes 6 seeds" in text


@pytest.mark.parametrize(
    "option",
    [["--throughput", "0"], ["--sd", "0"], ["--sd", "nan"], ["--sd", "inf"], ["--throughput", "inf"], ["--nonsense"]],
)
def test_bad_options_are_usage_errors(option: list[str], study: Path) -> None:
    invoke("plan", study, *option, code=2)


def test_the_probe_measures_this_machine(study: Path) -> None:
    data = json.loads(invoke("plan", study, "--json", "--probe", "--set", "base.width=0.1"))
    assert data["throughput_source"] == "measured just now"
    assert 0.01 < data["throughput"] < 1e6
    assert data["hours"] == pytest.approx(data["gmac"] / data["throughput"] / 3600)


def test_the_schema_is_printed_as_json_and_as_tables() -> None:
    assert json.loads(invoke("schema")) == study_schema()
    assert invoke("schema", "--markdown") == study_keys()


PROGRAM = """
import sys
from typer import Typer
from hssl_ray.cli.plan import plan
app = Typer()
app.command()(plan)
app([{path!r}], standalone_mode=False)
print([m for m in {heavy!r} if m in sys.modules], file=sys.stderr)
"""
HEAVY = ["torch", "ray", "mlflow", "optuna", "scipy", "pyarrow", "pandas", "matplotlib"]


def test_plan_starts_cold_in_a_moment_and_without_the_heavy_libraries(study: Path) -> None:
    """Processor time of a whole process, the median of five: wall time would measure the machine's other work too."""
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        program = PROGRAM.format(path=str(study), heavy=HEAVY)
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.stdout.startswith("quick: 6 trials")
        assert done.stderr.splitlines()[-1] == "[]"
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert statistics.median(seconds) < 0.7
