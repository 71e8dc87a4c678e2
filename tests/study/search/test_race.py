"""Seeds where they are needed: undecided pairs get more, decided ones none, and looking often is paid for."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hssl_ray.cli.questions import question_of
from hssl_ray.cli.readers import join
from hssl_ray.report.compare import compare
from hssl_ray.study.attempt import Ending
from hssl_ray.study.engine import TrialOptions
from hssl_ray.study.file.sections import Race, Resources
from hssl_ray.study.forecast import forecast
from hssl_ray.study.layout import trial_folder
from hssl_ray.study.ledger import read_history
from hssl_ray.study.results import results_table
from hssl_ray.study.run import run_study
from hssl_ray.study.search.looks import look_confidence
from hssl_ray.study.spec import Study
from hssl_ray.study.statistics import paired_difference
from hssl_ray.study.sweep import Assignment, Sweep
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.journal import JOURNAL, Journal, Record
from tests.study.test_sweep import FINISHED, LoopEngine

METRIC = "probe/ridge_top1"
RACE = {"start": 3, "step": 3, "at_most": 12}
LOOKS = Race.model_validate(RACE)


def raced(name: str = "raced", temperatures: tuple[float, ...] = (0.1, 0.2, 0.3), **changes: Any) -> Study:
    return Study.model_validate(
        {
            "study": name,
            "base": {"epochs": 1, "warmup_epochs": 0},
            "grid": {"method": ["a_ssl", "h_ssl", "frozen"], "temperature": list(temperatures)},
            "seeds": RACE,
            "compare": {"metric": METRIC, "margin": 0.02},
            **changes,
        }
    )


def accuracy(config: TrialConfig) -> float:
    """H-SSL equals A-SSL at temperature 0.1 and is 10 points below at 0.2; at 0.3 seeds drown 2 points."""
    draw = random.Random(f"{config.method} {config.temperature} {config.seed}")
    gap, spread = {0.1: (0.0, 0.001), 0.2: (0.1, 0.001), 0.3: (0.02, 0.03)}[config.temperature]
    return 0.8 - (gap if config.method == "h_ssl" else 0.0) + draw.gauss(0, spread)


@dataclass
class Scoring(LoopEngine):
    """Ends each trial with its accuracy, after `left` of them with an error of the engine."""

    left: int = 1_000_000

    def run(self, sweep: Sweep, resources: Resources, options: TrialOptions) -> None:
        while isinstance(assignment := sweep.next(), Assignment):
            one = assignment.trial
            sweep.started(one.trial_id)
            self.left -= 1
            if self.left < 0:
                raise ConnectionError("head is gone")
            self.ran.append((one.trial_id, assignment.attempt))
            ending = self.ending_of(assignment)
            if ending == FINISHED:
                with Journal(trial_folder(options.home, one.trial_id) / JOURNAL) as journal:
                    journal.append(Record(1, {"epoch": 1.0, METRIC: accuracy(one.config)}))
            sweep.ended(one.trial_id, ending)


def run(asked: Study, home: Path, engine: Scoring | None = None) -> Scoring:
    engine = engine or Scoring()
    run_study(asked, home=home, engine=engine)
    return engine


def seeds(home: Path, name: str = "raced") -> dict[tuple[str, float], int]:
    trials = read_history(home, name).trials().values()
    return dict(Counter((t.config.method, t.config.temperature) for t in trials))


def test_seeds_go_where_the_verdict_is_undecided(tmp_path: Path) -> None:
    """Equal and clearly different pairs stop early, a noisy one runs to the end; what is not compared gets none."""
    run(raced(), tmp_path)
    found = seeds(tmp_path)
    for temperature, expected in ((0.1, 3), (0.2, 3), (0.3, 12)):
        assert found["a_ssl", temperature] == found["h_ssl", temperature] == expected
        assert found["frozen", temperature] == 3


def test_a_race_run_again_does_nothing_and_one_cut_short_ends_alike(tmp_path: Path) -> None:
    """Cut after every seventh trial: the same trials as in one go, none of them twice."""
    whole = run(raced(), tmp_path / "whole")
    assert run(raced(), tmp_path / "whole").ran == []
    ran: list[str] = []
    for _ in range(20):
        engine = Scoring(left=7)
        try:
            run(raced(), tmp_path / "cut", engine)
        except ConnectionError:
            ran += [trial_id for trial_id, _ in engine.ran]
        else:
            ran += [trial_id for trial_id, _ in engine.ran]
            break
    assert sorted(ran) == sorted(trial_id for trial_id, _ in whole.ran)
    assert seeds(tmp_path / "cut") == seeds(tmp_path / "whole")


def test_more_seeds_at_most_go_on_where_the_race_ended(tmp_path: Path) -> None:
    run(raced(temperatures=(0.3,), seeds={"start": 3, "step": 3, "at_most": 6}), tmp_path)
    assert seeds(tmp_path)["h_ssl", 0.3] == 6
    more = run(raced(temperatures=(0.3,)), tmp_path)
    assert len(more.ran) == 12
    assert seeds(tmp_path)["h_ssl", 0.3] == 12


def test_failed_seeds_do_not_hold_a_race_up(tmp_path: Path) -> None:
    """A pair is judged by the seeds that both sides have finished; with fewer than two it goes on."""

    def ending(assignment: Assignment) -> Ending:
        config = assignment.trial.config
        return Ending("diverged", "diverged: nan") if config.method == "h_ssl" and config.seed < 2 else FINISHED

    run(raced(temperatures=(0.1,)), tmp_path, Scoring(ending))
    assert seeds(tmp_path)["h_ssl", 0.1] == 6


def test_the_steps_stand_in_the_ledger(tmp_path: Path) -> None:
    run(raced(), tmp_path)
    steps = [sample for sample in read_history(tmp_path, "raced").samples.values()]
    assert [(step.cell, step.number, step.settings["seeds"]) for step in steps] == [
        ("h_ssl-rotation-temperature=0.3", 6, [3, 4, 5]),
        ("h_ssl-rotation-temperature=0.3", 9, [6, 7, 8]),
        ("h_ssl-rotation-temperature=0.3", 12, [9, 10, 11]),
    ]


def test_the_comparison_says_at_which_level_it_looked(tmp_path: Path) -> None:
    asked = raced()
    run(asked, tmp_path)
    said = compare(results_table(tmp_path, "raced"), question_of(asked))
    answers = {pair.settings["temperature"]: pair.answer for pair in said.pairs}
    for temperature, number, n in ((0.1, 1, 3), (0.2, 1, 3), (0.3, 4, 12)):
        answer = answers[temperature]
        assert answer is not None and answer.look is not None
        assert (answer.look.number, answer.look.of, answer.difference.n) == (number, 4, n)
        assert answer.interval.confidence == look_confidence(LOOKS, n, 0.95) == 1 - answer.look.level
    verdicts = [answer.verdict for answer in answers.values() if answer]
    assert verdicts == ["equivalent", "different", "undecided"]
    note = "look 1 of at most 4, 3 of at most 12 seeds: tested at level 0.0031, its intervals too"
    assert any(note in line for line in said.pairs[0].notes)
    assert '"look": {' in said.to_json()
    plain = compare(results_table(tmp_path, "raced"), question_of(raced(seeds=12)))
    assert all(pair.answer and pair.answer.look is None for pair in plain.pairs)


def test_a_look_under_way_has_no_verdict(tmp_path: Path) -> None:
    noisy = raced("noisy", temperatures=(0.3,))
    with pytest.raises(ConnectionError):
        run(noisy, tmp_path, Scoring(left=12))
    (pair,) = compare(results_table(tmp_path, "noisy"), question_of(noisy)).pairs
    assert pair.answer is not None and pair.answer.verdict == "undecided"
    assert any("have not all ended" in note for note in pair.notes)


def test_added_seeds_are_no_stale_trials(tmp_path: Path) -> None:
    """Also when the file has changed since in what changes no trial."""
    run(raced(), tmp_path)
    other = raced(compare={"metric": METRIC, "margin": 0.03})
    assert join(other, results_table(tmp_path, "raced")).stale == 0
    fewer = raced(seeds={"start": 3, "step": 3, "at_most": 6})
    assert join(fewer, results_table(tmp_path, "raced")).stale == 12


def test_a_plan_shows_the_least_and_the_most() -> None:
    found = forecast(raced())
    assert (found.least_trials, found.trials) == (27, 27 + 2 * 3 * 9)
    cells = {cell.name: cell.trials for cell in found.cells}
    assert cells["frozen-rotation-temperature=0.1"] == 3
    assert cells["h_ssl-rotation-temperature=0.1"] == 12
    assert found.gmac == pytest.approx(sum(cell.gmac for cell in found.cells))
    assert 0 < found.least_gmac < found.gmac
    fixed = forecast(raced(seeds=12))
    assert fixed.least_trials == fixed.trials
    assert fixed.power.provable_margin and found.power.provable_margin
    assert found.power.provable_margin > fixed.power.provable_margin  # what looking often costs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": {"trials": 2, "space": {"width": [1.0, 2.0]}}}, "a race cannot go with a search"),
        ({"grid": {"method": ["h_ssl"]}}, "a race needs cells of a_ssl and h_ssl"),
        ({"seeds": {"start": 5, "at_most": 5}}, "must be above start = 5, got 5"),
        ({"seeds": {"start": 1, "at_most": 5}}, "greater than or equal to 2"),
    ],
)
def test_a_race_that_cannot_be_is_an_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as raised:
        raced(**changes)
    assert message in str(raised.value)


# ---- the levels


@pytest.mark.parametrize("race", [RACE, {"start": 2, "step": 1, "at_most": 20}, {"start": 3, "at_most": 7}])
def test_the_levels_of_all_looks_sum_to_alpha(race: dict[str, int]) -> None:
    one = Race.model_validate(race)
    levels = [1 - look_confidence(one, look, 0.95) for look in one.looks]
    assert math.fsum(levels) == pytest.approx(0.05)
    assert one.looks[0] == one.start and one.looks[-1] == one.at_most


def wrong_verdicts(true_difference: float, wrong: str, *, paid: bool, races: int = 4000) -> float:
    """The share of races of normal values that end with a verdict that the true difference makes wrong."""
    draw = random.Random(1)
    count = 0
    for _ in range(races):
        gaps: list[float] = []
        for look in LOOKS.looks:
            gaps += [draw.gauss(true_difference, 0.02) for _ in range(look - len(gaps))]
            difference = paired_difference([0.0] * look, gaps)
            assert difference is not None
            verdict = difference.verdict(0.02, look_confidence(LOOKS, look, 0.95) if paid else 0.95)
            if verdict != "undecided":
                count += verdict in (wrong, "both")
                break
    return count / races


@pytest.mark.parametrize(("truth", "wrong"), [(0.0, "different"), (0.02, "equivalent")])
def test_a_race_is_wrong_no_more_often_than_its_level(truth: float, wrong: str) -> None:
    """And without the correction it is (negative control). 4,000 races: three standard errors are 0.010."""
    assert wrong_verdicts(truth, wrong, paid=True) <= 0.05 + 0.010
    assert wrong_verdicts(truth, wrong, paid=False) > 0.05 + 0.010
