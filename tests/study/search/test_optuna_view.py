"""The Optuna database beside the ledger: it says what that says, is made anew when it does not, and stops nothing."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from hssl_ray.study.attempt import Ending
from hssl_ray.study.layout import study_folder
from hssl_ray.study.ledger import read_history
from hssl_ray.study.search.optuna_view import VIEW
from hssl_ray.study.spec import Study
from hssl_ray.study.sweep import Assignment
from tests.study.engine_programs import study
from tests.study.test_sweep import FINISHED, LoopEngine, run

SPACE = {"learning_rate": {"low": 0.01, "high": 0.1}}


def searched(trials: int = 4, **changes: Any) -> Study:
    search = {"sampler": "tpe", "trials": trials, "metric": "train/loss", "goal": "minimize", "space": SPACE}
    return study(seeds=2, epochs=1, search={**search, **changes})


def view_of(home: Path) -> Path:
    return study_folder(home, "fake") / VIEW


def shown(home: Path) -> list[tuple[int, str, float | None, dict[str, Any]]]:
    """What a reader of the database sees: suggestion, state, value, settings."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{view_of(home)}")
    found = []
    for name in optuna.get_all_study_names(storage):
        for trial in optuna.load_study(study_name=name, storage=storage).trials:
            value = trial.value if trial.state.name == "COMPLETE" else None
            found.append((trial.user_attrs["suggestion"], trial.state.name, value, dict(trial.params)))
    storage.remove_session()
    storage.engine.dispose()
    return found


def suggestions(home: Path) -> list[dict[str, Any]]:
    return [sample.settings for sample in read_history(home, "fake").samples.values()]


def test_the_database_says_what_the_ledger_says(tmp_path: Path) -> None:
    run(searched(), tmp_path, LoopEngine())
    assert shown(tmp_path) == [(n, "COMPLETE", 1.0, one) for n, one in enumerate(suggestions(tmp_path))]
    storage = f"sqlite:///{view_of(tmp_path)}"
    (name,) = optuna.get_all_study_names(storage)
    assert name == "fake/h_ssl-rotation-temperature=0.1"
    assert optuna.load_study(study_name=name, storage=storage).direction.name == "MINIMIZE"


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[:100] = bytes(byte ^ 0xFF for byte in data[:100])
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def sql(statement: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with sqlite3.connect(path) as connection:
            connection.execute(statement)
        connection.close()

    return change


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "lost": Path.unlink,
    "cut in half": truncate,
    "head flipped": flip,
    "emptied": empty,
    "no database": lambda path: path.write_text("suggestions: 4"),
    "of another schema": sql("UPDATE version_info SET schema_version = 1"),
    "of another format of ours": sql("UPDATE study_user_attributes SET value_json = '{\"format\": 0}'"),
    "with another value": sql("UPDATE trial_values SET value = 7"),
    "with another point": sql("UPDATE trial_params SET param_value = 0.05"),
    "without a trial": sql("DELETE FROM trials WHERE number = 1"),
    "with another study": sql("INSERT INTO studies (study_name) VALUES ('foreign')"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_database_that_is_lost_or_wrong_is_made_anew_and_changes_no_suggestion(
    tmp_path: Path, damage: Callable[[Path], Any]
) -> None:
    """A study of two suggestions, damaged and continued to six, makes the six of one that was left in peace."""
    run(searched(6), tmp_path / "peace", LoopEngine())
    home = tmp_path / "damaged"
    run(searched(2), home, LoopEngine())
    damage(view_of(home))
    run(searched(6), home, LoopEngine())
    assert suggestions(home) == suggestions(tmp_path / "peace")
    assert sorted(shown(home)) == sorted(shown(tmp_path / "peace"))


def test_a_database_that_is_right_is_gone_on_with(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(searched(2), tmp_path, LoopEngine())
    sql("UPDATE trials SET datetime_start = '2000-01-01 00:00:00'")(view_of(tmp_path))  # what no rebuild would know
    with caplog.at_level(logging.WARNING):
        run(searched(4), tmp_path, LoopEngine())
    assert caplog.messages == []
    connection = sqlite3.connect(view_of(tmp_path))
    (old,) = connection.execute("SELECT count(*) FROM trials WHERE datetime_start LIKE '2000%'").fetchone()
    connection.close()
    assert (old, len(shown(tmp_path))) == (2, 4)


@pytest.mark.parametrize("ending", [Ending("diverged", "diverged: nan"), Ending("failed", "error: broken")])
def test_what_fails_is_told_as_failed_and_nothing_stays_running(tmp_path: Path, ending: Ending) -> None:
    run(searched(3), tmp_path, LoopEngine(lambda assignment: ending))
    assert [state for _, state, _, _ in shown(tmp_path)] == ["FAIL"] * 3


def test_what_failed_and_is_tried_again_has_a_trial_for_each_try(tmp_path: Path) -> None:
    run(searched(2), tmp_path, LoopEngine(lambda assignment: Ending("failed", "error: broken")))
    run(searched(2), tmp_path, LoopEngine())
    assert [(n, state) for n, state, _, _ in shown(tmp_path)] == [
        (0, "FAIL"),
        (1, "FAIL"),
        (0, "COMPLETE"),
        (1, "COMPLETE"),
    ]


def test_what_is_cut_short_waits_and_then_goes_on(tmp_path: Path) -> None:
    """Also where the driver fails: none of its suggestions is left running."""
    seen = 0

    def crash(assignment: Assignment) -> Ending:
        nonlocal seen
        seen += 1
        if seen == 4:
            raise ConnectionError("head is gone")
        return FINISHED

    with pytest.raises(ConnectionError):
        run(searched(3), tmp_path, LoopEngine(crash))
    assert [state for _, state, _, _ in shown(tmp_path)] == ["COMPLETE", "WAITING"]
    run(searched(3), tmp_path, LoopEngine())
    assert [(n, state) for n, state, _, _ in shown(tmp_path)] == [(0, "COMPLETE"), (1, "COMPLETE"), (2, "COMPLETE")]


def test_a_database_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    view_of(tmp_path).mkdir(parents=True)
    with caplog.at_level(logging.WARNING):
        assert run(searched(2), tmp_path, LoopEngine()) == {"finished": 4}
    assert any("the study goes on without it" in message for message in caplog.messages)


def test_another_search_begins_another_view(tmp_path: Path) -> None:
    run(searched(2), tmp_path, LoopEngine())
    run(searched(2, space={"learning_rate": [0.2, 0.3]}), tmp_path, LoopEngine())
    assert sorted(settings["learning_rate"] for *_, settings in shown(tmp_path)) == [0.2, 0.3]


def test_more_seeds_make_the_view_say_their_mean(tmp_path: Path) -> None:
    run(searched(2), tmp_path, LoopEngine())
    more = Study.model_validate({**searched(2).model_dump(exclude_unset=True), "seeds": 3})
    run(more, tmp_path, LoopEngine())
    assert [(n, state) for n, state, _, _ in shown(tmp_path)] == [(0, "COMPLETE"), (1, "COMPLETE")]
