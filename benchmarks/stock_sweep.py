"""No-op trials as the stock recipe runs them; prints, as JSON, when it began, each trial's end, and its end.

    python benchmarks/stock_sweep.py HOME TRIALS

Tune's `Tuner` over a function that starts one nested `TorchTrainer` for each trial, `ray.tune`'s reports by Train's own
`TuneReportCallback`, `MLflowLoggerCallback` with a SQLite store. Ray is given what it needs not to hang, as the
project's engine gives it (`study.ray.settings`), and Train's health interval of 0.2 s, which favours it: at the
default, 2 s, every trial takes longer. Two trials at a time, as many as the machine holds. `no_op_trials.py` runs it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from no_op_program import EPOCHS, metrics_of

from hssl_ray.study.ray import settings as ray_settings

CONCURRENT = 2


def no_op(settings: dict[str, Any]) -> None:
    """In the worker of a nested trainer: report, and nothing else."""
    from ray import train

    for epoch in range(1, EPOCHS + 1):
        train.report(metrics_of(epoch))


def trial(settings: dict[str, Any]) -> None:
    """In the process of a Tune trial: a trainer with one worker."""
    from ray import tune
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    TorchTrainer(
        no_op,
        train_loop_config=settings,
        scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
        run_config=RunConfig(
            name=f"train_{tune.get_context().get_trial_id()}",
            storage_path=settings["storage"],
            callbacks=[TuneReportCallback()],
        ),
    ).fit()


def main(home: Path, trials: int) -> None:
    began = time.time()
    ray_settings.prepare(os.environ)
    # After the environment is set, which Ray reads while it is imported.
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    class Clock(tune.Callback):
        def __init__(self) -> None:
            self.ends: list[float] = []

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.ends.append(time.time())

    clock = Clock()
    with ray_settings.own_address(os.environ), tempfile.TemporaryDirectory(prefix="stock-") as temporary:
        ray.init(
            address="local",
            include_dashboard=True,
            dashboard_host="127.0.0.1",
            num_cpus=CONCURRENT,
            object_store_memory=200_000_000,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=temporary,
        )
        mlflow = MLflowLoggerCallback(tracking_uri=f"sqlite:///{home / 'mlflow.db'}", experiment_name="no-op")
        results = tune.Tuner(
            tune.with_resources(trial, {"node:__internal_head__": 0.001}),
            param_space={"seed": tune.grid_search(list(range(trials))), "storage": str(home / "train")},
            tune_config=tune.TuneConfig(max_concurrent_trials=CONCURRENT),
            run_config=tune.RunConfig(
                name="no-op", storage_path=str(home / "tune"), callbacks=[mlflow, clock], verbose=0
            ),
        ).fit()
        assert len(results) == trials and not results.errors, results.errors
        ray.shutdown()
    print(json.dumps({"began": began, "ends": clock.ends, "done": time.time()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
