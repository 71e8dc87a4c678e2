"""A TCP proxy before a web server that answers as badly as it is told to: late, refused, torn off, cut in half."""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from types import TracebackType

MODES = ("slow", "500", "429", "reset", "half")
SLOW_SECONDS = 2.0
ANSWERS = {
    "500": b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 5\r\nConnection: close\r\n\r\nouch\n",
    "429": b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 5\r\nConnection: close\r\n\r\nslow\n",
}


class Proxy:
    """Passes one request a connection on to a port of this machine; `mode` says what becomes of the answer.

    `mode` is "pass", one of MODES, or "mixed": one of MODES or none, by chance, for every third request or so. "half"
    and "slow" reach the server, so what they ask for is done.
    """

    def __init__(self, upstream: int, seed: int) -> None:
        self.mode = "pass"
        self.served: dict[str, int] = dict.fromkeys(("pass", *MODES), 0)
        self._upstream, self._random = upstream, random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.port = 0

    def __enter__(self) -> "Proxy":
        self._thread.start()
        server = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop)
        self._server = server.result(10)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _choose(self) -> str:
        if self.mode != "mixed":
            return self.mode
        return self._random.choice(MODES) if self._random.random() < 0.3 else "pass"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            request = await _request(reader)
            mode = self._choose()
            self.served[mode] += 1
            if mode == "reset":
                raw = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif mode in ANSWERS:
                writer.write(ANSWERS[mode])
            else:
                answer = await self._ask(request)
                if mode == "slow":
                    await asyncio.sleep(SLOW_SECONDS)
                writer.write(answer[: len(answer) - 3] if mode == "half" else answer)
            if mode != "reset":
                await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def _ask(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        return answer


async def _request(reader: asyncio.StreamReader) -> bytes:
    """One request, asking for the connection to be closed after it."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.rstrip().split(b"\r\n")
    fields = {line.split(b":")[0].lower(): line.partition(b":")[2].strip() for line in lines[1:]}
    body = await reader.readexactly(int(fields.get(b"content-length", b"0")))
    kept = [line for line in lines if not line.lower().startswith(b"connection:")]
    return b"\r\n".join([*kept, b"Connection: close", b"", b""]) + body
