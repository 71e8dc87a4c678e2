"""A budget ends a study in order: nothing new starts, what runs ends, the reason stands, and a larger one goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hssl_ray.cli.readers import Reading
from hssl_ray.report.progress import progress
from hssl_ray.study.attempt import Ending
from hssl_ray.study.engine import Observers, Summary, TrialOptions
from hssl_ray.study.file.sections import Budget, Resources
from hssl_ray.study.layout import trial_folder
from hssl_ray.study.ledger import Ledger, Outcome, read_history
from hssl_ray.study.results import results_table
from hssl_ray.study.run import run_study
from hssl_ray.study.search.spending import Spending
from hssl_ray.study.spec import Study
from hssl_ray.study.sweep import Assignment, Sweep, Wait
from hssl_ray.trial.journal import JOURNAL, Journal, Record
from tests.study.engine_programs import study, trial
from tests.study.test_sweep import FINISHED, LOST, LoopEngine, train_to

BROKEN = Ending("failed", "error: broken")
SILENT = Observers(())


def budgeted(seeds: int = 6, name: str = "fake", **budget: Any) -> Study:
    return study(seeds=seeds, epochs=1, name=name, budget=budget)


def run(asked: Study, home: Path, engine: LoopEngine | None = None) -> Summary:
    return run_study(asked, home=home, engine=engine or LoopEngine())


def stopped(home: Path, name: str = "fake") -> Any:
    return read_history(home, name).notes.get("stopped")


def test_trials_are_counted_over_runs_and_a_larger_budget_goes_on(tmp_path: Path) -> None:
    first = run(budgeted(trials=2), tmp_path)
    assert (first.counts, first.stopped) == ({"finished": 2, "planned": 4}, "budget.trials: 2 of 2 have begun")
    assert stopped(tmp_path) == first.stopped
    again = LoopEngine()
    assert run(budgeted(trials=2), tmp_path, again).stopped is not None
    assert again.ran == []
    assert run(budgeted(trials=5), tmp_path).counts == {"finished": 5, "planned": 1}
    last = run(budgeted(trials=6), tmp_path)
    assert (last.counts, last.stopped, stopped(tmp_path)) == ({"finished": 6}, None, None)


def test_a_trial_taken_over_from_another_study_is_free(tmp_path: Path) -> None:
    run(study(seeds=4, epochs=1, name="other"), tmp_path)
    summary = run(budgeted(trials=1), tmp_path)
    assert (summary.counts, summary.stopped) == ({"finished": 5, "planned": 1}, "budget.trials: 1 of 1 have begun")


def test_a_trial_that_began_may_end(tmp_path: Path) -> None:
    """Cut short, it is taken up again by the next run: it has its place in the budget."""

    class Cut(LoopEngine):
        def run(self, sweep: Sweep, resources: Resources, options: TrialOptions) -> None:
            one = sweep.next()
            assert isinstance(one, Assignment)
            sweep.started(one.trial.trial_id)

    run(budgeted(trials=1), tmp_path, Cut())
    engine = LoopEngine()
    assert run(budgeted(trials=1), tmp_path, engine).counts == {"finished": 1, "planned": 5}
    assert engine.ran == [(trial(0, epochs=1).trial_id, 2)]


def test_a_lost_worker_is_retried_within_the_budget(tmp_path: Path) -> None:
    engine = LoopEngine(lambda assignment: LOST if assignment.attempt == 1 else FINISHED)
    assert run(budgeted(trials=1), tmp_path, engine).counts == {"finished": 1, "planned": 5}
    assert len(engine.ran) == 2


def test_failures_end_the_study_at_their_number(tmp_path: Path) -> None:
    """One in two fails: at the second the study stops; diverged counts, what ended well does not."""
    endings = iter([FINISHED, BROKEN, FINISHED, Ending("diverged", "diverged: nan"), FINISHED, FINISHED])
    engine = LoopEngine(lambda assignment: next(endings))
    summary = run(budgeted(failed_trials=2), tmp_path, engine)
    assert summary.counts == {"finished": 2, "failed": 1, "diverged": 1, "planned": 2}
    assert summary.stopped == "budget.failed_trials: 2 have failed or diverged"
    assert run(budgeted(failed_trials=2), tmp_path).counts == summary.counts
    assert run(budgeted(failed_trials=3), tmp_path).counts == {"finished": 5, "diverged": 1}


def test_hours_are_counted_from_the_ledger_over_runs(tmp_path: Path) -> None:
    """Attempts of earlier runs count, killed ones too; a trial of another study does not."""
    with Ledger.open(tmp_path, "fake") as ledger:
        for seed, seconds in ((0, 1000.0), (1, 800.0)):
            ledger.started(trial(seed, epochs=1), 1)
            ledger.ended(trial(seed, epochs=1).trial_id, Outcome("killed", "interrupted: SIGTERM", seconds=seconds))
        ledger.ended(trial(2, epochs=1).trial_id, Outcome("finished", seconds=1e6))
    assert read_history(tmp_path, "fake").seconds == 1800.0
    summary = run(budgeted(hours=0.5), tmp_path)
    assert summary.stopped == "budget.hours: 0.50 of 0.5 are spent"
    assert summary.counts == {"killed": 2, "finished": 1, "planned": 3}
    assert run(budgeted(hours=0.6), tmp_path).ended_well


def test_what_a_killed_driver_trained_is_spent_too(tmp_path: Path) -> None:
    """It left no end in the ledger; the journal says how long it trained. Counted once, however often it dies."""
    one = trial(0, epochs=3)
    with Ledger.open(tmp_path, "fake") as ledger:
        ledger.started(one, 1)
        since = ledger.history.started[one.trial_id]
    with Journal(trial_folder(tmp_path, one.trial_id) / JOURNAL) as journal:
        journal.append(Record(1, {"epoch": 1.0}, attempt=1, time=since + 3000))
    for _ in range(2):
        with Ledger.open(tmp_path, "fake") as ledger:
            spending = Spending(Budget(hours=1), ledger)
            assert ledger.history.seconds == pytest.approx(3000)
            assert spending.refusal(one.trial_id, running_seconds=500) is None
            assert spending.refusal(one.trial_id, running_seconds=601) is not None


def test_running_trials_end_when_the_budget_is_used_up(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, "s") as ledger:
        trials = [trial(seed, epochs=1) for seed in range(3)]
        sweep = Sweep(trials, ledger, SILENT, spending=Spending(Budget(trials=2), ledger))
        for one in trials[:2]:
            assert sweep.next() == Assignment(one, 1)
            sweep.started(one.trial_id)
        assert sweep.next() == Wait()
        for one in trials[:2]:
            train_to(tmp_path, one)
            sweep.ended(one.trial_id, FINISHED)
        assert sweep.next() is None
        assert sweep.counts() == {"finished": 2, "planned": 1}


def test_a_search_stops_suggesting_when_the_budget_is_used_up(tmp_path: Path) -> None:
    """And makes the same suggestions as an unlimited one when it goes on."""
    search = {"sampler": "tpe", "trials": 5, "metric": "train/loss", "goal": "minimize"}
    search["space"] = {"learning_rate": {"low": 0.01, "high": 0.1}}
    for name, budgets in (("whole", [None]), ("cut", [{"trials": 3}, {"trials": 6}, None])):
        for budget in budgets:
            sections: dict[str, Any] = {"search": search, "budget": budget}
            counts = run(study(seeds=2, epochs=1, name=name, **sections), tmp_path / name).counts
            if budget:
                assert counts["finished"] == budget["trials"]
                assert counts.get("planned", 0) <= 1  # the second seed of a suggestion
    made = [
        [sample.settings for sample in read_history(tmp_path / name, name).samples.values()]
        for name in ("whole", "cut")
    ]
    assert made[0] == made[1]


def test_status_says_why(tmp_path: Path) -> None:
    run(budgeted(trials=2), tmp_path)
    table = results_table(tmp_path, "fake")
    reason = stopped(tmp_path)
    assert '"stopped": "budget.trials: 2 of 2 have begun"' in progress(table, "fake", reason).to_json()
    reading = Reading(budgeted(trials=2), table, stale=0, stopped=reason)
    assert reading.notes() == ["stopped by budget.trials: 2 of 2 have begun"]
    assert Reading(budgeted(trials=2), table, stale=0).notes() == []


def test_a_budget_is_no_part_of_a_studys_identity() -> None:
    assert budgeted(trials=2).digest == budgeted(hours=3).digest == study(seeds=6, epochs=1).digest
