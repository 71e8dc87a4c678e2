"""Successive halving: rungs, who goes on, and what a restart keeps."""

from __future__ import annotations

import math
import random

import pytest

from hssl_ray.study.search.early_stop import Asha


def asha(grace: int = 1, factor: int = 3, epochs: int = 27, goal: str = "maximize") -> Asha:
    return Asha(grace, factor, epochs, "probe/top1", "minimize" if goal == "minimize" else "maximize")


@pytest.mark.parametrize(
    ("grace", "factor", "epochs", "rungs"),
    [(1, 3, 27, [1, 3, 9]), (3, 3, 12, [3, 9]), (2, 2, 16, [2, 4, 8]), (5, 2, 5, []), (4, 4, 5, [4])],
)
def test_rungs_grow_by_the_factor_and_end_before_the_last_epoch(
    grace: int, factor: int, epochs: int, rungs: list[int]
) -> None:
    assert list(asha(grace, factor, epochs).rungs) == rungs


def test_only_epochs_of_a_rung_decide() -> None:
    one = asha(grace=3)
    assert not one.decide("good", 3, 0.9)
    assert not any(one.decide("bad", epoch, 0.1) for epoch in (1, 2))
    assert one.decide("bad", 3, 0.1)
    assert not any(one.decide("good", epoch, 0.0) for epoch in range(4, 9))


def test_the_best_third_of_all_seen_goes_on() -> None:
    """Told from best to worst: at n values the best max(1, n // 3) stay."""
    values = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    one = asha()
    stopped = [one.decide(f"t{value}", 1, value) for value in values]
    assert stopped == [False, True, True, True, True, True]
    rising = asha()
    assert not any(rising.decide(f"t{value}", 1, value) for value in reversed(values))
    assert [rising.decide("new", 1, 0.65), rising.decide("newer", 1, 0.85)] == [True, False]


def test_equal_values_go_on_together() -> None:
    one = asha()
    assert not any(one.decide(f"t{i}", 1, 0.5) for i in range(9))


def test_a_minimised_metric_keeps_the_lowest() -> None:
    one = asha(goal="minimize")
    assert not one.decide("low", 1, 0.1)
    assert one.decide("high", 1, 0.9)
    assert one.rungs[1] == {"low": 0.1, "high": 0.9}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_ranks_last(value: float) -> None:
    one = asha()
    assert one.decide("broken", 1, value)
    assert not one.decide("sound", 1, -1e9)


def test_a_skipped_rung_is_met_at_the_next_report() -> None:
    one = asha(grace=3)
    one.decide("good", 3, 0.9)
    assert one.decide("late", 5, 0.1)
    assert one.rungs[3] == {"good": 0.9, "late": 0.1}


def test_a_trial_meets_a_rung_once() -> None:
    """A resumed trial repeats epochs: its first value counts and the decision is not taken again."""
    one = asha()
    assert not one.decide("a", 1, 0.2)
    assert not one.decide("b", 1, 0.9)
    assert not one.decide("a", 1, 0.0)
    assert one.rungs[1] == {"a": 0.2, "b": 0.9}


def test_rungs_rebuilt_from_records_decide_alike() -> None:
    """A restart that records what the journals hold, in any order, decides about new trials as the old process."""
    draws = random.Random(0)
    history = [(f"t{i}", epoch, draws.random()) for i in range(30) for epoch in range(1, 12)]
    old = asha()
    for trial_id, epoch, value in history:
        old.decide(trial_id, epoch, value)
    new = asha()
    # The epochs of one trial keep their order, as its journal does.
    for trial_id in draws.sample([f"t{i}" for i in range(30)], 30):
        for record in (h for h in history if h[0] == trial_id):
            new.record(*record)
    assert new.rungs == old.rungs
    fresh = [(f"n{i}", draws.random()) for i in range(20)]
    assert [new.decide(t, 3, v) for t, v in fresh] == [old.decide(t, 3, v) for t, v in fresh]
    forgetful = asha()
    assert [forgetful.decide(t, 3, v) for t, v in fresh] != [value < 0.9 for _, value in fresh]


def test_a_sweep_spends_less_and_keeps_the_best() -> None:
    """81 trials of 27 epochs with noiseless ranks, told epoch by epoch in turn."""
    qualities = random.Random(0).sample(range(81), 81)
    one, running, spent = asha(), {f"t{i}": i / 81 for i in qualities}, 0
    for epoch in range(1, 28):
        for trial_id, quality in list(running.items()):
            spent += 1
            if one.decide(trial_id, epoch, quality * epoch) and epoch < 27:
                del running[trial_id]
    assert "t80" in running
    assert spent < 0.25 * 81 * 27
