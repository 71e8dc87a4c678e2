"""The policy, with an engine that is a loop in the test: what is handed out, retried, skipped, shared and told."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hssl_ray.study.attempt import Ending
from hssl_ray.study.engine import Resources, Summary, TrialOptions
from hssl_ray.study.layout import trial_folder
from hssl_ray.study.ledger import Ledger, Outcome, Planned
from hssl_ray.study.sweep import Assignment, Sweep, Wait, run_study
from hssl_ray.trial.journal import JOURNAL, Journal, Record
from tests.study.engine_programs import FakeStudy, Trial, trial

FINISHED = Ending("finished")
LOST = Ending("failed", "worker_lost: gone")


def train_to(home: Path, one: Planned, epochs: int | None = None, attempt: int = 1) -> list[Record]:
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

    def study_opened(self, study: Any, planned_count: int) -> None:
        self.events.append(("opened", study.study, planned_count))

    def trial_started(self, planned: Planned, attempt: int) -> None:
        self.events.append(("started", planned.trial_id, attempt))

    def trial_reported(self, planned: Planned, record: Record) -> None:
        self.events.append(("reported", planned.trial_id, record.epoch))

    def trial_ended(self, planned: Planned, outcome: Outcome) -> None:
        self.events.append(("ended", planned.trial_id, outcome.state))

    def study_closed(self, summary: Summary) -> None:
        self.events.append(("closed", dict(summary.counts)))

    def of(self, kind: str) -> list[tuple[Any, ...]]:
        return [event[1:] for event in self.events if event[0] == kind]


def run(trials: Iterable[Trial], home: Path, engine: LoopEngine, *observers: Any, name: str = "fake") -> Summary:
    return run_study(FakeStudy(tuple(trials), name), home=home, engine=engine, observers=observers)  # type: ignore[arg-type]


def test_a_study_run_again_does_nothing(tmp_path: Path) -> None:
    trials = [trial(seed) for seed in range(3)]
    first, second = LoopEngine(), LoopEngine()
    summary = run(trials, tmp_path, first)
    assert first.ran == [(one.trial_id, 1) for one in trials]
    assert summary.counts == {"finished": 3}
    assert summary.ended_well
    assert run(trials, tmp_path, second).counts == {"finished": 3}
    assert second.ran == []


def test_a_study_with_more_trials_runs_the_new_ones(tmp_path: Path) -> None:
    run([trial(0)], tmp_path, LoopEngine())
    engine = LoopEngine()
    assert run([trial(0), trial(1)], tmp_path, engine).counts == {"finished": 2}
    assert engine.ran == [(trial(1).trial_id, 1)]


@pytest.mark.parametrize("cause", ["worker_lost", "node_lost", "preempted"])
def test_a_lost_machine_is_retried_so_often_and_no_more(tmp_path: Path, cause: str) -> None:
    """max_retries is 2: three attempts in one run. The next run is a new chance."""
    engine = LoopEngine(lambda assignment: Ending("failed", f"{cause}: gone"))
    summary = run([trial()], tmp_path, engine)
    assert [attempt for _, attempt in engine.ran] == [1, 2, 3]
    assert summary.counts == {"failed": 1}
    assert not summary.ended_well
    again = LoopEngine()
    run([trial()], tmp_path, again)
    assert again.ran == [(trial().trial_id, 4)]


@pytest.mark.parametrize("cause", ["error", "oom", "disk_full"])
def test_what_would_fail_again_is_tried_once_a_run(tmp_path: Path, cause: str) -> None:
    engine = LoopEngine(lambda assignment: Ending("failed", f"{cause}: text"))
    assert run([trial()], tmp_path, engine).counts == {"failed": 1}
    assert len(engine.ran) == 1


def test_a_diverged_trial_is_never_tried_again(tmp_path: Path) -> None:
    """Not in this run, not in the next, not in another study."""
    run([trial()], tmp_path, LoopEngine(lambda assignment: Ending("diverged", "diverged: nan")))
    for name in ("fake", "other"):
        engine = LoopEngine()
        assert run([trial()], tmp_path, engine, name=name).counts == {"diverged": 1}
        assert engine.ran == []


def test_the_last_retry_counts(tmp_path: Path) -> None:
    engine = LoopEngine(lambda assignment: FINISHED if assignment.attempt == 3 else LOST)
    assert run([trial()], tmp_path, engine).counts == {"finished": 1}


def test_another_study_takes_a_finished_trial_over_and_tells_its_observers(tmp_path: Path) -> None:
    shared, own = trial(0), trial(1)
    run([shared], tmp_path, LoopEngine())
    engine, diary = LoopEngine(), Diary()
    assert run([shared, own], tmp_path, engine, diary, name="other").counts == {"finished": 2}
    assert engine.ran == [(own.trial_id, 1)]
    assert ("started", shared.trial_id, 1) in diary.events
    assert [epoch for trial_id, epoch in diary.of("reported") if trial_id == shared.trial_id] == [1, 2, 3]
    assert ("ended", shared.trial_id, "finished") in diary.events


def test_observers_hear_every_epoch_once_an_attempt(tmp_path: Path) -> None:
    """Also those whose report was lost with the worker: the journal has them."""
    one, diary = trial(epochs=4), Diary()
    with Ledger.open(tmp_path, "s") as ledger:
        sweep = Sweep([one], ledger, [diary], max_retries=1)
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
        def trial_started(self, planned: Planned, attempt: int) -> None:
            raise RuntimeError("tracking server is gone")

        def trial_ended(self, planned: Planned, outcome: Outcome) -> None:
            raise KeyError("run")

    healthy = Diary()
    assert run([trial(0), trial(1)], tmp_path, LoopEngine(), Broken(), healthy).counts == {"finished": 2}
    assert len(healthy.of("ended")) == 2
    assert "tracking server is gone" in caplog.text


def test_a_trial_that_returns_early_is_not_finished(tmp_path: Path) -> None:
    """A trial without its last epoch has no result; counting it as finished would put holes into the comparison."""
    one = trial(epochs=3)
    with Ledger.open(tmp_path, "s") as ledger:
        sweep = Sweep([one], ledger)
        sweep.next()
        sweep.started(one.trial_id)
        train_to(tmp_path, one, epochs=2)
        sweep.ended(one.trial_id, FINISHED)
        assert ledger.history.outcomes[one.trial_id].reason == "error: training returned after epoch 2 of 3"


def test_an_outcome_holds_the_last_value_of_every_metric(tmp_path: Path) -> None:
    run([trial(epochs=3)], tmp_path, LoopEngine())
    with Ledger.open(tmp_path, "fake") as ledger:
        assert ledger.history.outcomes[trial(epochs=3).trial_id].metrics == {"epoch": 3.0, "train/loss": 1 / 3}


def test_next_waits_for_what_runs_and_ends_when_nothing_does(tmp_path: Path) -> None:
    one = trial()
    with Ledger.open(tmp_path, "s") as ledger:
        sweep = Sweep([one], ledger)
        assert sweep.next() == Assignment(one, 1)
        assert sweep.next() == Wait()  # handed out: it may come back for a retry
        sweep.started(one.trial_id)
        assert sweep.next() == Wait()
        train_to(tmp_path, one)
        sweep.ended(one.trial_id, FINISHED)
        assert sweep.next() is None


@dataclass
class StopAt:
    """Stops every trial at an epoch, and remembers what it was told."""

    epoch: int
    metric: str = "train/loss"
    told: list[tuple[str, int]] = field(default_factory=list)

    def decide(self, trial_id: str, epoch: int, value: float) -> bool:
        self.told.append((trial_id, epoch))
        return epoch >= self.epoch


def test_early_stop_is_asked_each_epoch_and_never_takes_the_last_one(tmp_path: Path) -> None:
    one = trial(epochs=3)
    for epoch, decisions in ((2, ["continue", "stop"]), (3, ["continue", "continue", "continue"])):
        with Ledger.open(tmp_path, f"s{epoch}") as ledger:
            sweep = Sweep([one], ledger, early_stop=StopAt(epoch))
            sweep.next()
            sweep.started(one.trial_id)
            records = [Record(n, {"train/loss": 1 / n}) for n in range(1, len(decisions) + 1)]
            assert [sweep.reported(one.trial_id, record) for record in records] == decisions


def test_a_restart_fills_the_rungs_from_all_journals_in_order_of_time(tmp_path: Path) -> None:
    first, second = trial(0), trial(1)
    train_to(tmp_path, first, epochs=1)
    train_to(tmp_path, second, epochs=1)
    train_to(tmp_path, first, epochs=2)
    stop = StopAt(9)
    with Ledger.open(tmp_path, "s") as ledger:
        Sweep([second, first], ledger, early_stop=stop)
    assert stop.told == [(first.trial_id, 1), (second.trial_id, 1), (first.trial_id, 2)]


def test_a_pruned_trial_stays_pruned_while_the_study_stops_early(tmp_path: Path) -> None:
    """Without early stop the trial is wanted whole."""
    one = trial()
    with Ledger.open(tmp_path, "s") as ledger:
        ledger.ended(one.trial_id, Outcome("pruned", "pruned: stopped early"))
        assert Sweep([one], ledger, early_stop=StopAt(9)).next() is None
        assert Sweep([one], ledger).next() == Assignment(one, 1)


def test_a_failing_engine_leaves_its_trials_resumable(tmp_path: Path) -> None:
    def crash(assignment: Assignment) -> Ending:
        raise ConnectionError("head is gone")

    diary = Diary()
    with pytest.raises(ConnectionError):
        run([trial(0), trial(1)], tmp_path, LoopEngine(crash), diary)
    assert diary.of("ended") == [(trial(0).trial_id, "killed")]
    assert diary.of("closed") == [({"killed": 1, "planned": 1},)]
    engine = LoopEngine()
    run([trial(0), trial(1)], tmp_path, engine)
    assert engine.ran == [(trial(0).trial_id, 2), (trial(1).trial_id, 1)]


@dataclass
class OneByOne:
    """A search that suggests the next trial when the last one has ended."""

    left: list[tuple[Trial, ...]]
    open: set[str] = field(default_factory=set)
    told: list[tuple[str, str]] = field(default_factory=list)

    def ask(self) -> tuple[Trial, ...] | Wait | None:
        if self.open:
            return Wait()
        if not self.left:
            return None
        trials = self.left.pop(0)
        self.open |= {one.trial_id for one in trials}
        return trials

    def tell(self, trial_id: str, outcome: Outcome) -> None:
        self.told.append((trial_id, outcome.state))
        self.open.discard(trial_id)


def test_a_search_is_asked_when_its_suggestion_has_ended(tmp_path: Path) -> None:
    """Its trials come after the planned ones, in replicates; one that is already finished answers at once."""
    planned, first, second = trial(0), (trial(1), trial(2)), (trial(1), trial(3))
    search = OneByOne([first, second])
    engine = LoopEngine()
    with Ledger.open(tmp_path, "s") as ledger:
        sweep = Sweep([planned], ledger, search=search)
        engine.run(sweep, FakeStudy(()).resources, TrialOptions(tmp_path))
        assert sweep.counts() == {"finished": 4}
    assert [trial_id for trial_id, _ in engine.ran] == [trial(seed).trial_id for seed in (0, 1, 2, 3)]
    assert len(search.told) == 5
