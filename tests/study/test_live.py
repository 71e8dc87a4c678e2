"""A running study in numbers: what is counted, and that nothing in it grows with the number of trials."""

import pytest

from hssl_ray.study.engine import Summary
from hssl_ray.study.ledger import Outcome
from hssl_ray.study.live import FAMILIES, Live
from hssl_ray.study.spec import PlannedTrial, Study
from hssl_ray.trial.journal import Record
from tests.study.engine_programs import study, trial

LABELS = {family.name: family.labels for family in FAMILIES}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def record(epoch: int, attempt: int = 1, **metrics: float) -> Record:
    return Record(epoch, {"epoch": epoch, **{name.replace("__", "/"): v for name, v in metrics.items()}}, None, attempt)


@pytest.fixture
def opened() -> tuple[Live, Study]:
    live, one = Live(lambda: 7, Clock()), study(seeds=3)
    live.study_opened(one, one.trial_count)
    return live, one


def value(live: Live, name: str, *labels: str) -> float:
    return live.samples()[name, labels]


def test_trials_move_between_states_and_stay_as_many(opened: tuple[Live, Study]) -> None:
    live, one = opened
    first, second, *_ = one.planned()
    live.trial_started(first, 1)
    live.trial_ended(first, Outcome("finished"))
    live.trial_started(second, 1)
    states = {key[1][1]: count for key, count in live.samples().items() if key[0] == "hssl_trials"}
    assert states["finished"] == states["running"] == 1
    assert sum(states.values()) == one.trial_count == value(live, "hssl_study_trials", one.study)


def test_best_follows_the_metric_s_own_sense(opened: tuple[Live, Study]) -> None:
    """More is better of an accuracy, less of a loss; the last value is the last."""
    live, one = opened
    first = next(one.planned())
    live.trial_started(first, 1)
    live.trial_reported(first, record(1, train__loss=1.0, probe__top1=0.9))
    live.trial_reported(first, record(2, train__loss=2.0, probe__top1=0.5))
    method = first.config.method
    assert value(live, "hssl_metric_best", one.study, method, "train/loss") == 1.0
    assert value(live, "hssl_metric_best", one.study, method, "probe/top1") == 0.9
    assert value(live, "hssl_metric_last", one.study, method, "probe/top1") == 0.5


def test_an_epoch_told_twice_counts_once_and_one_trained_twice_counts_twice(opened: tuple[Live, Study]) -> None:
    live, one = opened
    first = next(one.planned())
    live.trial_started(first, 1)
    for told in (record(1), record(1), record(1, attempt=2)):
        live.trial_reported(first, told)
    assert value(live, "hssl_epochs", one.study, first.config.method) == 2


def test_a_restart_names_why_the_last_attempt_ended(opened: tuple[Live, Study]) -> None:
    live, one = opened
    first = next(one.planned())
    live.trial_started(first, 1)
    live.trial_ended(first, Outcome("failed", "worker_lost: SIGKILL"))
    live.trial_started(first, 2)
    assert value(live, "hssl_restarts", one.study, "worker_lost") == 1


def test_silence_is_that_of_the_longest_silent_running_trial() -> None:
    clock = Clock()
    live, one = Live(clock=clock), study(seeds=2)
    live.study_opened(one, 2)
    first, second = one.planned()
    live.trial_started(first, 1)
    clock.now = 5.0
    live.trial_started(second, 1)
    live.trial_reported(second, record(1))
    clock.now = 8.0
    assert value(live, "hssl_silence_seconds", one.study) == 8.0
    live.trial_ended(first, Outcome("finished"))
    assert value(live, "hssl_silence_seconds", one.study) == 3.0
    live.study_closed(Summary())
    assert value(live, "hssl_silence_seconds", one.study) == 0.0


def test_the_number_of_series_does_not_grow_with_trials() -> None:
    """Prometheus keeps every combination of labels for ever."""

    def series(trials: int) -> int:
        live, one = Live(), study(seeds=1)
        live.study_opened(one, trials)
        for seed in range(trials):
            planned: PlannedTrial = trial(seed)
            live.trial_started(planned, 1)
            live.trial_reported(planned, record(1, train__loss=1.0, perf__images_per_second=2.0))
            live.trial_ended(planned, Outcome("failed", "oom: 3 GB"))
            live.trial_started(planned, 2)
            live.trial_ended(planned, Outcome("finished"))
        return len(live.samples())

    assert series(2) == series(50)


def test_every_sample_has_its_family_s_labels(opened: tuple[Live, Study]) -> None:
    live, one = opened
    first = next(one.planned())
    live.trial_started(first, 1)
    live.trial_reported(first, record(1, train__loss=1.0))
    assert all(len(labels) == len(LABELS[name]) for name, labels in live.samples())
    assert value(live, "hssl_outbox_jobs", one.study) == 7
