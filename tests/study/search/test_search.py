"""Suggestions: valid, new, a function of seed and history alone, and better than chance where the sampler learns."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest

import hssl_ray.study.file.sections
from hssl_ray.study.file.problems import SamplerUnavailable
from hssl_ray.study.file.sections import missing_package
from hssl_ray.study.search.search import Past, Sampler, State, Suggestion
from hssl_ray.study.spec import Cell, Study
from hssl_ray.trial.config import TrialConfig

MIXED: dict[str, Any] = {
    "temperature": {"low": 0.03, "high": 1.0, "log": True},
    "width": {"low": 0.25, "high": 2.0, "step": 0.25},
    "base_size": {"low": 1, "high": 3},
    "objective": ["info_nce", "nt_xent"],
}
NAMES = [
    "random",
    "tpe",
    "gp",
    "qmc",
    pytest.param(
        "cmaes", marks=pytest.mark.skipif(missing_package("cmaes") is not None, reason="cmaes is not installed")
    ),
]


def sampler(
    name: str = "tpe", seed: int = 0, trials: int = 50, space: dict[str, Any] | None = None, **base: Any
) -> Sampler:
    """For the one cell of a study."""
    base = {"epochs": 5, "warmup_epochs": 1, **base}
    search = {"sampler": name, "trials": trials, "space": space or MIXED}
    study = Study.model_validate({"study": "s", "base": base, "search": search})
    (cell,) = study.cells()
    assert study.search is not None
    return Sampler(study.search, cell, seed)


def score(settings: Mapping[str, Any]) -> float:
    temperature, width = float(settings["temperature"]), float(settings["width"])
    return -abs(temperature - 0.2) - 0.1 * abs(width - 1.0)


def play(one: Sampler, rounds: int, value: Callable[[Mapping[str, Any]], float] = score) -> list[Past]:
    """Ask and tell; the history."""
    past = []
    for _ in range(rounds):
        suggestion = one.ask()
        assert suggestion is not None
        one.tell(suggestion.number, value(suggestion.settings))
        past.append(Past(suggestion, "finished", value(suggestion.settings)))
    return past


@pytest.mark.parametrize("name", NAMES)
def test_suggestions_are_valid_trials_and_all_different(name: str) -> None:
    one = sampler(name)
    suggestions = [past.suggestion for past in play(one, 14)]
    assert [s.number for s in suggestions] == list(range(14))
    assert len({tuple(sorted(s.settings.items())) for s in suggestions}) == 14
    for suggestion in suggestions:
        TrialConfig(**{**one.cell.settings, **suggestion.settings})
        assert list(suggestion.settings) == list(one.search.space)
        assert 0.03 <= suggestion.settings["temperature"] <= 1
        assert suggestion.settings["width"] % 0.25 == 0
        assert type(suggestion.settings["base_size"]) is int


@pytest.mark.parametrize("name", NAMES)
def test_the_same_history_gives_the_same_next_suggestion(name: str) -> None:
    """In whatever order it is replayed; and another seed, cell or history gives another one."""
    past = play(sampler(name), 12)

    def after(history: list[Past], seed: int = 0, **base: Any) -> Suggestion | None:
        one = sampler(name, seed, **base)
        one.replay(history)
        return one.ask()

    living = sampler(name)
    assert [p.suggestion for p in play(living, 12)] == [p.suggestion for p in past]
    following = living.ask()
    assert following is not None
    assert after(past) == following
    assert after(random.Random(0).sample(past, len(past))) == following
    assert after(past, seed=1) != following
    assert after(past, group="scale") != following
    if name not in ("random", "qmc"):  # these two look at no values
        assert after([Past(p.suggestion, "finished", -(p.value or 0)) for p in past]) != following


@pytest.mark.parametrize("name", NAMES)
def test_a_constraint_never_lets_an_impossible_point_through(name: str) -> None:
    """Of these points three in four are no trial: a base of 5 fits no rotation, 4 and 9 are squares for translation."""
    space: dict[str, list[Any]] = {
        "group": ["rotation", "scale", "translation"],
        "base_size": [1, 2, 4, 5, 9],
        "max_distance": [0.5, 2.0, 8.0],
    }
    one = sampler(name, space=space, trials=6 if name == "gp" else 50)  # gp thinks for a second each time
    found = 0
    while (suggestion := one.ask()) is not None:
        TrialConfig(**{**one.cell.settings, **suggestion.settings})
        one.tell(suggestion.number, 0.5)
        found += 1
    possible = sum(
        _is_trial({"group": group, "base_size": size, "max_distance": distance})
        for group in space["group"]
        for size in space["base_size"]
        for distance in space["max_distance"]
    )
    assert possible < 45 / 2
    assert found == min(possible, one.search.trials)


def _is_trial(settings: dict[str, Any]) -> bool:
    try:
        TrialConfig(**settings)
    except ValueError:
        return False
    return True


def rest(one: Sampler) -> list[Suggestion]:
    """What the sampler suggests until it stops."""
    found: list[Suggestion] = []
    while (suggestion := one.ask()) is not None:
        found.append(suggestion)
    return found


def test_a_small_space_is_exhausted_and_then_over() -> None:
    one = sampler("tpe", space={"base_size": [1, 2, 3], "objective": ["info_nce", "nt_xent"]})
    assert len({tuple(past.suggestion.settings.values()) for past in play(one, 6, lambda _: 0.0)}) == 6
    assert one.ask() is None


def test_no_more_suggestions_than_the_study_says() -> None:
    one = sampler("random", trials=3)
    made = rest(one)
    assert len(made) == 3
    again = sampler("random", trials=3)
    again.replay(Past(suggestion, "failed") for suggestion in made)
    assert again.ask() is None


@pytest.mark.parametrize("state", ["running", "failed", "pruned"])
def test_unfinished_suggestions_are_not_made_again(state: State) -> None:
    one = sampler("tpe", space={"base_size": [1, 2, 3]})
    one.replay([Past(Suggestion(0, {"base_size": 1}), state, 0.5 if state == "pruned" else None)])
    assert sorted(suggestion.settings["base_size"] for suggestion in rest(one)) == [2, 3]


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_a_value_that_is_none_is_a_failure(value: float | None) -> None:
    one = sampler("tpe")
    suggestion = one.ask()
    assert suggestion is not None
    one.tell(suggestion.number, value)
    assert one._past[0].state == "failed"
    assert one.ask() is not None


def test_tpe_learns_and_random_search_does_not() -> None:
    """The mean of the last 15 of 40 suggestions, over three seeds."""

    def late(name: str) -> float:
        return sum(p.value or 0 for seed in range(3) for p in play(sampler(name, seed), 40)[-15:]) / 45

    assert late("tpe") > late("random") + 0.05


def test_a_minimised_metric_is_minimised() -> None:
    one = sampler("tpe")
    search = one.search.model_copy(update={"goal": "minimize"})
    down = Sampler(search, one.cell, 0)
    values = [p.value or 0 for p in play(down, 40, lambda s: -score(s))]
    assert sum(values[-15:]) < sum(values[:15])


def test_cells_draw_apart() -> None:
    one = sampler("random")
    other = Sampler(one.search, Cell("another", one.cell.settings), 0)
    assert one.ask() != other.ask()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hssl_ray.study.file.sections, "find_spec", lambda name: None)
    with pytest.raises(
        SamplerUnavailable, match=r"search\.sampler: cmaes needs the package cmaes, which is not installed"
    ):
        sampler("cmaes")
    assert sampler("tpe").ask() is not None


@pytest.mark.parametrize(("name", "told"), [("random", 0), ("tpe", 3), ("cmaes", 3)])
def test_only_samplers_that_learn_are_told_the_history(name: str, told: int) -> None:
    if missing_package(name) is not None:  # type: ignore[arg-type]
        pytest.skip(f"{name} needs a package that is not installed")
    one = sampler(name)
    play(one, 3)
    assert len(one._study().trials) == told
