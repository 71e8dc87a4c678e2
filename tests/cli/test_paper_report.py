"""`hssl-ray report table1 | table2 | figure3` on a real MLflow store, and what it refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import typer
from mlflow import MlflowClient
from typer.testing import CliRunner, Result

from hssl_ray.cli.errors import exit_code
from hssl_ray.cli.report import report
from hssl_ray.data.home import home
from hssl_ray.report.paper.readings import TableError
from hssl_ray.study.file.problems import StoreUnavailable, StudyError
from hssl_ray.study.file.sections import Checkpoints
from hssl_ray.study.ledger import Outcome
from hssl_ray.study.results import results_schema
from hssl_ray.study.spec import PlannedTrial
from hssl_ray.study.tracker.tracked import tracking_uri
from hssl_ray.study.tracking import MlflowTracker, read_store
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.journal import Record


class FakeStudy:
    digest = "d" * 64
    checkpoints = Checkpoints()

    def __init__(self, study: str) -> None:
        self.study = study


def planned(method: Any, seed: int, **fields: Any) -> PlannedTrial:
    given = {"dataset": "mnist", "group": "scale", "epochs": 4, "warmup_epochs": 1, "width": 0.25, **fields}
    config = TrialConfig(method=method, seed=seed, **given)
    return PlannedTrial(config.trial_id, config, f"{method}-scale", f"{method}-scale-s{seed}")


def ended(top1: float) -> list[Record]:
    return [Record(4, {"epoch": 4.0, "probe/top1": top1, "probe/ridge_top1": top1 - 0.1}, None, 1, 1_700_000_000.0)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two studies: the second shares the first's A-SSL trials, and has H-SSL, one trial running, and other base sizes.
    A run without params is what a driver left that died in the middle of making it."""
    folder = tmp_path_factory.mktemp("store")
    uri = tracking_uri(folder)
    shared = [planned("a_ssl", 0), planned("a_ssl", 1)]
    own = [planned("h_ssl", seed, base_size=size) for size in (1, 3) for seed in (0, 1)]
    for study, trials in (("first", shared), ("second", [*shared, *own])):
        tracker = MlflowTracker(uri, folder)
        tracker.study_opened(FakeStudy(study), len(trials))
        for number, trial in enumerate(trials):
            tracker.replay(trial, ended(0.95 + number / 100), Outcome("finished", attempt=1, seconds=1.0))
        if study == "second":
            tracker.trial_started(planned("frozen", 0), 1)
        assert tracker.close(60) and tracker.synced
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("first")
    assert experiment is not None
    tags = {"hssl.kind": "trial", "hssl.study": "first", "hssl.trial_id": "f" * 16, "hssl.cell": "h_ssl-scale"}
    client.create_run(experiment.experiment_id, run_name="half-made", tags=tags)
    return uri


@pytest.fixture
def tracked(store: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    return store


def call(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(report)
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def test_the_store_is_read_across_studies_in_the_schema_of_one(tracked: str) -> None:
    found = read_store(tracked, home())
    assert found.table.schema.names[: len(results_schema())] == results_schema().names
    assert found.table.schema.names[len(results_schema()) :] == ["probe/ridge_top1", "probe/top1"]
    rows = found.table.to_pylist()
    shared = {(row["name"], row["study"]) for row in rows if row["method"] == "a_ssl"}
    assert shared == {(f"a_ssl-scale-s{seed}", study) for seed in (0, 1) for study in ("first", "second")}
    assert len(rows) == 4 + 4 + 1 and len({row["trial_id"] for row in rows}) == 7
    assert [row["state"] for row in rows if row["method"] == "frozen"] == ["running"]
    assert found.unreadable == ("half-made",)


def test_a_home_without_a_store_is_read_as_empty_and_stays_so() -> None:
    assert read_store(tracking_uri(home()), home()).table.num_rows == 0
    assert not home().exists()
    assert "no trial of this table yet" in call("table1").output


def test_a_store_that_is_none_or_does_not_answer_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("not a database" * 100)
    for uri in (f"sqlite:///{tmp_path / 'x.db'}", "http://name:secret@127.0.0.1:9"):
        with pytest.raises(StoreUnavailable) as told:
            read_store(uri, tmp_path)
        assert exit_code(told.value) == 3
        assert "does not answer" in str(told.value) and "secret" not in str(told.value) and "\n" not in str(told.value)


def test_table_1_in_the_terminal(tracked: str) -> None:
    said = call("table1")
    assert said.exit_code == 0
    (line,) = [line for line in said.output.splitlines() if line.startswith("| mnist ") and "(2)" in line]
    assert [cell.strip() for cell in line.split("|")[4:8]] == [
        "95.5 ± 0.7 (2)",
        "**97.5 ± 0.7 (2)**",
        "missing (paper 94.7)",
        "missing (paper 99.3)",
    ]
    assert "- 1 run of the store is not read: its params are no trial of this version" in said.output
    assert "| frozen-scale-s0 | running |" in said.output


def test_a_file_has_the_format_of_its_suffix(tracked: str, tmp_path: Path) -> None:
    for name, opens in {
        "t.md": "On mnist scale",
        "t.csv": "table,dataset",
        "t.tex": "% needs",
        "t.json": "{\n",
        "t.html": "<!doctype html>",
    }.items():
        said = call("table1", "--output", str(tmp_path / name))
        assert (said.exit_code, said.output) == (0, f"{tmp_path / name}\n")
        assert (tmp_path / name).read_text().startswith(opens)
    assert json.loads(call("table1", "--format", "json").output)["table"] == "table1"
    lines = csv.DictReader(call("table2", "--format", "csv").output.splitlines())
    assert {line["table"] for line in lines} == {"table2"}
    page = (tmp_path / "t.html").read_text()
    assert "7 trials of 2 studies in sqlite:///" in page and "report table1 --metric probe/top1" in page


def test_figure_3_is_a_table_or_a_picture(tracked: str, tmp_path: Path) -> None:
    assert "Figure 3, left" in call("figure3", "--study", "second").output
    for name, opens in {"f.png": b"\x89PNG", "f.svg": b"<svg ", "f.html": b"<!doctype"}.items():
        assert call("figure3", "--output", str(tmp_path / name)).exit_code == 0
        assert (tmp_path / name).read_bytes().startswith(opens)
    with pytest.raises(TableError, match=r"must end in \.md, \.csv, \.tex, \.html, \.json, or come with --format"):
        call("table1", "--output", str(tmp_path / "t.png"))


def test_metric_margin_and_study_reach_the_table(tracked: str) -> None:
    said = json.loads(
        call(
            "table1", "--metric", "probe/ridge_top1", "--margin", "0.05", "--study", "first", "--format", "json"
        ).output
    )
    (row,) = [row for row in said["rows"] if row["cells"]["a_ssl"]]
    assert (said["metric"], said["margin"]) == ("probe/ridge_top1", 0.05)
    assert row["cells"]["a_ssl"]["mean"] == pytest.approx(0.855) and row["cells"]["h_ssl"] is None


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (["table1", "--where", "widht=1"], StudyError, 'did you mean "width"?'),
        (["table1", "--study", "frist"], TableError, 'did you mean "first"?'),
        (["table1", "--metric", "probe/top2"], TableError, 'did you mean "probe/top1"?'),
        (["table1", "--margin", "0"], TableError, "--margin: must be above 0, got 0.0"),
        (["table1", "--confidence", "0.5"], TableError, "--confidence: must be above 0.5 and below 1, got 0.5"),
    ],
)
def test_what_is_no_question_is_exit_code_2(tracked: str, arguments: list[str], error: Any, says: str) -> None:
    with pytest.raises(error) as refused:
        call(*arguments)
    assert says in str(refused.value)
    assert exit_code(refused.value) == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["tabel1"], 'got "tabel1" (did you mean "table1"?)'),
        (["table1", "--set", "base.epochs=1"], "--set: belongs to a study file, got table1"),
        (["study.yaml", "--where", "width=1"], "--where: belongs to table1, table2 and figure3"),
        (["study.yaml", "--margin", "0.0"], "--margin: belongs to table1, table2 and figure3"),
        (["table1", "--format", "png"], "'png' is not one of"),
    ],
)
def test_misuse_is_exit_code_2_with_a_sentence(arguments: list[str], says: str) -> None:
    said = call(*arguments)
    assert said.exit_code == 2
    assert says in " ".join(said.output.replace("│", " ").split())
