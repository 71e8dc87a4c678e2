"""What the workers of one trial tell each other in a step, on paper: bytes, messages, and the efficiency they allow.

    python benchmarks/traffic.py [--study studies/paper/table1_cifar10.yaml] [--workers 2 8 64]
                                 [--gigabits 100] [--microseconds 30] [--teraflops 100] [--json]

Counted from the study's own network. All-reduces and all-gathers are taken as rings, in which each of W workers sends
2 (W - 1) / W and (W - 1) / W of the whole; small ones, BatchNorm's, as trees, which wait for 2 log2(W) hops of
`--microseconds`. A step's work is 3 forward passes of dense convolutions, as GPUs do them, at `--teraflops` a worker; a
link carries `--gigabits`.
Efficiency is work over work and traffic; the better one lets the gradients of the weights travel during the backward
pass, as DDP does.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from figures import Figure, show

from hssl_ray.method.networks import Network, build_network
from hssl_ray.method.normalisation import BatchNorm
from hssl_ray.study.spec import load_study
from hssl_ray.trial.config import TrialConfig

STUDY = Path(__file__).parents[1] / "studies" / "paper" / "table1_cifar10.yaml"


@dataclass(frozen=True)
class Traffic:
    """Of one worker and step, sent: bytes by kind, and messages that nothing else can go on without."""

    gradients: float
    views: float
    norms: float
    messages: int

    @property
    def total(self) -> float:
        return self.gradients + self.views + self.norms


def traffic(network: Network, config: TrialConfig, workers: int) -> Traffic:
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    share = (workers - 1) / workers
    norms = [m.weight.numel() for m in network.modules() if isinstance(m, BatchNorm)]
    head = config.architecture.head_sizes[-1]
    gathered = 2 * config.batch_size * head * 4
    # Forward: sums and a count, then squares; backward: two sums. All float64.
    of_norms = sum(2 * share * 8 * (4 * channels + 1) for channels in norms)
    return Traffic(
        gradients=2 * share * 4 * trained,
        views=share * gathered + 2 * share * gathered,  # gathered, and their gradient summed up
        norms=of_norms,
        messages=3 * len(norms) + 2,
    )


def step_seconds(config: TrialConfig, workers: int, operations: float) -> float:
    return 3 * 2 * config.architecture.cost(config.grid).macs * config.batch_size / workers / operations


def figures(config: TrialConfig, workers: list[int], link: float, wait: float, operations: float) -> Iterator[Figure]:
    network = build_network(config)
    for count in workers:
        sent = traffic(network, config, count)
        work = step_seconds(config, count, operations)
        waits = sent.messages * 2 * math.ceil(math.log2(count)) * wait
        in_the_way = (sent.views + sent.norms) / link + waits
        gradients = sent.gradients / link
        yield Figure(
            f"{config.backbone}, batch {config.batch_size}, {count} workers: bytes sent by each",
            sent.total / 1e6,
            "MB/step",
            detail={
                "gradients_MB": sent.gradients / 1e6,
                "views_MB": sent.views / 1e6,
                "norms_MB": sent.norms / 1e6,
                "messages": sent.messages,
                "work_ms": 1e3 * work,
                "traffic_ms": 1e3 * (in_the_way + gradients),
                "efficiency": work / (work + in_the_way + gradients),
                "efficiency_overlapped": work / (work + in_the_way + max(0.0, gradients - work * 2 / 3)),
            },
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=STUDY)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 8, 64])
    parser.add_argument("--gigabits", type=float, default=100.0)
    parser.add_argument("--microseconds", type=float, default=30.0)
    parser.add_argument("--teraflops", type=float, default=100.0)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    config = next(trial.config for trial in load_study(asked.study).planned() if trial.config.method == "h_ssl")
    found = figures(config, asked.workers, asked.gigabits / 8 * 1e9, asked.microseconds * 1e-6, asked.teraflops * 1e12)
    show("traffic", found, as_json=asked.json)


if __name__ == "__main__":
    main()
