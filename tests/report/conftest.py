"""Hand-written result tables: what a store would hand out for a study that ran, or ran in part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pytest

from hssl_ray.trial.config import TrialConfig

Arm = Mapping[str, Any] | Sequence[float]
MakeResults = Callable[..., pa.Table]

BASE: dict[str, Any] = {"epochs": 3, "warmup_epochs": 1, "batch_size": 256, "width": 0.25}


@pytest.fixture
def make_results() -> MakeResults:
    """make(arm, ...): an arm is a mapping of config fields with `values`, a list over seeds.

    A value is the metric of a finished trial, or the (state, reason) of one that is not. `seeds` defaults to 0, 1, ...;
    `study` to "by-hand".
    """

    def make(*arms: Mapping[str, Any], metric: str = "probe/ridge_top1", **metrics: float) -> pa.Table:
        rows = []
        for arm in arms:
            fields = {k: v for k, v in arm.items() if k not in ("values", "seeds", "study")}
            seeds = arm.get("seeds", range(len(arm["values"])))
            for seed, value in zip(seeds, arm["values"], strict=True):
                config = TrialConfig(**{**BASE, **fields, "seed": seed})
                state, reason = ("finished", None) if isinstance(value, float) else value
                extras = "".join(f"-{k}={v}" for k, v in fields.items() if k not in ("method", "group"))
                cell = f"{config.method}-{config.group}{extras}"
                rows.append(
                    {
                        "trial_id": config.trial_id,
                        "name": f"{cell}-s{seed}",
                        "study": arm.get("study", "by-hand"),
                        "cell": cell,
                        "state": state,
                        "reason": reason,
                        "attempt": 1,
                        "seconds": 60.0 if state == "finished" else None,
                        **config.model_dump(),
                        metric: value if isinstance(value, float) else None,
                        **(metrics if state == "finished" else {}),
                    }
                )
        columns = dict.fromkeys(name for row in rows for name in row)
        return pa.Table.from_pylist([{name: row.get(name) for name in columns} for row in rows])

    return make
