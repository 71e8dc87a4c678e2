"""The line from the first rank to the process that watches its trial."""

import multiprocessing
import queue
import threading
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client

import pytest

from hssl_ray.study.ray.record_line import RecordLine, Sender

TEXTS = [f"epoch {n} " + "x" * 5000 for n in range(200)]


def send(sender: Sender) -> None:
    for text in TEXTS:
        sender.put(text)


def received(line: RecordLine) -> list[str]:
    """As the watching process reads once the ranks are gone."""
    found = []
    while not line.empty():
        found.append(line.get(timeout=5.0))
    return found


def test_everything_that_was_sent_arrives_in_order_after_the_sender_has_gone() -> None:
    line = RecordLine("127.0.0.1")
    rank = multiprocessing.get_context("spawn").Process(target=send, args=(line.sender,))
    rank.start()
    rank.join()
    assert rank.exitcode == 0
    assert received(line) == TEXTS


def test_nobody_is_waited_for_who_never_came() -> None:
    line = RecordLine("127.0.0.1")
    assert line.empty()
    with pytest.raises(queue.Empty):
        line.get(timeout=0.01)


def test_a_stranger_is_not_heard() -> None:
    line = RecordLine("127.0.0.1")
    with pytest.raises((AuthenticationError, EOFError, OSError)):
        Client((line.sender.host, line.sender.port), authkey=b"guessed").send_bytes(b"loss 0")
    thread = threading.Thread(target=send, args=(line.sender,))
    thread.start()
    assert [line.get(timeout=5.0) for _ in TEXTS] == TEXTS
    thread.join()
