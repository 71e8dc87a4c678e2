"""The policy, with an engine that is a loop in the test: what is handed out, retried, skipped, shared and told."""

import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from hssl_ray.study.attempt import Ending
from hssl_ray.study.engine import Observers, Summary, TrialOptions
from hssl_ray.study.file.sections import Backoff, Resilience, Resources
from hssl_ray.study.inline_engine import InlineEngine
from hssl_ray.study.layout import trial_folder
from hssl_ray.study.ledger import Ledger, Outcome, read_history
from hssl_ray.study.results import results_table
from hssl_ray.study.run import run_study
from hssl_ray.study.search.early_stop import Asha
from hssl_ray.study.search.sampled import SampledTrials
from hssl_ray.study.search.search import Sampler
from hssl_ray.study.spec import PlannedTrial, Study
from hssl_ray.study.sweep import Assignment, Sweep, Wait
from hssl_ray.trial.journal import JOURNAL, Journal, Record
from tests.study.engine_programs import PROGRAM, study, trial

SILENT = Observers(())
FINISHED = Ending("finished")
LOST = Ending("failed", "worker_lost: gone")


def train_to(home: Path, one: PlannedTrial, epochs: int | None = None, attempt: int = 1) -> list[Record]:
    """The records that a trial's worker would add to its journal."""
    with Journal(trial_folder(home, one.trial_id) / JOURNAL) as journal:
        done = len(journal.records())
        records = [
            Record(epoch, {"epoch": float(epoch), "train/loss": 1 / epoch}, attempt=attempt)
            for epoch in range(done + 1, (epochs or one.config.epochs) + 1)
        ]
        for record in records:
            journal.append(record)
    return records


@dataclass
class LoopEngine:
    """Ends each attempt as `ending_of` says."""

    ending_of: Callable[[Assignment], Ending] = lambda assignment: FINISHED
    ran: list[tuple[str, int]] = field(default_factory=list)

    def run(self, sweep: Sweep, resources: Resources, options: TrialOptions) -> None:
        while isinstance(assignment := sweep.next(), Assignment):
            one = assignment.trial
            self.ran.append((one.trial_id, assignment.attempt))
            sweep.started(one.trial_id)
            ending = self.ending_of(assignment)
            if ending.state == "finished":
                for record in train_to(options.home, one, attempt=assignment.attempt):
                    sweep.reported(one.trial_id, record)
            sweep.ended(one.trial_id, ending)


@dataclass
class Diary:
    """An observer that writes everything down."""

    events: list[tuple[Any, ...]] = field(default_factory=list)

    def study_opened(self, study: Study, planned_count: int) -> None:
        self.events.append(("opened", study.study, planned_count))

    def replay(self, planned: PlannedTrial, records: Iterable[Record], outcome: Outcome | None) -> None:
        epochs = [record.epoch for record in records]
        self.events.append(("replay", planned.trial_id, epochs, None if outcome is None else outcome.state))

    def trial_started(self, planned: PlannedTrial, attempt: int) -> None:
        self.events.append(("started", planned.trial_id, attempt))

    def trial_reported(self, planned: PlannedTrial, record: Record) -> None:
        self.events.append(("reported", planned.trial_id, record.epoch))

    def trial_ended(self, planned: PlannedTrial, outcome: Outcome) -> None:
        self.events.append(("ended", planned.trial_id, outcome.state))

    def study_closed(self, summary: Summary) -> None:
        self.events.append(("closed", dict(summary.counts)))

    def of(self, kind: str) -> list[tuple[Any, ...]]:
        return [event[1:] for event in self.events if event[0] == kind]


def run(asked: Study, home: Path, engine: LoopEngine, *observers: Any) -> dict[str, int]:
    return run_study(asked, home=home, engine=engine, observers=observers).counts


def test_a_study_run_again_does_nothing(tmp_path: Path) -> None:
    first, second = LoopEngine(), LoopEngine()
    assert run(study(seeds=3), tmp_path, first) == {"finished": 3}
    assert first.ran == [(trial(seed).trial_id, 1) for seed in range(3)]
    assert run(study(seeds=3), tmp_path, second) == {"finished": 3}
    assert second.ran == []


def test_a_study_with_more_seeds_runs_the_new_ones(tmp_path: Path) -> None:
    run(study(seeds=1), tmp_path, LoopEngine())
    engine = LoopEngine()
    assert run(study(seeds=2), tmp_path, engine) == {"finished": 2}
    assert engine.ran == [(trial(1).trial_id, 1)]


@pytest.mark.parametrize("cause", ["worker_lost", "node_lost", "preempted", "hung", "damaged_checkpoint"])
def test_a_lost_machine_is_retried_so_often_and_no_more(tmp_path: Path, cause: str) -> None:
    """max_retries is 2: three attempts in one run. The next run is a new chance."""
    engine = LoopEngine(lambda assignment: Ending("failed", f"{cause}: gone"))
    summary = run_study(study(), home=tmp_path, engine=engine)
    assert [attempt for _, attempt in engine.ran] == [1, 2, 3]
    assert summary.counts == {"failed": 1}
    assert not summary.ended_well
    again = LoopEngine()
    assert run_study(study(), home=tmp_path, engine=again).ended_well
    assert again.ran == [(trial().trial_id, 4)]


@pytest.mark.parametrize("cause", ["error", "oom", "disk_full"])
def test_what_would_fail_again_is_tried_once_a_run(tmp_path: Path, cause: str) -> None:
    engine = LoopEngine(lambda assignment: Ending("failed", f"{cause}: text"))
    assert run(study(), tmp_path, engine) == {"failed": 1}
    assert len(engine.ran) == 1


def test_a_diverged_trial_is_never_tried_again(tmp_path: Path) -> None:
    """Not in this run, not in the next, not in another study."""
    run(study(), tmp_path, LoopEngine(lambda assignment: Ending("diverged", "diverged: nan")))
    for name in ("fake", "other"):
        engine = LoopEngine()
        assert run(study(name=name), tmp_path, engine) == {"diverged": 1}
        assert engine.ran == []


def test_the_last_retry_counts(tmp_path: Path) -> None:
    engine = LoopEngine(lambda assignment: FINISHED if assignment.attempt == 3 else LOST)
    assert run(study(), tmp_path, engine) == {"finished": 1}


def test_another_study_takes_a_finished_trial_over_and_tells_its_observers(tmp_path: Path) -> None:
    shared, own = trial(0), trial(1)
    run(study(seeds=1), tmp_path, LoopEngine())
    engine, diary = LoopEngine(), Diary()
    assert run(study(seeds=2, name="other"), tmp_path, engine, diary) == {"finished": 2}
    assert engine.ran == [(own.trial_id, 1)]
    assert ("started", shared.trial_id, 1) in diary.events
    assert [epoch for trial_id, epoch in diary.of("reported") if trial_id == shared.trial_id] == [1, 2, 3]
    assert ("ended", shared.trial_id, "finished") in diary.events


def test_observers_hear_every_epoch_once_an_attempt(tmp_path: Path) -> None:
    """Also those whose report was lost with the worker: the journal has them."""
    one, diary = trial(epochs=4), Diary()
    with Ledger.open(tmp_path, "s") as ledger:
        sweep = Sweep(
            [one], ledger, Observers([diary]), resilience=Resilience(max_retries=1, backoff=Backoff(first_seconds=0))
        )
        sweep.next()
        sweep.started(one.trial_id)
        records = train_to(tmp_path, one, epochs=3)
        sweep.reported(one.trial_id, records[0])
        assert diary.of("reported") == [(one.trial_id, 1)]
        sweep.ended(one.trial_id, LOST)
        assert diary.of("reported") == [(one.trial_id, epoch) for epoch in (1, 2, 3)]
        assert sweep.next() == Assignment(one, 2)


def test_an_observer_that_raises_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Diary):
        def trial_started(self, planned: PlannedTrial, attempt: int) -> None:
            raise RuntimeError("tracking server is gone")

        def trial_ended(self, planned: PlannedTrial, outcome: Outcome) -> None:
            raise KeyError("run")

    healthy = Diary()
    assert run(study(seeds=2), tmp_path, LoopEngine(), Broken(), healthy) == {"finished": 2}
    assert len(healthy.of("ended")) == 2
    assert "tracking server is gone" in caplog.text


def test_a_trial_that_returns_early_is_not_finished(tmp_path: Path) -> None:
    """A trial without its last epoch has no result; counting it as finished would put holes into the comparison."""
    one = trial(epochs=3)
    with Ledger.open(tmp_path, "s") as ledger:
        sweep = Sweep([one], ledger, SILENT)
        sweep.next()
        sweep.started(one.trial_id)
        train_to(tmp_path, one, epochs=2)
        sweep.ended(one.trial_id, FINISHED)
        assert ledger.history.outcomes[one.trial_id].reason == "error: training returned after epoch 2 of 3"


def test_an_outcome_holds_the_last_value_of_every_metric(tmp_path: Path) -> None:
    run(study(), tmp_path, LoopEngine())
    metrics = read_history(tmp_path, "fake").outcomes[trial().trial_id].metrics
    assert metrics == {"epoch": 3.0, "train/loss": 1 / 3}


def test_next_waits_for_what_runs_and_ends_when_nothing_does(tmp_path: Path) -> None:
    one = trial()
    with Ledger.open(tmp_path, "s") as ledger:
        sweep = Sweep([one], ledger, SILENT)
        assert sweep.next() == Assignment(one, 1)
        assert sweep.next() == Wait()  # handed out: it may come back for a retry
        sweep.started(one.trial_id)
        assert sweep.next() == Wait()
        train_to(tmp_path, one)
        sweep.ended(one.trial_id, FINISHED)
        assert sweep.next() is None


def test_a_trial_waits_for_its_retry_while_others_go_on(tmp_path: Path) -> None:
    """Backoff of 4 s, doubled, at most 6: the clock is the sweep's."""
    now = 100.0
    policy = Resilience(max_retries=3, backoff=Backoff(first_seconds=4, longest_seconds=6))
    first, second = trial(0), trial(1)
    with Ledger.open(tmp_path, "s") as ledger:
        sweep = Sweep([first, second], ledger, SILENT, resilience=policy, clock=lambda: now)

        def fail(one: PlannedTrial) -> None:
            sweep.started(one.trial_id)
            sweep.ended(one.trial_id, LOST)

        assert sweep.next() == Assignment(first, 1)
        fail(first)
        assert sweep.next() == Assignment(first, 2)  # a first retry after a loss
        fail(first)
        assert sweep.next() == Assignment(second, 1)
        assert sweep.next() == Wait(4.0)
        now = 103.0
        assert sweep.next() == Wait(1.0)
        now = 104.0
        assert sweep.next() == Assignment(first, 3)
        assert sweep.next() == Wait()
        fail(first)
        assert sweep.next() == Wait(6.0)
        sweep.interrupt(15)
        assert sweep.next() is None  # nobody waits for a study that ends


def test_a_trial_that_lost_its_process_goes_before_one_that_has_not_begun(tmp_path: Path) -> None:
    """Engines take one trial more than they run: it makes way, and comes next."""
    first, second, third = trial(0), trial(1), trial(2)
    with Ledger.open(tmp_path, "s") as ledger:
        sweep = Sweep([first, second, third], ledger, SILENT, resilience=Resilience(max_retries=1))
        assert [sweep.next(), sweep.next()] == [Assignment(first, 1), Assignment(second, 1)]
        sweep.started(first.trial_id)
        assert not sweep.make_way(second.trial_id)  # for nobody
        sweep.ended(first.trial_id, LOST)
        assert not sweep.make_way(third.trial_id)  # it was not handed out
        assert sweep.make_way(second.trial_id)
        assert [sweep.next(), sweep.next()] == [Assignment(first, 2), Assignment(second, 1)]


@pytest.mark.parametrize("cause", ["oom", "disk_full", "error"])
def test_a_study_chooses_what_is_tried_again(tmp_path: Path, cause: str) -> None:
    resilience = {"max_retries": 1, "retry_on": [cause], "backoff": {"first_seconds": 0}}
    engine = LoopEngine(lambda assignment: Ending("failed", f"{cause}: text"))
    assert run(study(resilience=resilience), tmp_path, engine) == {"failed": 1}
    assert len(engine.ran) == 2
    other = LoopEngine(lambda assignment: Ending("failed", "worker_lost: text"))
    assert run(study(seeds=[1], resilience=resilience), tmp_path, other) == {"failed": 1}
    assert len(other.ran) == 1


def test_a_signal_ends_a_wait_for_a_retry(tmp_path: Path) -> None:
    """The inline engine has nothing to do meanwhile, and sleeps."""
    resilience = {"retry_on": ["error"], "backoff": {"first_seconds": 300, "longest_seconds": 300}}
    before = time.monotonic()
    timer = Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    asked = study(temperatures=[0.5], resilience=resilience)
    summary = run_study(asked, home=tmp_path, engine=InlineEngine(PROGRAM))
    assert summary.interrupted == signal.SIGTERM and summary.counts == {"failed": 1}
    assert time.monotonic() - before < 30


def rungs(grace: int = 1, epochs: int = 9) -> dict[str, Asha]:
    return {trial().cell: Asha(grace, 2, epochs, "train/loss", "minimize")}


def test_a_weak_trial_is_stopped_at_a_rung(tmp_path: Path) -> None:
    """The second trial is worse than the first at epoch 1: it stops there. The first one goes on."""
    with Ledger.open(tmp_path, "s") as ledger:
        sweep = Sweep([trial(0), trial(1)], ledger, SILENT, early_stop=rungs())
        for seed, decision in ((0, "continue"), (1, "stop")):
            sweep.next()
            sweep.started(trial(seed).trial_id)
            assert sweep.reported(trial(seed).trial_id, Record(1, {"train/loss": float(seed)})) == decision


def test_the_last_epoch_is_never_stopped(tmp_path: Path) -> None:
    """A trial at its end is finished, whatever the ranking says."""
    stop = rungs(grace=3)
    stop[trial().cell].record("better", 3, 0.0)
    with Ledger.open(tmp_path, "s") as ledger:
        sweep = Sweep([trial(epochs=3)], ledger, SILENT, early_stop=stop)
        sweep.next()
        sweep.started(trial(epochs=3).trial_id)
        assert sweep.reported(trial(epochs=3).trial_id, Record(3, {"train/loss": 9.0})) == "continue"


def test_a_restart_forgets_no_rung(tmp_path: Path) -> None:
    """A trial of the second run is ranked against those that the first run trained."""
    early_stop = {"grace_epochs": 1, "reduction_factor": 2, "metric": "train/loss", "goal": "minimize"}
    run(study(seeds=1, epochs=9, early_stop=early_stop), tmp_path, LoopEngine())
    decisions = []

    class OneEpoch(LoopEngine):
        def run(self, sweep: Sweep, resources: Resources, options: TrialOptions) -> None:
            assignment = sweep.next()
            assert isinstance(assignment, Assignment)
            trial_id = assignment.trial.trial_id
            sweep.started(trial_id)
            decisions.append(sweep.reported(trial_id, Record(1, {"train/loss": 99.0})))
            sweep.ended(trial_id, Ending("pruned", "pruned: stopped early"))

    counts = run(study(seeds=2, epochs=9, early_stop=early_stop), tmp_path, OneEpoch())
    assert decisions == ["stop"]
    assert counts == {"finished": 1, "pruned": 1}
    engine = LoopEngine()
    run(study(seeds=2, epochs=9, early_stop=early_stop), tmp_path, engine)
    assert engine.ran == []


@pytest.mark.parametrize(("loss", "epochs", "stopped"), [(99.0, 1, True), (0.001, 1, False), (99.0, 3, False)])
def test_a_decision_that_died_with_the_driver_is_taken_by_the_next(
    tmp_path: Path, loss: float, epochs: int, stopped: bool
) -> None:
    """The journal holds the report at a rung, and no end. A trial that trained on has been let through."""
    early_stop = {"grace_epochs": 1, "reduction_factor": 2, "metric": "train/loss", "goal": "minimize"}
    asked = study(seeds=2, epochs=9, early_stop=early_stop)
    run(study(seeds=1, epochs=9, early_stop=early_stop), tmp_path, LoopEngine())
    cut = trial(1, epochs=9)
    with Ledger.open(tmp_path, "fake") as ledger:
        ledger.started(cut, 1)
    with Journal(trial_folder(tmp_path, cut.trial_id) / JOURNAL) as journal:
        for epoch in range(1, epochs + 1):
            journal.append(Record(epoch, {"epoch": float(epoch), "train/loss": loss}))
    engine, diary = LoopEngine(), Diary()
    counts = run(asked, tmp_path, engine, diary)
    assert engine.ran == ([] if stopped else [(cut.trial_id, 2)])
    assert counts == ({"finished": 1, "pruned": 1} if stopped else {"finished": 2})
    assert diary.of("ended") == [(cut.trial_id, "pruned" if stopped else "finished")]


def test_a_pruned_trial_is_wanted_whole_without_early_stop(tmp_path: Path) -> None:
    one = trial()
    with Ledger.open(tmp_path, "s") as ledger:
        ledger.ended(one.trial_id, Outcome("pruned", "pruned: stopped early"))
        assert Sweep([one], ledger, SILENT, early_stop=rungs()).next() is None
        assert Sweep([one], ledger, SILENT).next() == Assignment(one, 1)


def test_observers_hear_at_the_start_of_what_earlier_runs_did(tmp_path: Path) -> None:
    """Also of a trial whose end the earlier driver did not live to pass on."""
    run(study(seeds=1), tmp_path, LoopEngine())
    train_to(tmp_path, trial(1), epochs=2)
    with Ledger.open(tmp_path, "fake") as ledger:
        ledger.started(trial(1), 1)
    diary = Diary()
    run(study(seeds=3), tmp_path, LoopEngine(), diary)
    assert diary.of("replay") == [(trial(0).trial_id, [1, 2, 3], "finished"), (trial(1).trial_id, [1, 2], None)]
    assert [event[0] for event in diary.events[:3]] == ["opened", "replay", "replay"]


def test_a_failing_engine_leaves_its_trials_resumable(tmp_path: Path) -> None:
    def crash(assignment: Assignment) -> Ending:
        raise ConnectionError("head is gone")

    diary = Diary()
    with pytest.raises(ConnectionError):
        run(study(seeds=2), tmp_path, LoopEngine(crash), diary)
    assert diary.of("ended") == [(trial(0).trial_id, "killed")]
    assert diary.of("closed") == [({"killed": 1, "planned": 1},)]
    engine = LoopEngine()
    run(study(seeds=2), tmp_path, engine)
    assert engine.ran == [(trial(0).trial_id, 2), (trial(1).trial_id, 1)]


SEARCH = {
    "sampler": "random",
    "trials": 3,
    "metric": "train/loss",
    "goal": "minimize",
    "space": {"learning_rate": {"low": 0.01, "high": 0.1}},
}


def searched(**changes: Any) -> Study:
    return study(seeds=2, epochs=1, search={**SEARCH, **changes})


def test_every_suggestion_runs_with_every_seed(tmp_path: Path) -> None:
    engine = LoopEngine()
    assert run(searched(), tmp_path, engine) == {"finished": 6}
    table = results_table(tmp_path, "fake")
    assert len(set(table["learning_rate"].to_pylist())) == 3
    assert table["seed"].to_pylist() == [0, 1] * 3


def test_a_search_run_again_does_nothing_and_a_longer_one_goes_on(tmp_path: Path) -> None:
    """Suggestions are remembered, so a study cut short makes the same ones as one that was not."""
    engine = LoopEngine()
    run(searched(trials=2), tmp_path / "cut", engine)
    run(searched(trials=2), tmp_path / "cut", engine)
    assert len(engine.ran) == 4
    run(searched(trials=3), tmp_path / "cut", engine)
    whole = LoopEngine()
    run(searched(trials=3), tmp_path / "whole", whole)
    assert engine.ran == whole.ran


def test_a_search_with_another_space_starts_anew(tmp_path: Path) -> None:
    run(searched(), tmp_path, LoopEngine())
    engine = LoopEngine()
    counts = run(searched(space={"learning_rate": [0.2, 0.3]}, trials=2), tmp_path, engine)
    assert counts == {"finished": 4}
    assert set(results_table(tmp_path, "fake")["learning_rate"].to_pylist()) == {0.2, 0.3}


def test_more_seeds_replicate_the_suggestions_that_were_made(tmp_path: Path) -> None:
    run(searched(), tmp_path, LoopEngine())
    engine = LoopEngine()
    more = study(seeds=3, epochs=1, search=SEARCH)
    assert run(more, tmp_path, engine) == {"finished": 9}
    assert len(engine.ran) == 3
    assert len(set(results_table(tmp_path, "fake")["learning_rate"].to_pylist())) == 3


def test_a_suggestion_interrupted_half_way_is_finished_first(tmp_path: Path) -> None:
    class First(LoopEngine):
        def run(self, sweep: Sweep, resources: Resources, options: TrialOptions) -> None:
            assignment = sweep.next()
            assert isinstance(assignment, Assignment)
            self.ran.append((assignment.trial.trial_id, assignment.attempt))
            sweep.started(assignment.trial.trial_id)

    cut, rest, whole = First(), LoopEngine(), LoopEngine()
    run(searched(), tmp_path / "cut", cut)
    run(searched(), tmp_path / "cut", rest)
    run(searched(), tmp_path / "whole", whole)
    assert [trial_id for trial_id, _ in rest.ran] == [trial_id for trial_id, _ in whole.ran]
    assert rest.ran[0] == (cut.ran[0][0], 2)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (Outcome("finished", metrics={"train/loss": 0.4}), (0.3, "finished")),
        (Outcome("pruned", "pruned: early", {"train/loss": 0.4}), (0.3, "pruned")),
        (Outcome("diverged", "diverged: nan", {"train/loss": 0.4}), (None, "failed")),
        (Outcome("finished"), (None, "failed")),
    ],
)
def test_a_suggestion_is_worth_the_mean_of_its_seeds(
    tmp_path: Path, seconds: Outcome, expected: tuple[float | None, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And has no value if one of them has none: the mean over the survivors would flatter it."""
    told: list[Any] = []

    def tell(self: Sampler, number: int, value: float | None, state: str = "finished") -> None:
        told.append((number, None if value is None else round(value, 9), state))

    monkeypatch.setattr(Sampler, "tell", tell)
    with Ledger.open(tmp_path, "fake") as ledger:
        search = SampledTrials(searched(), ledger)
        first, second = search.ask() or ()
        search.tell(second.trial_id, seconds)
        assert told == []
        search.tell(first.trial_id, Outcome("finished", metrics={"train/loss": 0.2}))
        assert told == [(0, *expected)]


def test_a_suggestion_cut_short_by_another_trial_is_told_what_its_retry_reaches(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, "fake") as ledger:
        search = SampledTrials(searched(), ledger)
        first, second = search.ask() or ()
        search.tell(first.trial_id, Outcome("killed", "interrupted: a neighbour took the memory"))
        search.tell(second.trial_id, Outcome("finished", metrics={"train/loss": 0.4}))
        search.tell(first.trial_id, Outcome("finished", metrics={"train/loss": 0.2}))
        search.close()
        (sampler,) = search._samplers
        assert sampler._past[0].value == pytest.approx(0.3)


def test_a_trial_cut_short_by_another_one_is_handed_out_again_and_keeps_its_retries(tmp_path: Path) -> None:
    one = trial()
    with Ledger.open(tmp_path, "s") as ledger:
        sweep = Sweep([one], ledger, SILENT, resilience=Resilience(max_retries=0))
        for attempt in (1, 2, 3):
            assert sweep.next() == Assignment(one, attempt)
            sweep.started(one.trial_id)
            sweep.set_back(one.trial_id, "a neighbour took the memory")
            assert ledger.history.outcomes[one.trial_id].state == "killed"
        assert sweep.next() == Assignment(one, 4)


def test_what_was_handed_out_and_never_started_can_be_taken_back(tmp_path: Path) -> None:
    trials = [trial(0), trial(1), trial(2)]
    with Ledger.open(tmp_path, "s") as ledger:
        sweep = Sweep(trials, ledger, SILENT)
        first, second = sweep.next(), sweep.next()
        sweep.take_back()
        assert [sweep.next() for _ in range(3)] == [first, second, Assignment(trials[2], 1)]


def test_no_engine_starts_when_nothing_is_left(tmp_path: Path) -> None:
    """A finished study run again costs no cluster; one with a trial left starts its engine (negative control)."""
    one = study(seeds=2)
    first = LoopEngine()
    run_study(one, home=tmp_path, engine=first)
    assert len(first.ran) == 2

    class Refuses:
        def run(self, sweep: Sweep, resources: Resources, options: TrialOptions) -> None:
            raise AssertionError("started")

    summary = run_study(one, home=tmp_path, engine=Refuses())
    assert summary.counts == {"finished": 2}
    with pytest.raises(AssertionError, match="started"):
        run_study(study(seeds=3), home=tmp_path, engine=Refuses())
