"""What a search is given before it draws: points tried first, another study's results, trials that are done."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from hssl_ray.study.attempt import Ending
from hssl_ray.study.file.problems import StudyError, WarmStartError
from hssl_ray.study.ledger import read_history
from hssl_ray.study.search.search import Past, Sampler, Suggestion
from hssl_ray.study.spec import Study, load_study
from tests.study.engine_programs import study
from tests.study.test_sweep import LoopEngine, run

SPACE: dict[str, Any] = {"learning_rate": {"low": 0.01, "high": 0.1}, "base_size": [1, 2]}


def searched(name: str = "fake", grid: dict[str, Any] | None = None, **changes: Any) -> Study:
    search = {"sampler": "tpe", "trials": 3, "metric": "train/loss", "goal": "minimize", "space": SPACE, **changes}
    sections: dict[str, Any] = {"grid": grid} if grid else {}
    return study(seeds=2, epochs=1, name=name, search=search, **sections)


def suggested(home: Path, name: str = "fake") -> dict[str, list[dict[str, Any]]]:
    """The suggestions of each cell, in order."""
    found: dict[str, list[dict[str, Any]]] = {}
    for sample in read_history(home, name).samples.values():
        found.setdefault(sample.cell, []).append(sample.settings)
    return found


POINTS = [{"learning_rate": 0.02, "base_size": 2}, {"learning_rate": 0.05, "base_size": 1}]


def test_points_are_tried_first_and_the_sampler_goes_on(tmp_path: Path) -> None:
    run(searched(points_to_evaluate=POINTS), tmp_path, LoopEngine())
    (made,) = suggested(tmp_path).values()
    assert made[:2] == POINTS
    assert len(made) == 3 and made[2] not in POINTS


def test_points_added_later_are_tried_next(tmp_path: Path) -> None:
    """The suggestions that were made stand; one that is among the points is not made again."""
    run(searched(trials=1, points_to_evaluate=POINTS[1:]), tmp_path, LoopEngine())
    engine = LoopEngine()
    run(searched(trials=3, points_to_evaluate=POINTS), tmp_path, engine)
    (made,) = suggested(tmp_path).values()
    assert made[:2] == [POINTS[1], POINTS[0]]
    assert len(engine.ran) == 4


def test_a_point_that_a_cell_cannot_have_is_passed_over_there(tmp_path: Path) -> None:
    """A base of five fits six scales, but not four rotations."""
    space = {"base_size": [1, 2, 5], "learning_rate": [0.02, 0.05]}
    point = {"base_size": 5, "learning_rate": 0.05}
    grid = {"group": ["rotation", "scale"]}
    run(searched(grid=grid, space=space, trials=2, points_to_evaluate=[point]), tmp_path, LoopEngine())
    rotation, scale = suggested(tmp_path).values()
    assert scale[0] == point
    assert point not in rotation and len(rotation) == 2


def test_every_cell_of_a_grid_has_its_own_suggestions(tmp_path: Path) -> None:
    """Grid x sampler: every point of the grid gets all suggestions, and its trials have the cell's own settings."""
    grid = {"method": ["a_ssl", "h_ssl"], "temperature": [0.1, 0.2]}
    assert run(searched(grid=grid), tmp_path, LoopEngine()) == {"finished": 24}
    made = suggested(tmp_path)
    assert [len(cell) for cell in made.values()] == [3] * 4
    history = read_history(tmp_path, "fake")
    for sample in history.samples.values():
        for trial in sample.trials:
            assert sample.cell == f"{trial.config.method}-rotation-temperature={trial.config.temperature}"
            assert {name: getattr(trial.config, name) for name in SPACE} == sample.settings
    first = [cell[0]["learning_rate"] for cell in made.values()]
    assert len(set(first)) == 4  # cells draw apart


HEAD = """study: s
base: {epochs: 5, warmup_epochs: 1, group: rotation}
search:
  trials: 2
  sampler: tpe
  space: {width: {low: 0.25, high: 2.0, step: 0.25}, base_size: [1, 2], temperature: {low: 0.1, high: 1.0}}
"""
WRONG = {
    "not a choice": (
        "{width: 1.0, base_size: 3, temperature: 0.2}",
        "base_size",
        "must be one of search.space's [1, 2]",
    ),
    "outside": ("{width: 1.0, base_size: 1, temperature: 1.1}", "temperature", "must be in search.space's 0.1 to 1.0"),
    "off the steps": ("{width: 0.3, base_size: 1, temperature: 0.2}", "width", "must be a step of 0.25 above"),
    "not searched": ("{width: 1.0, base_size: 1, temperature: 0.2, epochs: 5}", "epochs", "is not in search.space"),
    "incomplete": ("{width: 1.0, base_size: 1}", "", "lacks temperature"),
    "wrong type": ("{width: wide, base_size: 1, temperature: 0.2}", "width", "must be a number"),
    "unknown": ("{widht: 1.0, base_size: 1, temperature: 0.2}", "widht", 'did you mean "width"'),
}


@pytest.mark.parametrize(("point", "field", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_point_outside_the_space_is_an_error_with_its_place(
    tmp_path: Path, point: str, field: str, message: str
) -> None:
    path = tmp_path / "s.yaml"
    good = "{width: 0.5, base_size: 1, temperature: 0.2}"
    path.write_text(f"{HEAD}  points_to_evaluate:\n    - {good}\n    - {point}\n")
    with pytest.raises(StudyError) as raised:
        load_study(path)
    problem = raised.value.problems[0]
    assert (problem.line, problem.path) == (9, "search.points_to_evaluate[1]" + (f".{field}" if field else ""))
    assert message in problem.message
    path.write_text(f"{HEAD}  points_to_evaluate:\n    - {good}\n")
    load_study(path)


def test_more_points_than_trials_and_repeated_points_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    points = "".join(f"    - {{width: 1.0, base_size: 1, temperature: {t}}}\n" for t in (0.2, 0.3, 0.2))
    path.write_text(f"{HEAD}  points_to_evaluate:\n{points}")
    with pytest.raises(StudyError) as raised:
        load_study(path)
    assert [p.message for p in raised.value.problems] == [
        "must be at most search.trials = 2 points, got 3",
        "given twice, first as item 1",
    ]


def test_a_point_that_no_cell_can_have_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "study: s\nbase: {epochs: 5, warmup_epochs: 1}\nsearch:\n  trials: 2\n"
        "  space: {group: [rotation, scale], base_size: [1, 5]}\n"
        "  points_to_evaluate:\n    - {group: rotation, base_size: 5}\n"
    )
    with pytest.raises(
        StudyError, match=r"7:7: search\.points_to_evaluate\[0\]: makes no trial in any cell: base_size"
    ):
        load_study(path)


def test_a_suggestion_that_another_study_trained_costs_nothing(tmp_path: Path) -> None:
    """Its trials are taken over, and the sampler is told what they reached."""
    first = LoopEngine()
    run(searched("first", points_to_evaluate=POINTS), tmp_path, first)
    assert len(first.ran) == 6
    engine = LoopEngine()
    assert run(searched("second", trials=2, points_to_evaluate=POINTS), tmp_path, engine) == {"finished": 4}
    assert engine.ran == []
    run(searched("third", trials=2, points_to_evaluate=[{"learning_rate": 0.03, "base_size": 1}]), tmp_path, engine)
    assert len(engine.ran) == 4  # two others: these are trained


def test_a_suggestion_of_an_earlier_search_costs_nothing(tmp_path: Path) -> None:
    """A study whose space changes starts sampling anew; what it has trained it does not train again."""
    run(searched(points_to_evaluate=POINTS, trials=2), tmp_path, LoopEngine())
    engine = LoopEngine()
    wider = {"learning_rate": {"low": 0.01, "high": 0.2}, "base_size": [1, 2]}
    run(searched(points_to_evaluate=POINTS, trials=2, space=wider), tmp_path, engine)
    assert engine.ran == []


# ---- warm start


def told(home: Path, name: str = "warm") -> list[list[Any]]:
    notes = read_history(home, name).notes
    return [note["points"] for about, note in notes.items() if about.startswith("warm_start")]


def test_a_search_starts_from_another_studys_finished_trials(tmp_path: Path) -> None:
    """Its sampler draws otherwise from the start than a cold one's, with a dozen points told."""
    run(searched("other", trials=12), tmp_path, LoopEngine())
    run(searched("warm", warm_start="other", trials=2), tmp_path, LoopEngine())
    run(searched("cold", trials=2), tmp_path, LoopEngine())
    (points,) = told(tmp_path)
    assert [settings for settings, _ in points] == next(iter(suggested(tmp_path, "other").values()))
    assert {value for _, value in points} == {1.0}
    assert suggested(tmp_path, "warm") != suggested(tmp_path, "cold")


def test_what_is_told_first_stays_what_it_was(tmp_path: Path) -> None:
    """The other study goes on in between; a resumed search makes the suggestions of one that was not interrupted."""
    run(searched("other", trials=12), tmp_path, LoopEngine())
    run(searched("whole", warm_start="other", trials=4), tmp_path, LoopEngine())
    run(searched("warm", warm_start="other", trials=2), tmp_path, LoopEngine())
    run(searched("other", trials=15), tmp_path, LoopEngine())
    run(searched("warm", warm_start="other", trials=4), tmp_path, LoopEngine())
    assert [*suggested(tmp_path, "warm").values()] == [*suggested(tmp_path, "whole").values()]


def test_only_trials_that_the_cell_could_have_made_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Another temperature, an epoch more, a point outside the space, a suggestion with a failed seed: none of them."""
    grid = {"temperature": [0.1, 0.2]}
    run(searched("other", grid=grid, points_to_evaluate=POINTS, trials=2), tmp_path, LoopEngine())
    narrow = {"learning_rate": {"low": 0.01, "high": 0.03}, "base_size": [1, 2]}
    run(searched("warm", warm_start="other", space=narrow, trials=1), tmp_path, LoopEngine())
    assert [[point[0] for point in cell] for cell in told(tmp_path)] == [[POINTS[0]]]
    longer = study(seeds=2, epochs=2, name="longer", search={**_search_of("warm"), "warm_start": "other", "trials": 1})
    with caplog.at_level(logging.WARNING):
        run(longer, tmp_path, LoopEngine())
    assert told(tmp_path, "longer") == [[]]
    assert "study other has no finished trial that fits cell h_ssl-rotation-temperature=0.1" in caplog.text


def _search_of(name: str) -> dict[str, Any]:
    search = searched(name).search
    assert search is not None
    return search.model_dump(exclude_unset=True)


def test_a_suggestion_with_a_failed_seed_is_not_told(tmp_path: Path) -> None:
    def ending(assignment: Any) -> Ending:
        broken = assignment.trial.config.seed == 1 and assignment.trial.config.base_size == 2
        return Ending("failed", "error: broken") if broken else Ending("finished")

    run(searched("other", points_to_evaluate=POINTS, trials=2), tmp_path, LoopEngine(ending))
    run(searched("warm", warm_start="other", trials=1), tmp_path, LoopEngine())
    assert [[point[0] for point in cell] for cell in told(tmp_path)] == [[POINTS[1]]]


def test_a_study_without_a_search_warms_one_too(tmp_path: Path) -> None:
    grid = {"temperature": [0.1], "base_size": [1, 2], "learning_rate": [0.02, 0.5]}
    run(study(seeds=2, epochs=1, name="other", grid=grid), tmp_path, LoopEngine())
    run(searched("warm", warm_start="other", trials=1), tmp_path, LoopEngine())
    (points,) = told(tmp_path)
    assert sorted(point[0]["base_size"] for point in points) == [1, 2]
    assert {point[0]["learning_rate"] for point in points} == {0.02}


def test_a_study_that_never_ran_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WarmStartError, match=r'search\.warm_start: no study of this name has run here, got "othr"'):
        run(searched("warm", warm_start="othr"), tmp_path, LoopEngine())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"warm_start": "s"}, "must be another study"),
        ({"warm_start": "t", "sampler": "qmc"}, "qmc looks at no results"),
        ({"warm_start": "../t"}, "must start with a letter or digit"),
    ],
)
def test_a_warm_start_that_cannot_be_is_an_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="warm_start") as raised:
        searched("s", **changes)
    assert message in str(raised.value) or "pattern" in str(raised.value)


@pytest.mark.parametrize("name", ["tpe", "cmaes"])
def test_a_sampler_draws_alike_from_the_same_history_and_start(name: str) -> None:
    pytest.importorskip("cmaes")
    search = searched(sampler=name, trials=50, space={"learning_rate": {"low": 0.01, "high": 0.1}}).search
    assert search is not None
    cell = searched().cells()[0]
    warm = [({"learning_rate": 0.01 + n / 200}, float(n)) for n in range(12)]
    living, past = Sampler(search, cell, 0, warm), []
    for number in range(15):
        suggestion = living.ask()
        assert suggestion is not None
        past.append(Past(suggestion, "finished", living.tell(number, suggestion.settings["learning_rate"]).value))
    again = Sampler(search, cell, 0, warm)
    again.replay(reversed(past))
    following = living.ask()
    assert again.ask() == following
    cold = Sampler(search, cell, 0)
    cold.replay(past)
    assert cold.ask() != following
    assert isinstance(following, Suggestion)
