"""`hssl-ray sync`: what it says and how it ends where there is little to send; outages are in tests/faults."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hssl_ray.cli import app
from hssl_ray.cli.sync import _as_planned
from hssl_ray.study.lease import StudyLocked
from hssl_ray.study.ledger import History, Ledger
from hssl_ray.study.spec import load_study
from hssl_ray.trial.durable import NewerFormat

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "studies").rglob("*.yaml"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "s.yaml"
    path.write_text("study: s\nbase: {dataset: mnist-mini, epochs: 2, warmup_epochs: 0}\n")
    return path


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_is_read_back_from_its_ledger_as_it_was(path: Path) -> None:
    study = load_study(path, large=True)
    history = History(study=json.loads(json.dumps(study.model_dump(mode="json"))))
    assert _as_planned(study.study, history).digest == study.digest


def test_a_plan_of_another_version_is_named() -> None:
    with pytest.raises(NewerFormat, match="another version of hssl-ray ran it"):
        _as_planned("old", History(study={"study": "old", "axes": {}}))


def test_a_study_that_never_ran_has_nothing_to_send(file: Path) -> None:
    told = CliRunner().invoke(app, ["sync", str(file)])
    assert (told.exit_code, told.output) == (0, "s: never run here, so there is nothing to send\n")
    assert CliRunner().invoke(app, ["sync", "--all"]).output == ""


def test_a_study_that_is_being_run_is_left_to_its_driver(file: Path, tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "home", "s"):
        told = CliRunner().invoke(app, ["sync", str(file)])
        assert isinstance(told.exception, StudyLocked) and "sends its results itself" in str(told.exception)
        every = CliRunner().invoke(app, ["sync", "--all"])
    assert every.exit_code == 0 and every.output.startswith("s: being run by process ")


@pytest.mark.parametrize("words", [["sync"], ["sync", "s.yaml", "--all"]])
def test_a_study_or_all_of_them(words: list[str]) -> None:
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 2 and "name a study file, or --all" in told.output
