"""Suggestions a second of processor time, with so many suggestions made before.

    python benchmarks/suggestions.py [--sampler tpe] [--rounds 5] [--json]

A search of four fields (two ranges, a step, a choice) in one cell. The sampler is given a history of `n` finished
suggestions, as a driver that starts again does, and then asks and tells; every round is one suggestion. Processor
seconds, so that a busy machine does not count. `optuna` is the same sampler asked the plain way: a study in memory that
every suggestion is told to as it ends.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from figures import Figure, show

from hssl_ray.study.search.search import Past, Sampler, Suggestion
from hssl_ray.study.spec import Study

HISTORIES = (100, 1_000, 3_000)
SPACE: dict[str, Any] = {
    "temperature": {"low": 0.03, "high": 1.0, "log": True},
    "learning_rate": {"low": 0.001, "high": 0.1},
    "width": {"low": 0.25, "high": 4.0, "step": 0.25},
    "objective": ["info_nce", "nt_xent", "dcl"],
}
MOST_LOSS = 2.5
"""Times as long as Optuna asked the plain way."""


def score(settings: Mapping[str, Any]) -> float:
    return -abs(float(settings["temperature"]) - 0.2) - 0.1 * abs(float(settings["width"]) - 1)


def drawn(count: int) -> list[dict[str, Any]]:
    """Points of the space, all different."""
    draw = random.Random(0)  # noqa: S311
    return [
        {
            "temperature": draw.uniform(0.03, 1.0),
            "learning_rate": draw.uniform(0.001, 0.1),
            "width": 0.25 * draw.randint(1, 16),
            "objective": draw.choice(SPACE["objective"]),
        }
        for _ in range(count)
    ]


def processor_seconds(one_round: Callable[[], None], rounds: int) -> float:
    """The median over rounds, the first of which is not counted: it builds what the others use."""
    one_round()
    taken = []
    for _ in range(rounds):
        since = time.process_time()
        one_round()
        taken.append(time.process_time() - since)
    return statistics.median(taken)


def ours(name: str, history: int, rounds: int) -> float:
    """Processor seconds of one suggestion."""
    search = {"sampler": name, "trials": 100_000, "space": SPACE}
    study = Study.model_validate({"study": "s", "base": {"epochs": 5, "warmup_epochs": 1}, "search": search})
    assert study.search is not None
    sampler = Sampler(study.search, study.cells()[0], 0)
    points = enumerate(drawn(history))
    sampler.replay(Past(Suggestion(number, point), "finished", score(point)) for number, point in points)

    def one_round() -> None:
        suggestion = sampler.ask()
        assert suggestion is not None
        sampler.tell(suggestion.number, score(suggestion.settings))

    return processor_seconds(one_round, rounds)


def plain_tpe(history: int, rounds: int) -> float:
    """Processor seconds of one suggestion of Optuna's own TPE, its study kept in memory."""
    axes: dict[str, optuna.distributions.BaseDistribution] = {
        "temperature": optuna.distributions.FloatDistribution(0.03, 1.0, log=True),
        "learning_rate": optuna.distributions.FloatDistribution(0.001, 0.1),
        "width": optuna.distributions.FloatDistribution(0.25, 4.0, step=0.25),
        "objective": optuna.distributions.CategoricalDistribution(SPACE["objective"]),
    }
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    for point in drawn(history):
        study.add_trial(optuna.trial.create_trial(params=point, distributions=axes, value=score(point)))

    def one_round() -> None:
        trial = study.ask(axes)
        study.tell(trial, score(trial.params))

    return processor_seconds(one_round, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sampler", default="tpe", choices=["tpe", "random", "qmc", "cmaes", "gp"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    chosen = parser.parse_args()
    figures = []
    for history in HISTORIES:
        seconds = ours(chosen.sampler, history, chosen.rounds)
        what = f"{chosen.sampler}, {history:,} made before"
        figures.append(Figure(what, 1 / seconds, "suggestions/s", detail={"ms": 1000 * seconds}))
        if chosen.sampler == "tpe":
            plain = plain_tpe(history, chosen.rounds)
            detail: dict[str, float | int | str] = {"ms_ours": 1000 * seconds, "ms_plain": 1000 * plain}
            figures.append(Figure(f"{what}, to plain Optuna", seconds / plain, "x", MOST_LOSS, "lower", detail))
    show("suggestions", figures, as_json=chosen.json)


if __name__ == "__main__":
    main()
