"""A training step of the quick-start network: methods and number types, with and without keeping freed memory.

    python benchmarks/training_step.py [--rounds 5] [--set base.group=rotation ...]

Every row is a process of one thread, as a worker is; rows alternate over the rounds. Median milliseconds of a step
and images per second.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from hssl_ray.method.networks import build_network
from hssl_ray.study.ray.settings import TRIALS
from hssl_ray.study.spec import load_study
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.data import open_trial_data, training_batches
from hssl_ray.trial.optim import build_optimizer
from hssl_ray.trial.precision import autocast
from hssl_ray.trial.ranks import Ranks
from hssl_ray.trial.task import Task

QUICKSTART = Path(__file__).parents[1] / "studies" / "quickstart.yaml"
KEEP_MEMORY = {name: value for name, value in TRIALS.items() if name.startswith("MALLOC_")}
STEPS = 6


def step_seconds(config: TrialConfig) -> float:
    """Median time of a step, the first two left out."""
    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    data, network = open_trial_data(config, cpu), build_network(config)
    task = Task(network, config)
    optimizer = build_optimizer(network, network.probe, config)
    taken = []
    for batch, _ in zip(training_batches(data.train, config, 0, Ranks(0, 1)), range(STEPS + 2), strict=False):
        start = time.perf_counter()
        with autocast(config, cpu):
            losses = task(batch.images, batch.labels, task.draw(0, batch.indices))
        optimizer.zero_grad(set_to_none=True)
        losses.total.backward()
        optimizer.step()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the study")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(step_seconds(TrialConfig.model_validate_json(arguments.child)))
        return
    study = load_study(QUICKSTART, arguments.set)
    configs = {trial.config.method: trial.config for trial in study.planned() if trial.config.seed == 0}
    rows = [(method, kind, kept) for method in configs for kind in ("fp32", "bf16") for kept in (False, True)]
    found: dict[tuple[str, str, bool], list[float]] = {row: [] for row in rows}
    for _ in range(arguments.rounds):
        for method, kind, kept in rows:
            config = configs[method].model_copy(update={"precision": kind})
            environment = os.environ | (KEEP_MEMORY if kept else {})
            command = [sys.executable, __file__, "--child", json.dumps(config.model_dump(mode="json"))]
            out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)  # noqa: S603
            found[method, kind, kept].append(float(out.stdout))
    print(f"torch {torch.__version__}, batch {study.base['batch_size']}, median of {arguments.rounds}")
    print(f"{'method':10}{'type':8}{'ms':>8}{'ms, memory kept':>18}{'ratio':>8}{'images/s':>10}")
    for method in configs:
        for kind in ("fp32", "bf16"):
            given, kept = found[method, kind, False], found[method, kind, True]
            ratio = statistics.median(b / a for a, b in zip(given, kept, strict=True))
            best = statistics.median(kept)
            rate = study.base["batch_size"] / best
            print(f"{method:10}{kind:8}{statistics.median(given) * 1e3:8.0f}{best * 1e3:18.0f}{ratio:8.2f}{rate:10.0f}")


if __name__ == "__main__":
    main()
