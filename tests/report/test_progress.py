"""Status counts states, names what broke and says what is left."""

from __future__ import annotations

import json
from collections.abc import Callable

import pyarrow as pa

from hssl_ray.report.progress import SCHEMA, progress

MakeResults = Callable[..., pa.Table]

STATES = [
    0.8,
    ("running", None),
    ("planned", None),
    ("pruned", "asha"),
    ("diverged", "loss is nan"),
    ("failed", "out_of_memory: 2 GiB"),
    ("killed", "interrupted"),
]


def test_every_state_is_counted_once(make_results: MakeResults) -> None:
    counted = progress(make_results({"method": "a_ssl", "values": STATES}, {"method": "h_ssl", "values": [0.8]}), "s")
    assert counted.states == {
        "finished": 2, "running": 1, "planned": 1, "pruned": 1, "diverged": 1, "failed": 1, "killed": 1,
    }  # fmt: skip
    assert counted.trials == 8
    assert counted.left == 4  # running, planned, failed, killed: what running the study again would go on with
    assert [row["state"] for row in counted.broken] == ["diverged", "failed", "killed"]
    assert counted.seconds == 120.0
    assert counted.sentence() == (
        "2 of 8 trials finished; 1 running, 1 planned, 1 pruned, 1 diverged, 1 failed, 1 killed."
    )


def test_cells_show_only_states_that_occur(make_results: MakeResults) -> None:
    (table,) = progress(make_results({"method": "a_ssl", "values": [0.8, ("planned", None)]}), "s").tables()
    assert table.header == ("cell", "finished", "planned")
    assert table.rows == (("a_ssl-rotation", "1", "1"),)


def test_running_trials_say_how_far_they_are(make_results: MakeResults) -> None:
    results = make_results({"method": "a_ssl", "values": [0.8, ("running", None), ("running", None)]})
    results = results.append_column("epoch", pa.array([3.0, 1.0, 2.0]))
    counted = progress(results, "s")
    assert counted.cells[0].epoch == 1.5
    assert counted.tables()[0].rows[0][-1] == "2 of 3"


def test_nothing_run_yet(make_results: MakeResults) -> None:
    counted = progress(make_results({"method": "a_ssl", "values": [0.8]}).slice(0, 0), "s")
    assert counted.sentence() == "0 of 0 trials finished."
    assert json.loads(counted.to_json())["trials"] == 0


def test_the_json_has_a_stable_schema(make_results: MakeResults) -> None:
    said = json.loads(progress(make_results({"method": "a_ssl", "values": STATES[-2:]}), "s").to_json())
    assert said["schema"] == SCHEMA
    assert list(said) == ["schema", "study", "trials", "left", "states", "seconds", "cells", "broken", "stopped"]
    assert list(said["cells"][0]) == ["name", "states", "epoch", "epochs"]
    assert list(said["broken"][0]) == ["trial_id", "name", "cell", "state", "reason", "attempt"]
