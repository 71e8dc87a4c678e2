"""Ray's own state is a cache: whatever becomes of it, a study goes on from its ledger."""

import os
import pickle
import random
import secrets
import signal
from pathlib import Path
from typing import Any

import pytest

from hssl_ray.study.layout import trial_folder
from hssl_ray.study.ray_engine import _remove_leftovers
from hssl_ray.trial.journal import JOURNAL, read_records
from tests.faults.table import Table
from tests.faults.test_checkpoints import Canary
from tests.study.engine_programs import SECONDS, epochs_trained, trial
from tests.study.ray_cluster import MARK, Driver, environment, is_agent, processes, wait_until

pytestmark = pytest.mark.faults
SEEDS, EPOCHS = 6, 5


def spoil(engine: Path, canary: Path, draw: random.Random) -> int:
    """Leave Tune no file as it was: its state cut at ten places, emptied, flipped, deleted; every pickle a canary.

    Returns:
        How many files there are now that Tune would take for its own.
    """
    states = sorted(engine.rglob("experiment_state-*.json"))
    assert states, "Tune wrote its state before the driver was killed"
    for state in states:
        content = state.read_bytes()
        for number in range(10):
            newer = state.with_name(f"experiment_state-2099-01-01_00-00-{number:02d}.json")
            newer.write_bytes(content[: draw.randrange(len(content))])
        broken = bytearray(content)
        broken[draw.randrange(len(broken))] ^= 1
        state.with_name("experiment_state-2099-01-01_00-01-00.json").write_bytes(bytes(broken))
        state.with_name("experiment_state-2099-01-01_00-02-00.json").write_bytes(b"")
        state.unlink()
        for name in ("tuner.pkl", "trainable.pkl", "searcher-state-2099.pkl", "search_gen_state-2099.json"):
            state.with_name(name).write_bytes(pickle.dumps(Canary(canary)))
    for path in engine.rglob("*.pkl"):
        path.write_bytes(pickle.dumps(Canary(canary)))
    return sum(path.is_file() for path in engine.rglob("*"))


@pytest.mark.ray
@pytest.mark.slow
def test_f6_f7_spoilt_state_of_tune_loses_no_trial_and_runs_nothing(tmp_path: Path, seed: int, figures: Table) -> None:
    driver = Driver(tmp_path / "home", environment(**{SECONDS: "0.2", "TUNE_GLOBAL_CHECKPOINT_S": "0"}))
    engine, canary = driver.home / "studies/fake/engine", tmp_path / "canary"
    asked: dict[str, Any] = {"seeds": SEEDS, "epochs": EPOCHS}
    process = driver.start(**asked)
    wait_until(lambda: len(driver.history().outcomes) >= 2 or process.poll() is not None, 200, "two trials have ended")
    process.kill()
    process.communicate()
    left = processes(driver.environment[MARK])
    wait_until(lambda: not any(Path(f"/proc/{one}/stat").exists() for one in left if not is_agent(one)), 60, "it ends")
    for agent in filter(is_agent, left):
        os.kill(agent, signal.SIGKILL)
    before = len(driver.history().outcomes)
    assert before < SEEDS
    assert spoil(engine, canary, random.Random(seed)) > 14
    driver.environment = driver.environment | {MARK: secrets.token_hex(8)}
    counts = driver.run(**asked)
    lost = SEEDS - counts.get("finished", 0)
    repeated = 0
    for number in range(SEEDS):
        one = trial(number, epochs=EPOCHS)
        epochs = [record.epoch for record in read_records(trial_folder(driver.home, one.trial_id) / JOURNAL)]
        lost += epochs != [1, 2, 3, 4, 5]
        repeated += len(epochs_trained(driver.home, one.trial_id)) - EPOCHS
    figures.bad("F6", "trials lost under spoilt state", lost, SEEDS)
    figures.bad("F7", "pickles of Tune's that ran", canary.exists(), 1)
    assert lost == 0
    assert repeated <= 2 * 2  # of the two that ran when the driver died, what came after their last checkpoint
    assert not canary.exists()


@pytest.mark.parametrize("said", ["/", "", ".", "{tmp}", "{tmp}/other", "{tmp}/hssl-ray-", "{tmp}/hssl-ray-../other"])
def test_a_spoilt_note_of_where_ray_lay_removes_nothing_else(tmp_path: Path, said: str) -> None:
    """The note is read back to clear away what a killed run left; cut short, it names a folder above."""
    (tmp_path / "other").mkdir()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (scratch / "head").write_text(said.format(tmp=tmp_path))
    _remove_leftovers(scratch)
    assert {path.name for path in tmp_path.iterdir()} == {"other"}


def test_the_note_of_where_ray_lay_is_followed(tmp_path: Path) -> None:
    left, scratch = tmp_path / "hssl-ray-abcd_123", tmp_path / "scratch"
    left.mkdir()
    scratch.mkdir()
    (scratch / "head").write_text(str(left))
    _remove_leftovers(scratch)
    assert not left.exists()
