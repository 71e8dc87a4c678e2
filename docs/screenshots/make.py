"""Writes docs/images' screenshots: `make screenshots`, or `python docs/screenshots/make.py STUDY [NAME ...]`.

STUDY has run in the home (`hssl-ray run STUDY`). An MLflow server on the home's own store and a headless Chromium are
started on loopback and ended again. Every picture is checked for what it is there to show before it is kept. Exit code
2 where Chromium is absent or the study has not run.

With `--postgresql` MLflow's pictures are taken of a server on a PostgreSQL, both of their own, to which `hssl-ray sync`
has sent the study; they are checked likewise, and kept under names of their own.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal
from urllib.request import urlopen

from browser import Browser, NoBrowser, browser, find, free_port
from PIL import Image
from postgresql import DATABASE, PASSWORD, USER, NoPostgresql, postgresql
from rich.console import Console
from rich.text import Text

from hssl_ray.cli.pages import page_path
from hssl_ray.cli.watch import view, watched
from hssl_ray.data.home import home
from hssl_ray.report.watched import Commands
from hssl_ray.study.file.problems import StudyError
from hssl_ray.study.layout import study_folder, trial_folder
from hssl_ray.study.ledger import LEDGER, read_history
from hssl_ray.study.spec import load_study
from hssl_ray.study.tracker.mlflow_store import MlflowStore
from hssl_ray.study.tracker.shared_view import comparison_link, experiment_link
from hssl_ray.study.tracker.study_writer import CELLS_VIEW, SEEDS_VIEW
from hssl_ray.study.tracker.tracked import tracking_uri
from hssl_ray.trial.journal import JOURNAL, read_records

IMAGES = Path(__file__).parents[1] / "images"
LARGEST = 200_000  # bytes of a picture
START_SECONDS = 180
SOME_TRIALS = 3
UNDER_WAY_SECONDS = 1800
SETTLE_SECONDS = 5.0
"""After what is waited for is there, charts still move for a moment."""


class NotThere(Exception):
    """Something that a picture needs is missing; says what to do."""


@dataclass(frozen=True)
class Scene:
    """What the pictures are of: a finished study, and its experiment on a running MLflow server."""

    path: Path
    study: str
    server: str
    store: MlflowStore
    browser: Browser

    @cached_property
    def experiment(self) -> str:
        found = self.store.experiment_id(self.study)
        if found is None:
            raise NotThere(f"{self.study}: MLflow has no such experiment; run hssl-ray run {self.path} first")
        return found

    @cached_property
    def compared(self) -> tuple[list[str], str]:
        """The run ids of the two cells of the study's first answer, and the name of the second."""
        runs = self.store.runs("tags.`hssl.kind` = 'cell'", self.experiment)
        by_cell = {run.tags["hssl.cell"]: run for run in runs}
        for run in runs:
            baseline = run.tags.get("hssl.verdict.baseline_cell")
            if baseline in by_cell:
                return [by_cell[baseline].run_id, run.run_id], run.name
        raise NotThere(f"{self.study}: no answer in MLflow; run hssl-ray run {self.path} until it has one")


def mlflow_experiment(scene: Scene) -> bytes:
    """The experiment's runs, under its note unfolded: the answer, the links, the verdict table."""
    _mlflow(scene, experiment_link(scene.server, scene.experiment), "verdict at", width=1280, height=1000)
    scene.browser.click(_button("mlflow.experiment.metadata_editor.expand_button"))
    time.sleep(SETTLE_SECONDS)
    return scene.browser.picture()


def mlflow_compare(scene: Scene) -> bytes:
    """Two cell runs side by side, where the compare view opens with what the study compares."""
    ids, second = scene.compared
    _mlflow(scene, comparison_link(scene.server, scene.experiment, ids), second, width=1280, height=1300)
    everything = "[...document.querySelectorAll('button[role=switch][aria-checked=false]')]"
    scene.browser.run(f"{everything}.forEach(one => one.click())")  # "Show diff only"
    scene.browser.wait("document.body.innerText.includes('compared')", "the metric that the study compares")
    time.sleep(SETTLE_SECONDS)
    return scene.browser.picture()


def mlflow_seeds(scene: Scene) -> bytes:
    """Curves by epoch: the mean of each cell over its seeds."""
    return _charts(scene, SEEDS_VIEW.link(scene.server, scene.experiment))


def mlflow_cells(scene: Scene) -> bytes:
    """Curves by epoch of the cells' own runs."""
    return _charts(scene, CELLS_VIEW.link(scene.server, scene.experiment))


def _charts(scene: Scene, url: str) -> bytes:
    _mlflow(scene, url, "matching runs", width=1600, height=1000)
    scene.browser.wait("document.querySelectorAll('.js-plotly-plot .scatterlayer .trace').length > 1", "curves")
    time.sleep(SETTLE_SECONDS)
    return scene.browser.picture()


def _mlflow(scene: Scene, url: str, shows: str, *, width: int, height: int) -> None:
    """Open a page of MLflow's UI without its assistant, once it shows a text."""
    scene.browser.look(width, height)
    scene.browser.open(url)
    scene.browser.wait(f"document.body.innerText.includes({json.dumps(shows)})", shows)
    assistant = _button("mlflow.assistant.chat_panel.close")
    if scene.browser.run(f"return {assistant} !== null"):
        scene.browser.click(assistant)


def _button(component: str) -> str:
    """A button of MLflow's UI (3.17), which marks its parts."""
    return f"document.querySelector('[data-component-id={json.dumps(component)}]')"


def report_page(scene: Scene) -> bytes:
    """The top of the page, as on a desk."""
    return _report(scene, 1100, 1500)


def report_dark(scene: Scene) -> bytes:
    """The same where the system asks for dark."""
    return _report(scene, 1100, 1500, dark=True)


def report_print(scene: Scene) -> bytes:
    """The page on paper, as far as a sheet of A4 goes."""
    return _report(scene, 794, 1123, paper=True)


def report_phone(scene: Scene) -> bytes:
    """The page on a phone, which it never makes scroll sideways."""
    picture = _report(scene, 390, 1500, phone=True)
    width = scene.browser.run("return document.documentElement.scrollWidth")
    assert width == 390, f"the page is {width} pixels wide on a phone"
    return picture


def _report(
    scene: Scene, width: int, height: int, *, dark: bool = False, phone: bool = False, paper: bool = False
) -> bytes:
    page = page_path(home(), scene.study)
    if not page.is_file():
        raise NotThere(f"{page}: no such page; run hssl-ray report {scene.path} first")
    scheme: Literal["light", "dark"] = "dark" if dark else "light"
    scene.browser.look(width, 900, scheme=scheme, media="print" if paper else "screen", phone=phone)
    scene.browser.open(page.as_uri())
    scene.browser.wait("document.querySelector('svg') !== null", "a figure")
    return scene.browser.picture(height=height)


def status_watch(scene: Scene) -> bytes:
    """What `hssl-ray status --watch` shows of the study under way: it runs once more until some trials have ended."""
    with under_way(scene.path) as running:
        return _watched(scene, running)


def _watched(scene: Scene, running: Path) -> bytes:
    console = Console(record=True, width=110, file=io.StringIO())
    console.print(Text(f"$ hssl-ray status {scene.path} --watch", style="bold"))
    commands = Commands(run=f"hssl-ray run {scene.path}", compare=f"hssl-ray compare {scene.path}")
    console.print(view(console, next(watched(load_study(scene.path, large=True), running, commands))))
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "terminal.html")
        page.write_text(console.export_html(inline_styles=True), encoding="utf-8")
        scene.browser.look(1000, 300)
        scene.browser.open(page.as_uri())
        return scene.browser.picture(height=1000)


PICTURES: dict[str, Callable[[Scene], bytes]] = {
    "mlflow-experiment": mlflow_experiment,
    "mlflow-compare": mlflow_compare,
    "mlflow-seeds": mlflow_seeds,
    "mlflow-cells": mlflow_cells,
    "report-page": report_page,
    "report-dark": report_dark,
    "report-phone": report_phone,
    "report-print": report_print,
    "status-watch": status_watch,
}


@contextmanager
def under_way(study: Path) -> Iterator[Path]:
    """The home of a run of the study that has ended some trials, and has others at work that reported an epoch."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        run = [sys.executable, "-m", "hssl_ray", "run", str(study)]
        environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
        process = subprocess.Popen(  # noqa: S603
            run, env=environment | {"HSSL_HOME": folder, "RAY_ADDRESS": ""}, stdout=subprocess.DEVNULL
        )
        try:
            name, deadline = load_study(study, large=True).study, time.monotonic() + UNDER_WAY_SECONDS
            while not _some_ended(place, name):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise NotThere(f"{study}: a run of it should end {SOME_TRIALS} trials; it did not")
                time.sleep(0.2)
            yield place
        finally:
            process.terminate()
            process.wait(60)


def _some_ended(place: Path, study: str) -> bool:
    """Whether `SOME_TRIALS` have ended, and all that run have an epoch to show."""
    if not (study_folder(place, study) / LEDGER).exists():
        return False
    history = read_history(place, study)
    running = history.attempts.keys() - history.outcomes.keys()
    told = [one for one in running if read_records(trial_folder(place, one) / JOURNAL)]
    return len(history.outcomes) >= SOME_TRIALS and len(told) == len(running) > 0


@contextmanager
def mlflow_server(uri: str, *options: str) -> Iterator[str]:
    """MLflow's UI on a store, as `hssl-ray run` says to start it; yields its address."""
    if uri.startswith("http"):
        yield uri
        return
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--host", "127.0.0.1", *options]
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    with tempfile.TemporaryDirectory() as folder, Path(folder, "log").open("w") as log:
        process = subprocess.Popen(  # noqa: S603
            [*command, "--port", str(port), "--workers", "1"],
            stdout=log,
            stderr=log,
            env={**environment, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + START_SECONDS
            while not _answers(f"http://127.0.0.1:{port}/health"):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise NotThere(f"mlflow server: does not answer: {Path(folder, 'log').read_text()[-1000:]}")
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, 15)
                process.wait(30)


@contextmanager
def on_postgresql(study: Path) -> Iterator[str]:
    """MLflow's UI on a PostgreSQL that `hssl-ray sync` has sent a study to; yields its address."""
    with postgresql() as port, tempfile.TemporaryDirectory() as artifacts:
        store = f"postgresql+psycopg2://{USER}:{PASSWORD}@127.0.0.1:{port}/{DATABASE}"
        with mlflow_server(store, "--artifacts-destination", artifacts) as url:
            done = subprocess.run(  # noqa: S603
                [sys.executable, "-m", "hssl_ray", "sync", str(study)],
                env={**os.environ, "MLFLOW_TRACKING_URI": url},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise NotThere(f"sync: {done.stderr.strip() or done.stdout.strip()}")
            yield url


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5):  # noqa: S310 - our own server
            return True
    except OSError:
        return False


def small(picture: bytes) -> bytes:
    """A PNG of few colours, with fewer until it is below `LARGEST`."""
    with Image.open(io.BytesIO(picture)) as image:
        plain = image.convert("RGB")
    for colours in (256, 128, 64, 32, 16):
        out = io.BytesIO()
        plain.quantize(colours, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
        if out.tell() < LARGEST:
            break
    return out.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description="Write docs/images' screenshots.")
    parser.add_argument("study", type=Path, help="a study file that has run in the home")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which; all if none: {', '.join(PICTURES)}")
    parser.add_argument("--to", type=Path, default=IMAGES, help="folder of the pictures")
    parser.add_argument("--postgresql", action="store_true", help="MLflow's pictures, of a server on PostgreSQL")
    asked = parser.parse_intermixed_args()
    possible = [name for name in PICTURES if not asked.postgresql or name.startswith("mlflow-")]
    if unknown := set(asked.names) - set(possible):
        parser.error(f"must be of {', '.join(possible)}, got {', '.join(sorted(unknown))}")
    try:
        find("chromium"), find("chromedriver")
        name = load_study(asked.study, large=True).study
        served = on_postgresql(asked.study) if asked.postgresql else mlflow_server(tracking_uri(home()))
        with served as server, browser() as tab:
            scene = Scene(asked.study, name, server, MlflowStore(server, home()), tab)
            for picture in asked.names or possible:
                content = small(PICTURES[picture](scene))
                target = asked.to / f"{picture}{'-postgresql' if asked.postgresql else ''}.png"
                target.write_bytes(content)
                print(f"{target}: {len(content):,} bytes", flush=True)
    except (NoBrowser, NoPostgresql, NotThere, StudyError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
