"""A line from the first rank of a trial to the process that watches the trial, for the records of its epochs.

Ray's own queue is a process more, which imports Ray for a second while the ranks start.
"""

from __future__ import annotations

import queue
import secrets
import threading
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener

LAST_WORDS = 5.0
"""Seconds that what was sent may take to arrive when the sender is gone."""


def _family(host: str) -> str:
    return "AF_INET6" if ":" in host else "AF_INET"


@dataclass
class Sender:
    """The first rank's end; made by a `RecordLine` and sent to that rank."""

    host: str
    port: int
    key: bytes
    """Who does not know it is not heard."""
    _connection: Connection | None = None

    def put(self, text: str) -> None:
        """Send a text; it is on its way when this returns.

        Raises:
            OSError: nobody listens any more.
        """
        if self._connection is None:
            self._connection = Client((self.host, self.port), _family(self.host), authkey=self.key)
        self._connection.send_bytes(text.encode())


class RecordLine:
    """The watching process's end; it hears one sender, who may come late or never.

    Args:
        host: the address of this machine that ranks can reach.
    """

    def __init__(self, host: str) -> None:
        key = secrets.token_bytes(32)
        self._listener = Listener((host, 0), _family(host), authkey=key)
        self.sender = Sender(host, int(self._listener.address[1]), key)
        self._heard: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._connected = False
        self._thread = threading.Thread(target=self._listen, name="hssl-records", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while not self._connected:
            try:
                connection = self._listener.accept()
            except (AuthenticationError, EOFError, OSError):
                continue  # a stranger
            self._connected = True
        self._listener.close()
        with connection:
            while True:
                try:
                    self._heard.put(connection.recv_bytes().decode())
                except (EOFError, OSError):
                    return  # the rank is gone; how it ended is told otherwise

    def get(self, timeout: float) -> str:
        """The next text.

        Raises:
            queue.Empty: none came within `timeout` seconds.
        """
        return self._heard.get(timeout=timeout)

    def empty(self) -> bool:
        """Once the ranks are gone: whether nothing more will come."""
        if self._connected and self._heard.empty():
            self._thread.join(LAST_WORDS)
        return self._heard.empty()
