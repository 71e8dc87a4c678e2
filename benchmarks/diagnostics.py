"""What measuring a network costs beside training it: processor seconds of each diagnostic and of one epoch.

    python benchmarks/diagnostics.py [--rounds 3] [--set base.group=rotation ...]

One thread, the quick-start study's H-SSL trial; medians over the rounds. Processor seconds, so that another process on
the machine adds little.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from hssl_ray.method.networks import Network, build_network
from hssl_ray.study.spec import load_study
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.data import Images, TrialData, open_trial_data, training_batches
from hssl_ray.trial.equivariance import equivariance_errors
from hssl_ray.trial.evaluate import EQUIVARIANCE_IMAGES, Representations, readable_map, representations
from hssl_ray.trial.optim import build_optimizer
from hssl_ray.trial.pairs import pair_metrics
from hssl_ray.trial.precision import autocast
from hssl_ray.trial.probes import knn_top1, linear_top1
from hssl_ray.trial.ranks import Ranks
from hssl_ray.trial.ridge import ridge_top1
from hssl_ray.trial.task import Task

QUICKSTART = Path(__file__).parents[1] / "studies" / "quickstart.yaml"
ALONE = Ranks(0, 1)


def train_epoch(task: Task, data: TrialData, optimizer: torch.optim.Optimizer) -> None:
    task.train()
    for batch in training_batches(data.train, task.config, 0, ALONE):
        with autocast(task.config, data.train.device):
            losses = task(batch.images, batch.labels, task.draw(0, batch.indices))
        optimizer.zero_grad(set_to_none=True)
        losses.total.backward()
        optimizer.step()


def with_maps(network: Network, images: Images) -> tuple[Representations, Tensor]:
    """What the network makes of all images, and the maps that the ridge probe reads."""
    maps: list[Tensor] = []
    return representations(network, images, ALONE, lambda z, _: maps.append(readable_map(z))), torch.cat(maps)


def parts(task: Task, data: TrialData) -> Iterator[tuple[str, str, Callable[[], object]]]:
    """Name, when it is measured, and what to run."""
    network, config = task.network, task.config
    optimizer = build_optimizer(network, network.probe, config)
    yield "a training epoch", "", lambda: train_epoch(task, data, optimizer)
    few = data.test.take(torch.arange(EQUIVARIANCE_IMAGES)).images
    with torch.no_grad(), autocast(config, data.test.device):
        test, test_maps = with_maps(network, data.test)
        train, train_maps = with_maps(network, data.train)
        yield "test images", "every epoch", lambda: representations(network, data.test, ALONE)
        yield "training images", "last", lambda: with_maps(network, data.train)
    yield "equivariance", "every epoch", lambda: equivariance_errors(network, few, every_stage=False)
    yield "equivariance, all", "1, 2, 4, ...", lambda: equivariance_errors(network, few, every_stage=True)
    yield "pairs", "every epoch", lambda: pair_metrics(task, data.test, ALONE)
    maps = (train_maps, train.labels, test_maps, test.labels, config.data.classes)
    features = (train.features, train.labels, test.features, test.labels, config.data.classes)
    yield "probe/ridge_top1", "last", lambda: ridge_top1(*features)
    yield "probe/map_ridge_top1", "last", lambda: ridge_top1(*maps)
    yield "probe/linear_top1", "last", lambda: linear_top1(*features)
    yield "probe/knn_top1", "last", lambda: knn_top1(*features)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the study")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    study = load_study(QUICKSTART, arguments.set)
    config: TrialConfig = next(t.config for t in study.planned() if t.config.method == "h_ssl")
    data = open_trial_data(config, torch.device("cpu"))
    found: dict[str, list[float]] = {}
    when: dict[str, str] = {}
    for _ in range(1 + arguments.rounds):
        for name, often, run in parts(Task(build_network(config), config), data):
            start = time.process_time()
            run()
            found.setdefault(name, []).append(time.process_time() - start)
            when[name] = often
    print(f"torch {torch.__version__}, {config.train_images} training and {len(data.test)} test images, {config.group}")
    for name, taken in found.items():
        print(f"{name:22}{when[name]:14}{statistics.median(taken[1:]):8.2f} s")  # the first round warms up


if __name__ == "__main__":
    main()
