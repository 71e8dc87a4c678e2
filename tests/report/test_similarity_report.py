"""`hssl-ray similarity` on a home with checkpoints: pairs, the rows beside them, what is missing, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.amp import GradScaler
from typer.testing import CliRunner, Result

from hssl_ray.cli import app
from hssl_ray.data.home import home
from hssl_ray.method.networks import build_network
from hssl_ray.study.layout import trial_folder
from hssl_ray.study.ledger import Ledger, Outcome
from hssl_ray.study.spec import PlannedTrial, load_study
from hssl_ray.trial import checkpoint
from hssl_ray.trial.checkpoint_files import WEIGHTS
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.optim import build_optimizer

STUDY = """\
study: alike
base: {group: rotation, epochs: 1, warmup_epochs: 0, batch_size: 100, width: 0.0625}
grid: {method: [a_ssl, h_ssl, frozen]}
seeds: 3
"""


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    path = tmp_path / "alike.yaml"
    path.write_text(STUDY)
    return path


def train(config: TrialConfig) -> None:
    """A checkpoint of weights that the method and the seed decide: those of the start, moved a little."""
    network = build_network(config)
    generator = torch.Generator().manual_seed(100 * config.seed + ord(config.method[0]))
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim > 1:
                weight.add_(0.3 * weight.std() * torch.randn(weight.shape, generator=generator))
    optimizer, scaler = build_optimizer(network, network.probe, config), GradScaler("cpu", enabled=False)
    workdir = trial_folder(home(), config.trial_id)
    checkpoint.commit(workdir, config, network, optimizer, scaler, epoch=config.epochs, metrics={})


def ran(path: Path, *, unfinished: tuple[str, ...] = (), damaged: tuple[str, ...] = ()) -> None:
    study = load_study(path)
    trials: list[PlannedTrial] = [*study.planned()]
    with Ledger.open(home(), study.study) as ledger:
        ledger.planned(study.digest, study.model_dump(mode="json"), trials)
        for trial in trials:
            if trial.name in unfinished:
                continue
            train(trial.config)
            if trial.name in damaged:
                (trial_folder(home(), trial.trial_id) / "checkpoints" / "epoch-00001" / WEIGHTS).write_bytes(b"x")
            ledger.started(trial, 1)
            ledger.ended(trial.trial_id, Outcome("finished", metrics={"probe/ridge_top1": 0.8}))


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["similarity", *arguments], catch_exceptions=False)


def test_every_kind_of_pair_has_its_row(study_file: Path) -> None:
    ran(study_file)
    said = call(str(study_file))
    assert said.exit_code == 0, said.output
    for label in (
        "A-SSL – H-SSL, same seed",
        "A-SSL – A-SSL, two seeds",
        "H-SSL – H-SSL, two seeds",
        "A-SSL – untrained, same seed",
        "H-SSL – untrained, same seed",
    ):
        assert said.output.count(label) == 2, "once in each table"
    assert "stage 3" in said.output and "frozen" not in said.output


def test_json_has_means_over_seeds_and_the_seeds_themselves(study_file: Path) -> None:
    """Networks that share a start are more alike than two seeds are, by both measures."""
    ran(study_file)
    data = json.loads(call(str(study_file), "--json").output)
    assert (data["schema"], data["baseline"], data["against"]) == ("hssl-ray/similarity/1", "a_ssl", "h_ssl")
    rows = {tuple(row["between"]): row for row in data["rows"]}
    same, two = rows["a_ssl", "h_ssl"], rows["a_ssl", "a_ssl"]
    assert same["seeds"] == [[0, 0], [1, 1], [2, 2]] and two["seeds"] == [[0, 1], [0, 2], [1, 2]]
    assert [stage["stage"] for stage in same["stages"]] == [1, 2, 3]
    for ours, theirs in zip(same["stages"][1:], two["stages"][1:], strict=True):
        assert ours["cka"]["n"] == 3 and ours["cka"]["std"] > 0
        assert ours["cka"]["mean"] > theirs["cka"]["mean"]
        assert ours["residual"]["mean"] < theirs["residual"]["mean"]
    assert data["notes"] == []


def test_a_cell_that_serves_two_settings_is_compared_in_both(study_file: Path) -> None:
    """H-SSL has no augmentation; what A-SSL does with it is another network in each setting."""
    study_file.write_text(
        STUDY.replace("grid: {method: [a_ssl, h_ssl, frozen]}", "cases: [{method: h_ssl}, {method: a_ssl, AUGMENTED}]")
        .replace("AUGMENTED", "augmentation: [paper, matched]")
        .replace("seeds: 3", "seeds: 2")
    )
    ran(study_file)
    rows = json.loads(call(str(study_file), "--json").output)["rows"]
    both = [row["setting"] for row in rows if row["between"] == ["a_ssl", "h_ssl"]]
    assert both == ["rotation, augmentation=paper", "rotation, augmentation=matched"]


def test_unfinished_trials_and_damaged_checkpoints_are_named_and_left_alone(study_file: Path) -> None:
    ran(study_file, unfinished=("h_ssl-rotation-s2",), damaged=("a_ssl-rotation-s1",))
    before = sorted((home() / "trials").rglob("*"))
    said = call(str(study_file))
    assert said.exit_code == 0
    assert "h_ssl-rotation-s2 is planned and left out" in said.output
    assert "a_ssl-rotation-s1 is left out" in said.output and "differs from its manifest" in said.output
    assert sorted((home() / "trials").rglob("*")) == before, "a reader changes nothing"
    (row,) = [
        r for r in json.loads(call(str(study_file), "--json").output)["rows"] if r["between"] == ["a_ssl", "h_ssl"]
    ]
    assert row["seeds"] == [[0, 0]] and row["stages"][0]["cka"]["std"] is None


def test_nothing_finished_is_exit_3_and_says_what_to_type(study_file: Path) -> None:
    said = call(str(study_file))
    assert said.exit_code == 3
    assert "no seed has finished with both a_ssl and h_ssl: a_ssl-rotation-s0 is planned" in said.stderr
    assert f"run {study_file}" in said.stderr


def test_a_study_without_the_pair_is_exit_2(study_file: Path) -> None:
    study_file.write_text(STUDY.replace("a_ssl, h_ssl, frozen", "h_ssl, frozen"))
    said = call(str(study_file))
    assert said.exit_code == 2
    assert "alike: has no setting with both a_ssl and h_ssl" in said.stderr
