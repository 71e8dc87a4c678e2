"""No-op trials per minute through the whole path, ours beside the stock recipe.

    python benchmarks/no_op_trials.py [--rounds 3] [--trials 200] [--stock-trials 8] [--json]

Every round runs `our_sweep.py` and `stock_sweep.py`, one after the other, each on a home of its own. The steady rate is
that from the first end of a trial until MLflow has the last one and Ray has ended; with start-up it is all trials over
the whole time of the process. The stock sweep is shorter, because its trials take seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from figures import Figure, paired_ratio, show

from studies import run_command

HERE = Path(__file__).parent
BAR, BAR_RATIO = 120.0, 10.0


@dataclass(frozen=True)
class Swept:
    """Trials per minute."""

    steady: float
    with_start: float


def swept(script: str, trials: int) -> Swept:
    with tempfile.TemporaryDirectory(prefix="no-op-") as folder:
        ran = run_command([sys.executable, str(HERE / script), folder, str(trials)], Path(folder))
    told = json.loads(ran.lines[-1].text)
    assert len(told["ends"]) == trials
    return Swept(60.0 * (trials - 1) / (told["done"] - min(told["ends"])), 60.0 * trials / ran.seconds)


def measure(rounds: int, trials: int, stock_trials: int) -> Iterator[Figure]:
    ours, stock = [], []
    for _ in range(rounds):
        ours.append(swept("our_sweep.py", trials))
        stock.append(swept("stock_sweep.py", stock_trials))
    for name, rate in (("steady", lambda one: one.steady), ("with start-up", lambda one: one.with_start)):
        here, there = [rate(one) for one in ours], [rate(one) for one in stock]
        counts = {"rounds": rounds, "trials": trials, "stock_trials": stock_trials}
        yield Figure(f"no-op trials, {name}", statistics.median(here), "/min", BAR, detail=counts)
        yield Figure(
            f"no-op trials, {name}, over the stock recipe", paired_ratio(here, there), "x", BAR_RATIO,
            detail={"stock_per_minute": statistics.median(there)},
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--stock-trials", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    figures = measure(arguments.rounds, arguments.trials, arguments.stock_trials)
    show("no_op_trials", figures, as_json=arguments.json)


if __name__ == "__main__":
    main()
