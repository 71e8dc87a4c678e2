"""Headless Chromium, driven through chromedriver's HTTP interface (W3C WebDriver) with the standard library alone."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal
from urllib.error import HTTPError
from urllib.request import Request, urlopen

PROGRAMS = {"chromium": ("chromium", "chromium-browser", "google-chrome"), "chromedriver": ("chromedriver",)}
START_SECONDS = 120
PATIENCE_SECONDS = 240
OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # all it opens is our own, on this machine
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)


class NoBrowser(Exception):
    """Chromium or its driver is not installed."""


def find(name: str) -> str:
    """The path of one of `PROGRAMS`.

    Raises:
        NoBrowser: it is not installed.
    """
    for program in PROGRAMS[name]:
        if path := shutil.which(program):
            return path
    raise NoBrowser(
        f"{name}: must be installed (Debian: apt-get install chromium chromium-driver), got nothing on PATH"
    )


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Browser:
    """One tab. Sizes are CSS pixels."""

    def __init__(self, session: str) -> None:
        self._session = session

    def open(self, url: str) -> None:
        """Go to an address, also when only what follows its # differs, and wait for the page itself."""
        self._ask("POST", "/url", {"url": "about:blank"})
        self._ask("POST", "/url", {"url": url})

    def run(self, script: str) -> Any:
        """The value of a JavaScript function's body."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": []})

    def wait(self, condition: str, what: str, seconds: float = PATIENCE_SECONDS) -> Any:
        """The value of a JavaScript expression, once it is true.

        Raises:
            TimeoutError: it was not within `seconds`; says what the page shows.
        """
        deadline = time.monotonic() + seconds
        while not (value := self.run(f"return {condition}")):
            if time.monotonic() > deadline:
                shown = self.run("return document.body.innerText").strip()
                raise TimeoutError(f"{what}: not seen within {seconds:g} s; the page shows {shown[:2000]!r}")
            time.sleep(0.25)
        return value

    def text(self) -> str:
        """What the page shows, as text."""
        return str(self.run("return document.body.innerText"))

    def click(self, element: str) -> None:
        """Click in the middle of the element that a JavaScript expression names, as a mouse would."""
        where = self.run(
            f"const found = {element}; found.scrollIntoView({{block: 'center'}});"
            "const box = found.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]"
        )
        x, y = (round(value) for value in where)
        moves = [{"type": "pointerMove", "duration": 0, "x": x, "y": y}]
        moves += [{"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]  # type: ignore[dict-item]
        mouse = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": moves}
        self._ask("POST", "/actions", {"actions": [mouse]})

    def look(
        self,
        width: int,
        height: int,
        *,
        scheme: Literal["light", "dark"] = "light",
        media: Literal["screen", "print"] = "screen",
        density: float = 1.0,
        phone: bool = False,
    ) -> None:
        """Set the viewport, and what pages are told of their surroundings."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": density, "mobile": phone}
        self._devtools("Emulation.setDeviceMetricsOverride", **metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._devtools("Emulation.setEmulatedMedia", media=media, features=features)

    def picture(self, *, height: int | None = None) -> bytes:
        """The viewport as PNG; with `height`, that much of the page from its top."""
        if height is None:
            return base64.b64decode(self._devtools("Page.captureScreenshot", format="png")["data"])
        width, whole = self.run("return [document.documentElement.clientWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": width, "height": min(height, whole), "scale": 1}
        shot = self._devtools("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(shot["data"])

    def pdf(self) -> bytes:
        """The page as it would be printed on A4."""
        paper = {"paperWidth": 8.27, "paperHeight": 11.69}
        return base64.b64decode(self._devtools("Page.printToPDF", printBackground=False, **paper)["data"])

    def _devtools(self, command: str, **parameters: Any) -> Any:
        return self._ask("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def _ask(self, verb: str, path: str, body: dict[str, Any] | None = None) -> Any:
        return ask(verb, self._session + path, body)


def ask(verb: str, url: str, body: dict[str, Any] | None = None) -> Any:
    """One WebDriver command."""
    data = None if body is None else json.dumps(body).encode()
    request = Request(url, data, {"Content-Type": "application/json"}, method=verb)  # noqa: S310 - our own driver
    try:
        with urlopen(request, timeout=2 * PATIENCE_SECONDS) as answer:  # noqa: S310
            return json.load(answer)["value"]
    except HTTPError as error:
        said = json.load(error)["value"]
        raise RuntimeError(f"{verb} {url}: {said['error']}: {said['message']}") from None


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser of one's own, gone with the block.

    Raises:
        NoBrowser: Chromium or chromedriver is not installed.
    """
    chromium, driver = find("chromium"), find("chromedriver")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(  # noqa: S603
        [driver, f"--port={port}", "--silent"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for_driver(process, url)
        wanted = {"goog:chromeOptions": {"binary": chromium, "args": list(OPTIONS)}}
        session = ask("POST", f"{url}/session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
        try:
            ask("POST", f"{url}/session/{session}/timeouts", {"script": 1000 * PATIENCE_SECONDS})
            yield Browser(f"{url}/session/{session}")
        finally:
            ask("DELETE", f"{url}/session/{session}")
    finally:
        process.terminate()
        process.wait(30)


def _wait_for_driver(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            if ask("GET", f"{url}/status")["ready"]:
                return
        except OSError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"chromedriver: must answer within {START_SECONDS} s, got no answer at {url}")
        time.sleep(0.1)
