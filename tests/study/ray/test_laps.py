"""A driver on Ray keeps of Tune's trials those of one lap."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.study.engine_programs import epochs_trained, trial
from tests.study.laps_driver import HOLES
from tests.study.ray_cluster import Head

TRIALS, LAP = 11, 4


@pytest.mark.ray
def test_tunes_trials_go_with_their_lap(head: Head, tmp_path: Path) -> None:
    """Every trial is trained once, over three laps. Within a lap they pile up, which shows that the count sees them."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.study.laps_driver", str(tmp_path), str(TRIALS), str(LAP)],
        env=head.environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["ended"] == {"finished": TRIALS}
    assert all(epochs_trained(tmp_path, trial(seed, epochs=2).trial_id) == [1, 2] for seed in range(TRIALS))
    assert found["alive"][LAP - 1] == LAP
    assert max(found["alive"]) == LAP
    before, with_holes, at_end = found["resident"]
    assert with_holes - before > 0.9 * HOLES, "else there is nothing to give back"
    assert at_end - before < 0.5 * HOLES
    assert found["left"] > max(found["said"]) > 0, "Ray says it, under the name that we know"
    assert max(found["said"][LAP:]) <= max(found["said"][:LAP])
