"""The tables of results, from ledgers and journals as runs leave them."""

import math
from pathlib import Path

import pytest

from hssl_ray.study import results
from hssl_ray.study.ledger import Ledger, Outcome
from hssl_ray.study.results import HISTORY_SCHEMA, history_table, results_table
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.journal import JOURNAL, Journal, Record, read_records
from tests.study.engine_programs import trial


def journal(home: Path, seed: int, *metrics: dict[str, float]) -> None:
    with Journal(home / "trials" / trial(seed).trial_id / JOURNAL) as opened:
        for epoch, values in enumerate(metrics, start=1):
            opened.append(Record(epoch, values))


def test_a_study_that_never_ran_has_empty_tables(tmp_path: Path) -> None:
    assert results_table(tmp_path, "fake").num_rows == 0
    assert history_table(tmp_path, "fake").schema == HISTORY_SCHEMA


def test_every_trial_is_a_row_in_its_state(tmp_path: Path) -> None:
    """While the driver lives, what has begun is running; when it is gone, that was killed."""
    journal(tmp_path, 0, {"train/loss": 2.0}, {"train/loss": 1.0, "probe/ridge_top1": 0.5})
    journal(tmp_path, 1, {"train/loss": 3.0})
    with Ledger.open(tmp_path, "fake") as ledger:
        ledger.planned("digest", {}, [trial(seed) for seed in range(4)])
        ledger.started(trial(0), 1)
        ledger.ended(trial(0).trial_id, Outcome("finished", "", {"train/loss": 1.0, "probe/ridge_top1": 0.5}, 1, 9.0))
        ledger.started(trial(1), 2)
        ledger.started(trial(2), 1)
        ledger.ended(trial(2).trial_id, Outcome("failed", "oom: killed", {}, 1, 3.0))
        running = results_table(tmp_path, "fake")
    gone = results_table(tmp_path, "fake")
    assert running["state"].to_pylist() == ["finished", "running", "failed", "planned"]
    assert gone["state"].to_pylist() == ["finished", "killed", "failed", "planned"]
    assert gone["reason"].to_pylist() == ["", "interrupted: the driver is gone", "oom: killed", ""]
    assert gone["attempt"].to_pylist() == [1, 2, 1, 0]
    assert gone["seconds"].to_pylist() == [9.0, None, 3.0, None]
    assert gone["train/loss"].to_pylist() == [1.0, 3.0, None, None]
    assert gone["probe/ridge_top1"].to_pylist() == [0.5, None, None, None]


def test_every_field_of_the_trial_is_a_column_of_its_type(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, "fake") as ledger:
        ledger.planned("digest", {}, [trial(3)])
    table = results_table(tmp_path, "fake")
    assert set(TrialConfig.model_fields) <= set(table.column_names)
    config = trial(3).config
    row = table.to_pylist()[0]
    assert {name: row[name] for name in TrialConfig.model_fields} == config.model_dump(mode="json")
    first = ["trial_id", "name", "study", "cell", "method", "seed", "state", "reason", "attempt", "seconds"]
    assert table.column_names[:10] == first
    kinds = {name: str(table.schema.field(name).type) for name in ("temperature", "max_distance", "epochs", "group")}
    assert kinds == {"temperature": "double", "max_distance": "double", "epochs": "int64", "group": "string"}


def test_the_history_has_one_row_for_each_epoch_and_metric(tmp_path: Path) -> None:
    journal(tmp_path, 0, {"train/loss": 2.0}, {"train/loss": math.inf, "probe/top1": 0.5})
    with Ledger.open(tmp_path, "fake") as ledger:
        ledger.planned("digest", {}, [trial(0), trial(1)])
    table = history_table(tmp_path, "fake")
    assert table.select(["seed", "epoch", "metric", "value"]).to_pylist() == [
        {"seed": 0, "epoch": 1, "metric": "train/loss", "value": 2.0},
        {"seed": 0, "epoch": 2, "metric": "train/loss", "value": math.inf},
        {"seed": 0, "epoch": 2, "metric": "probe/top1", "value": 0.5},
    ]
    assert set(table["method"].to_pylist()) == {"h_ssl"}


def test_a_history_of_some_cells_opens_their_journals_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal(tmp_path, 0, {"train/loss": 2.0})
    other = trial(0, temperature=0.2)
    with Ledger.open(tmp_path, "fake") as ledger:
        ledger.planned("digest", {}, [trial(0), other])
    opened: list[Path] = []

    def reading(path: Path) -> list[Record]:
        opened.append(path)
        return read_records(path)

    monkeypatch.setattr(results, "read_records", reading)
    assert history_table(tmp_path, "fake", {trial(0).cell}).num_rows == 1
    assert [path.parent.name for path in opened] == [trial(0).trial_id]
    assert history_table(tmp_path, "fake", {other.cell}).num_rows == 0
