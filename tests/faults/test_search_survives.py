"""A search whose driver is killed at any write ends as one left in peace, and no Optuna trial stays running."""

import multiprocessing
import os
import random
import signal
from pathlib import Path
from typing import Any

import optuna
import pytest

from hssl_ray.study.engine import Report, TrialProgram
from hssl_ray.study.inline_engine import InlineEngine
from hssl_ray.study.layout import study_folder
from hssl_ray.study.ledger import read_history
from hssl_ray.study.run import run_study
from hssl_ray.study.search.optuna_view import VIEW
from hssl_ray.study.spec import Study
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.endings import TrialDiverged
from tests.faults.table import Table
from tests.study.engine_programs import latest_checkpoint
from tests.study.engine_programs import train as plain_train

pytestmark = pytest.mark.faults
FORK = multiprocessing.get_context("fork")


def train(config: TrialConfig, report: Report, resume: Path | None = None, **where: Any) -> None:
    """Epochs whose accuracy is best at a rate of 0.03 and grows; above 0.095 the trial diverges at epoch 2."""

    def scored(metrics: dict[str, float], checkpoint: Path | None) -> None:
        if metrics["epoch"] == 2 and config.learning_rate > 0.095:
            raise TrialDiverged("epoch 2: train/loss must stay finite, got nan")
        top1 = metrics["epoch"] / 20 - abs(config.learning_rate - 0.03) + config.seed / 1000
        report({**metrics, "probe/top1": top1}, checkpoint)

    plain_train(config, scored, resume, **where)


PROGRAM = TrialProgram(train, latest_checkpoint)


def study(seed: int) -> Study:
    return Study.model_validate(
        {
            "study": "searched",
            "base": {"epochs": 6, "warmup_epochs": 0},
            "grid": {"temperature": [0.1, 0.2]},
            "seeds": 2,
            "search": {
                "sampler": "tpe",
                "trials": 8,
                "seed": seed,
                "metric": "probe/top1",
                "space": {"learning_rate": {"low": 0.01, "high": 0.1}},
                "points_to_evaluate": [{"learning_rate": 0.099}],
            },
            "early_stop": {"grace_epochs": 2, "reduction_factor": 2},
            "checkpoints": {"every_epochs": 2, "keep": 2},
        }
    )


def run(asked: Study, home: Path) -> None:
    run_study(asked, home=home, engine=InlineEngine(PROGRAM))


def killed_at(write: int, asked: Study, home: Path) -> bool:
    """Run a study in a process that kills itself at its so-manieth durable write. Whether it got that far."""

    def child() -> None:
        fsync, count = os.fsync, 0

        def deadly(descriptor: int) -> None:
            nonlocal count
            count += 1
            if count == write:
                os.kill(os.getpid(), signal.SIGKILL)
            fsync(descriptor)

        os.fsync = deadly  # type: ignore[assignment]
        run(asked, home)

    process = FORK.Process(target=child)
    process.start()
    process.join()
    return process.exitcode == -signal.SIGKILL


def decisions(asked: Study, home: Path) -> dict[str, Any]:
    """What was suggested, and what became of every trial and where."""
    history = read_history(home, asked.study)
    suggested = {(s.cell, s.number): s.settings for s in history.samples.values()}
    ends = {trial_id: (o.state, o.metrics.get("epoch")) for trial_id, o in history.outcomes.items()}
    return {"suggested": suggested, "ends": ends}


def optuna_states(asked: Study, home: Path) -> list[str]:
    storage = f"sqlite:///{study_folder(home, asked.study) / VIEW}"
    names = optuna.get_all_study_names(storage)
    return [trial.state.name for name in names for trial in optuna.load_study(study_name=name, storage=storage).trials]


def test_a_killed_search_suggests_and_stops_as_one_left_in_peace(tmp_path: Path, seed: int, figures: Table) -> None:
    """Killed three times over, at random writes: suggestions, rungs and outcomes are those of an undisturbed run."""
    asked = study(seed)
    run(asked, tmp_path / "peace")
    expected = decisions(asked, tmp_path / "peace")
    states = {state for state, _ in expected["ends"].values()}
    assert states == {"finished", "pruned", "diverged"}, states
    draw, rounds, different, left_running = random.Random(seed), 6, 0, 0
    for number in range(rounds):
        home = tmp_path / str(number)
        kills = sum(killed_at(draw.randint(5, 260), asked, home) for _ in range(3))
        assert kills > 0
        run(asked, home)
        different += decisions(asked, home) != expected
        left_running += optuna_states(asked, home).count("RUNNING")
    figures.bad("F3", "searches with another suggestion or rung decision", different, rounds)
    figures.bad("F16", "Optuna trials left running", left_running, 16 * rounds)
    assert (different, left_running) == (0, 0)


def test_a_driver_that_forgets_its_rungs_decides_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: without the values of the first run, the second stops other trials."""
    asked = study(0)
    run(asked, tmp_path / "peace")
    assert killed_at(150, asked, tmp_path / "cut")
    with monkeypatch.context() as patch:
        patch.setattr("hssl_ray.study.run._replay", lambda *_: None)
        run(asked, tmp_path / "cut")
    assert decisions(asked, tmp_path / "cut") != decisions(asked, tmp_path / "peace")
