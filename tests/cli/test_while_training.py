"""What a run needs at its end is got ready from its first trial on, once, and at the end where none ran."""

import threading
from typing import cast

import pytest

from hssl_ray.cli.while_training import WhileTraining
from hssl_ray.study.spec import PlannedTrial

TRIAL = cast(PlannedTrial, None)


def test_it_is_worked_out_once_on_another_thread_and_not_before_a_trial() -> None:
    worked, done = list[str](), threading.Event()

    def work() -> int:
        worked.append(threading.current_thread().name)
        done.set()
        return 7

    aside = WhileTraining(work)
    assert worked == []
    for _ in range(3):
        aside.trial_started(TRIAL, 1)
    assert done.wait(5)
    assert aside.result() == aside.result() == 7
    (name,) = worked
    assert name.startswith("hssl-aside")


def test_without_a_trial_it_is_worked_out_when_it_is_asked_for() -> None:
    assert WhileTraining(lambda: 7).result() == 7


def test_what_goes_wrong_is_told_to_who_asks() -> None:
    aside = WhileTraining(lambda: list[int]()[0])
    aside.trial_started(TRIAL, 1)
    with pytest.raises(IndexError):
        aside.result()
