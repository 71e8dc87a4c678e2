"""The outbox: order, patience, giving up, and that whoever posts notices none of it."""

import logging
import threading
import time
from collections.abc import Callable

import pytest

from hssl_ray.study.tracker.outbox import Fault, Outbox


def outbox(fault: Fault = Fault.AWAY, *, capacity: int = 1000) -> Outbox:
    return Outbox(judge=lambda error: fault, capacity=capacity, attempts=3, first_wait=0.001, longest_wait=0.01)


def assert_(condition: bool) -> None:
    assert condition


def failing(times: int, then: Callable[[], None]) -> Callable[[], None]:
    left = [times]

    def job() -> None:
        if left[0]:
            left[0] -= 1
            raise ConnectionError("gone")
        then()

    return job


def test_jobs_run_in_order_on_another_thread() -> None:
    box, seen = outbox(), []
    for number in range(100):
        box.post("a number", lambda n=number: seen.append((n, threading.current_thread().name)))  # type: ignore[misc]
    assert box.close(5)
    assert seen == [(number, "hssl-outbox") for number in range(100)]


def test_a_service_that_comes_back_loses_nothing_and_keeps_the_order(caplog: pytest.LogCaptureFixture) -> None:
    box, seen = outbox(), list[int]()
    box.post("first", failing(20, lambda: seen.append(1)))
    box.post("second", lambda: seen.append(2))
    with caplog.at_level(logging.WARNING):
        assert box.flush(5)
    assert seen == [1, 2]
    assert len(caplog.records) <= 1, "an outage is logged once, not at every attempt"
    assert box.close(1)


@pytest.mark.parametrize(("fault", "runs"), [(Fault.REFUSED, 1), (Fault.FAILED, 3)])
def test_a_job_that_cannot_succeed_is_given_up_and_counted(fault: Fault, runs: int) -> None:
    box, tries, seen = outbox(fault), list[int](), list[int]()

    def poison() -> None:
        tries.append(1)
        raise ValueError("never")

    box.post("poison", poison)
    box.post("next", lambda: seen.append(1))
    assert not box.flush(5)
    assert (len(tries), seen, box.unsynced) == (runs, [1], 1)
    assert not box.close(1)


def test_posting_never_waits_and_a_full_outbox_counts_what_it_drops() -> None:
    box, gate = outbox(capacity=10), threading.Event()
    box.post("slow", lambda: assert_(gate.wait(5)))
    started = time.perf_counter()
    for _ in range(1000):
        box.post("more", lambda: None)
    assert time.perf_counter() - started < 0.5
    assert box.full and box.unsynced == 1001
    gate.set()
    assert not box.close(5)
    assert box.unsynced == 1001 - 10


def test_close_ends_in_time_during_an_outage_and_tells_what_is_left() -> None:
    box = outbox()
    box.post("first", failing(10**9, lambda: None))
    box.post("second", lambda: None)
    started = time.perf_counter()
    assert not box.close(0.3)
    assert time.perf_counter() - started < 1.0
    assert box.unsynced == 2
    box.post("late", lambda: None)
    assert box.unsynced == 3


def test_close_wakes_a_long_wait_for_one_more_try() -> None:
    box = Outbox(judge=lambda error: Fault.AWAY, first_wait=60, longest_wait=60)
    seen = list[int]()
    box.post("first", failing(1, lambda: seen.append(1)))
    assert not box.flush(0.2)
    assert box.close(5)
    assert seen == [1]


def test_what_failed_while_the_service_was_away_is_not_held_against_a_job() -> None:
    """After a long outage the first failure with the service back is the first of its `attempts`, not the last."""
    box_faults = iter([*[Fault.AWAY] * 20, Fault.FAILED, *[Fault.AWAY] * 5])
    seen = list[int]()
    box = Outbox(judge=lambda error: next(box_faults, Fault.AWAY), attempts=2, first_wait=0.001, longest_wait=0.002)
    box.post("late", failing(26, lambda: seen.append(1)))
    assert box.flush(5) and seen == [1]
    assert box.close(1)


def test_drain_waits_for_slow_jobs_and_not_for_a_service_that_is_away() -> None:
    box, seen = outbox(), list[int]()

    def slow() -> None:
        time.sleep(0.1)
        seen.append(len(seen))

    for _ in range(5):
        box.post("slow", slow)
    assert box.drain(0.05) and seen == list(range(5)), "each takes longer than the patience, and gets across"
    box.post("away", failing(10**9, lambda: None))
    time.sleep(0.3)
    started = time.perf_counter()
    assert not box.drain(0.2)
    assert time.perf_counter() - started < 0.15, "it has been away for longer already"
    box.close(0)


def test_drain_tries_a_service_that_may_be_back_at_once() -> None:
    box = Outbox(judge=lambda error: Fault.AWAY, first_wait=60, longest_wait=60)
    seen = list[int]()
    box.post("first", failing(1, lambda: seen.append(1)))
    assert not box.flush(0.3), "it has failed once and waits a minute"
    assert box.drain(0.1) and seen == [1]
    assert box.close(1)


def test_jobs_are_only_kept_until_somebody_begins_or_waits() -> None:
    """Nothing is imported or sent for them while the first trial is brought up."""
    before = threading.active_count()
    waits: tuple[Callable[[Outbox], bool], ...] = (
        lambda box: box.flush(5),
        lambda box: box.drain(5),
        lambda box: box.close(5),
    )
    for wait in waits:
        box, seen = outbox(), list[int]()
        box.post("a job", lambda seen=seen: seen.append(1))  # type: ignore[misc]
        assert threading.active_count() == before and seen == [] and box.unsynced == 1
        assert wait(box) and seen == [1] and box.unsynced == 0
        assert box.close(5)


def test_a_job_is_done_without_anybody_waiting_once_the_outbox_has_begun() -> None:
    box, done = outbox(), threading.Event()
    box.post("a job", done.set)
    assert not done.wait(0.05)
    box.begin()
    box.begin()
    assert done.wait(5) and box.close(5)


def test_a_job_lingers_unless_somebody_waits_for_it() -> None:
    """Whoever posts to an idle outbox is not disturbed for a while; whoever waits does not wait for that."""
    waits: tuple[Callable[[Outbox], bool], ...] = (
        lambda box: box.flush(5),
        lambda box: box.drain(5),
        lambda box: box.close(5),
    )
    for wait in waits:
        for lingers in (False, True):  # the outbox's thread sleeps without a job, or lingers with one
            box, done = Outbox(judge=lambda error: Fault.AWAY, linger=60), threading.Event()
            box.begin()
            box.post("a job", done.set)
            assert not lingers or not done.wait(0.1)
            assert wait(box) and done.is_set()
            assert box.close(5)
    box, done = Outbox(judge=lambda error: Fault.AWAY, linger=0.05), threading.Event()
    box.begin()
    box.post("a job", done.set)
    assert done.wait(5) and box.close(5)
