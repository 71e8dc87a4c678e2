"""One picture for each Grafana dashboard: its panels, drawn from a real Prometheus that scrapes a real study.

`python docs/screenshots/panels.py [--to FOLDER]` runs a small study on the services of `hssl-ray up`, in a home of its
own, and ends them again: four minutes. Exit code 2 where Prometheus is absent. Grafana itself is not needed: each
panel's own query is asked as Grafana would ask it, over the time of the study.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from make import IMAGES, NotThere, small
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hssl_ray.machine.services import PROMETHEUS, SCRAPE_SECONDS
from hssl_ray.machine.starting import running
from hssl_ray.report.drawing import GRID, INK, METHODS, MUTED, SETTINGS, to_png

ROOT = Path(__file__).parents[2]
BOARDS = sorted((ROOT / "dashboards" / "grafana").glob("*.json"))
COLUMNS = 24  # of Grafana's grid
STEP_SECONDS = 5
LINES = 8  # of a panel; more are not told apart
STUDY = """\
# A study that is long enough to be watched.
study: watched
base:
  dataset: mnist-mini
  train_images: 400
  batch_size: 100
  width: 0.125
  epochs: 24
  warmup_epochs: 1
  optimizer: adamw
  learning_rate: 0.003
grid:
  method: [a_ssl, h_ssl]
seeds: 6
early_stop: {grace_epochs: 2, reduction_factor: 2}
"""


def ask(server: str, path: str, **query: str) -> Any:
    """One call of Prometheus' HTTP interface."""
    url = f"{server}/api/v1/{path}?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - our own server
        return json.load(answer)["data"]


def board_picture(board: Mapping[str, Any], server: str, start: float, end: float) -> bytes:
    """A dashboard over a span of time (seconds since 1970), its panels where Grafana has them."""
    panels = board["panels"]
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    with mpl.rc_context({**SETTINGS, "font.size": 8, "axes.titlesize": 9}):
        figure = Figure(figsize=(12, 0.3 * rows), layout="constrained")
        grid = figure.add_gridspec(rows, COLUMNS)
        for panel in panels:
            place = panel["gridPos"]
            axes = figure.add_subplot(grid[place["y"] : place["y"] + place["h"], place["x"] : place["x"] + place["w"]])
            _draw(axes, panel, server, start, end)
        figure.suptitle(board["title"], x=0.01, ha="left", fontsize=11)
        return small(to_png(figure, dpi=110))


def _draw(axes: Axes, panel: Mapping[str, Any], server: str, start: float, end: float) -> None:
    (target,) = panel["targets"]
    query = (
        target["expr"].replace("$study", ".*").replace("$__rate_interval", f"{4 * SCRAPE_SECONDS}s")
    )  # as Grafana has it
    found = ask(server, "query_range", query=query, start=str(start), end=str(end), step=str(STEP_SECONDS))["result"]
    axes.set_title(panel["title"], color=INK.light)
    for spine in axes.spines.values():
        spine.set_color(GRID.light)
    axes.tick_params(colors=MUTED.light, length=2)
    if not found:
        axes.text(0.5, 0.5, "no data", color=MUTED.light, ha="center", transform=axes.transAxes)
        axes.set_xticks([])
        axes.set_yticks([])
        return
    named = [(_legend(target.get("legendFormat", ""), one["metric"]), one) for one in found[:LINES]]
    if panel["type"] == "timeseries":
        for name, one in named:
            times = [float(at) - start for at, _ in one["values"]]
            values = [float(value) for _, value in one["values"]]
            axes.plot(times, values, linewidth=1.3, label=name, **_style(one["metric"]))
        axes.grid(color=GRID.light, linewidth=0.5)
        axes.legend(frameon=False, fontsize=6, loc="best", handlelength=1.2)
    else:
        last = [float(one["values"][-1][1]) for _, one in named]
        if len(last) == 1:
            axes.text(0.5, 0.4, f"{last[0]:,.4g}", fontsize=18, color=INK.light, ha="center", transform=axes.transAxes)
            axes.set_xticks([])
        else:
            axes.barh(range(len(last)), last, color=METHODS["a_ssl"][0].light, height=0.6)
            axes.set_yticks(range(len(last)), [name for name, _ in named])
            axes.invert_yaxis()
            return
        axes.set_yticks([])


def _legend(form: str, labels: Mapping[str, str]) -> str:
    for name, value in labels.items():
        form = form.replace("{{" + name + "}}", value)
    shown = ", ".join(value for name, value in labels.items() if name != "__name__")
    return shown if form in ("", "__auto") else form


def _style(labels: Mapping[str, str]) -> dict[str, str]:
    """A method has its own colour everywhere."""
    method = labels.get("method")
    return {"color": METHODS[method][0].light} if method in METHODS else {}


@contextmanager
def services(folder: Path) -> Iterator[tuple[dict[str, str], str]]:
    """What `hssl-ray up` starts in a home of its own: a driver's environment, and the address of Prometheus."""
    if shutil.which("prometheus") is None:
        raise NotThere("prometheus: must be installed (Debian: apt-get install prometheus), got nothing on PATH")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "HSSL_"))}
    environment |= {"HSSL_HOME": str(folder), "PYTHONPATH": str(ROOT)}
    try:
        _hssl_ray(environment, "up")
        yield environment, next(one.url for one in running(folder) if one.name == PROMETHEUS)
    finally:
        _hssl_ray(environment, "down")


def _hssl_ray(environment: Mapping[str, str], *arguments: str) -> None:
    command = [sys.executable, "-m", "hssl_ray", *arguments]
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise NotThere(f"{' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a picture of each Grafana dashboard's panels.")
    parser.add_argument("--to", type=Path, default=IMAGES, help="folder of the pictures")
    asked = parser.parse_args()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="panels-", ignore_cleanup_errors=True) as folder,
            services(Path(folder)) as (environment, server),
        ):
            study = Path(folder) / "watched.yaml"
            study.write_text(STUDY)
            start = time.time()
            _hssl_ray(environment, "run", str(study))
            end = time.time()
            for path in BOARDS:
                target = asked.to / f"grafana-{path.stem.removeprefix('hssl-')}.png"
                target.write_bytes(board_picture(json.loads(path.read_text()), server, start, end))
                print(f"{target}: {target.stat().st_size:,} bytes", flush=True)
    except NotThere as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
