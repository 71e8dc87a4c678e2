"""A head of our own dies with its driver, and its state is a cache: a study goes on from its ledger."""

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
from tests.faults.chaos import CHAOS
from tests.faults.table import Table
from tests.faults.test_checkpoints import Canary
from tests.study.engine_programs import SECONDS, epochs_trained, trial
from tests.study.ray_cluster import MARK, Driver, environment, is_agent, processes, wait_until

pytestmark = pytest.mark.faults
SEEDS, EPOCHS = (24, 5) if CHAOS else (8, 5)
LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
"""As the kernel writes it."""


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


def listening(mark: str) -> set[str]:
    """Addresses on which the marked processes listen, in the kernel's hexadecimal."""
    sockets = set()
    for process in processes(mark):
        for descriptor in Path(f"/proc/{process}/fd").glob("*"):
            try:
                sockets.add(os.readlink(descriptor))
            except FileNotFoundError:
                continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                found.add(fields[1].partition(":")[0])
    return found


@pytest.mark.ray
@pytest.mark.slow
def test_f6_f7_spoilt_state_of_tune_loses_no_trial_and_runs_nothing(tmp_path: Path, seed: int, figures: Table) -> None:
    """SIGKILL in the middle of a study: no process is left over, and what Tune had written down is spoilt before the
    study is run again. No epoch is trained again that a checkpoint holds."""
    driver = Driver(tmp_path / "home", environment(**{SECONDS: "0.4", "TUNE_GLOBAL_CHECKPOINT_S": "0"}))
    mark = driver.environment[MARK]
    engine, canary = driver.home / "studies/fake/engine", tmp_path / "canary"
    asked: dict[str, Any] = {"seeds": SEEDS, "epochs": EPOCHS}
    process = driver.start(**asked)
    first = trial(0, epochs=EPOCHS).trial_id
    wait_until(lambda: bool(epochs_trained(driver.home, first)) or process.poll() is not None, 200, "a trial trains")
    heard = listening(mark)
    wait_until(lambda: len(driver.history().outcomes) >= 2 or process.poll() is not None, 200, "two trials have ended")
    process.kill()
    process.communicate()
    assert heard and heard <= LOOPBACK
    wait_until(lambda: not [one for one in processes(mark) if not is_agent(one)], 10, "cluster and trials end")
    for agent in processes(mark):
        os.kill(agent, signal.SIGKILL)  # rather than wait for them
    assert 2 <= len(driver.history().outcomes) < SEEDS
    assert spoil(engine, canary, random.Random(seed)) > 14
    driver.environment = driver.environment | {MARK: secrets.token_hex(8)}
    counts = driver.run(**asked)
    wait_until(lambda: not processes(driver.environment[MARK]), 10, "every process of the next cluster ends")
    lost = SEEDS - counts.get("finished", 0)
    repeated = 0
    for number in range(SEEDS):
        one = trial(number, epochs=EPOCHS)
        epochs = [record.epoch for record in read_records(trial_folder(driver.home, one.trial_id) / JOURNAL)]
        lost += epochs != [1, 2, 3, 4, 5]
        again = len(epochs_trained(driver.home, one.trial_id)) - EPOCHS
        assert 0 <= again <= 2  # checkpoints stand at 2, 4 and 5
        repeated += again
    figures.bad("F6", "trials lost under spoilt state", lost, SEEDS)
    figures.bad("F7", "pickles of Tune's that ran", canary.exists(), 1)
    assert lost == 0
    assert repeated <= 2 * 2  # two trials ran when the driver died
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
