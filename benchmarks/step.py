"""Whole training steps of the MNIST scale network: H-SSL and A-SSL, ours beside the stock recipe's A-SSL.

    python benchmarks/step.py [--rounds 5] [--steps 2] [--threads 2] [--width 1] [--batch 512]
                              [--types fp32 bf16] [--json]

Each side is a process of its own with the threads of a trial; they take turns, `--steps` steps a round, and ratios are
of images per second in the same round. Ours runs the product's own loop, `train_epoch`, and its journal; the stock
recipe waits for its first batch outside the clock, then trains while its loader works on. What an epoch logs is shared
out over the steps of full MNIST. The share outside convolutions and norms is taken with torch's profiler.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import torch
from figures import Figure, paired_ratio, show
from mlflow import MlflowClient
from number_types import TYPES, add_types, chosen_types
from step_parts import label_parts, seconds_by_part, share_outside
from stock_recipe import StockTrial, log_metrics, stock_loader

from hssl_ray.data.store import open_dataset
from hssl_ray.data.subset import balanced_subset
from hssl_ray.method.networks import build_network
from hssl_ray.study.ray.settings import TRIALS
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.data import open_trial_data
from hssl_ray.trial.journal import Journal, Record
from hssl_ray.trial.optim import build_optimizer
from hssl_ray.trial.precision import loss_scaler
from hssl_ray.trial.ranks import Ranks
from hssl_ray.trial.task import Task
from hssl_ray.trial.train import train_epoch

KEEP_MEMORY = {name: value for name, value in TRIALS.items() if name.startswith("MALLOC_")}
SIDES = ("stock", *(f"{method} {number}" for method in ("a_ssl", "h_ssl") for number in TYPES))
FULL_MNIST = 60_000
Epoch = Callable[[], float]


def trial_config(side: str, width: float, batch: int, steps: int) -> TrialConfig:
    """An epoch of so many steps; the paper's settings but for the batch."""
    method, _, precision = side.partition(" ")
    return TrialConfig(
        dataset="mnist-mini",
        train_images=-(-batch * steps // 10) * 10,
        group="scale",
        width=width,
        batch_size=batch,
        method="a_ssl" if method == "stock" else method,
        precision=precision or "fp32",
    )


def our_epoch(config: TrialConfig, folder: Path) -> tuple[Epoch, Callable[[], dict[str, float]]]:
    """Seconds a step, and seconds by part."""
    cpu, ranks = torch.device("cpu"), Ranks(0, 1)
    data, network = open_trial_data(config, cpu), build_network(config)
    task = Task(network, config)
    optimizer, scaler = build_optimizer(network, network.probe, config), loss_scaler(config, cpu)
    journal = Journal(folder / "journal.jsonl")

    def train() -> None:
        train_epoch(task, task, optimizer, scaler, data, 0, ranks)

    def epoch() -> float:
        start = time.perf_counter()
        train()
        trained = time.perf_counter()
        journal.append(Record(1, {f"metric/{number}": 0.5 for number in range(10)}))
        return step_seconds(config, trained - start, time.perf_counter() - trained)

    def parts() -> dict[str, float]:
        label_parts(task, data)
        return seconds_by_part(train)

    return epoch, parts


def stock_epoch(config: TrialConfig, folder: Path) -> Epoch:
    """Seconds a step."""
    trial, dataset = StockTrial(config), open_dataset(config.dataset)
    keep = balanced_subset(dataset.train.labels, config.train_images or len(dataset.train))
    loader = stock_loader(dataset.train.images[keep], dataset.train.labels[keep], config)
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    run = client.create_run(client.create_experiment("step", folder.as_uri())).info.run_id

    def epoch() -> float:
        batches = iter(loader)
        batch, losses = next(batches), {}
        start = time.perf_counter()
        while batch is not None:
            losses = trial.step(*batch)
            batch = next(batches, None)
        trained = time.perf_counter()
        log_metrics(client, run, losses | {f"metric/{number}": 0.5 for number in range(8)}, 1)
        return step_seconds(config, trained - start, time.perf_counter() - trained)

    return epoch


def step_seconds(config: TrialConfig, training: float, logging: float) -> float:
    """Of one step of an epoch, with its share of what the epoch logs."""
    return training / config.steps_per_epoch + logging / (FULL_MNIST // config.batch_size)


def child(side: str, config: TrialConfig, threads: int) -> None:
    """Run an epoch for each line read, after one to warm up: `go` writes its seconds a step, `parts` those by part."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        if side == "stock":
            epoch, parts = stock_epoch(config, Path(folder)), None
        else:
            epoch, parts = our_epoch(config, Path(folder))
        epoch()
        print("ready", flush=True)
        for line in sys.stdin:
            print(json.dumps(epoch() if line.strip() == "go" or parts is None else parts()), flush=True)


class Side:
    """A child process that trains an epoch when asked."""

    def __init__(self, side: str, config: TrialConfig, threads: int) -> None:
        settings = json.dumps(config.model_dump(mode="json"))
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)} | ({} if side == "stock" else KEEP_MEMORY)
        command = [sys.executable, __file__, "--child", side, "--threads", str(threads), "--config", settings]
        self.process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._answer()

    def ask(self, question: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        out: IO[str] | None = self.process.stdout
        assert out is not None
        while line := out.readline():
            if line.startswith(("ready", "{")) or line.strip().replace(".", "").replace("e-", "").isdigit():
                return line
        raise RuntimeError(f"a side ended with exit code {self.process.wait()}")

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def figures(width: float, batch: int, steps: int, threads: int, rounds: int, types: list[str]) -> Iterator[Figure]:
    names = [side for side in SIDES if side == "stock" or side.split()[1] in types]
    configs = {side: trial_config(side, width, batch, steps) for side in names}
    seconds: dict[str, list[float]] = {side: [] for side in names}
    sides: dict[str, Side] = {}
    try:
        for side in names:
            sides[side] = Side(side, configs[side], threads)
        for _ in range(rounds):
            for side in names:
                seconds[side].append(float(sides[side].ask("go")))
        parts = {side: json.loads(sides[side].ask("parts")) for side in names if side != "stock"}
    finally:
        for started in sides.values():
            started.end()
    for side in names:
        median = statistics.median(seconds[side])
        spread = {"ms": median * 1e3, "fastest_ms": min(seconds[side]) * 1e3, "rounds": rounds, "threads": threads}
        yield Figure(f"step, {side}", batch / median, "images/s", detail=spread)
    whole = {"width": width, "batch": batch, "threads": threads}
    for ours, theirs, bar in (
        ("h_ssl bf16", "stock", 10.0),
        ("h_ssl fp32", "stock", 5.0),
        ("h_ssl bf16", "a_ssl bf16", 1.8),
        ("h_ssl fp32", "a_ssl fp32", 1.8),
    ):
        if ours not in names:
            continue
        ratio = paired_ratio(seconds[theirs], seconds[ours])
        yield Figure(f"step, {ours} against {theirs}", ratio, "times", bar, detail=dict(whole))
    for side, found in parts.items():
        detail = {part: 1e3 * taken / steps for part, taken in found.items()}
        yield Figure(
            f"step, {side}, outside convolutions and norms", 100 * share_outside(found), "%", 15.0, "lower", detail
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2, help="steps of each side in a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=512)
    add_types(parser)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--config", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, TrialConfig.model_validate_json(arguments.config), arguments.threads)
        return
    sizes = arguments.width, arguments.batch, arguments.steps, arguments.threads, arguments.rounds
    found = figures(*sizes, chosen_types(arguments.types))
    show("step", found, as_json=arguments.json)


if __name__ == "__main__":
    main()
