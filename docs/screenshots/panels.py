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
import textwrap
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
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
ROW_INCHES, HEAD_INCHES = 0.32, 0.4
UNITS: Mapping[str, Callable[[float], str]] = {
    "short": lambda value: f"{value:,.4g}",
    "percentunit": lambda value: f"{100 * value:.3g} %",
    "percent": lambda value: f"{value:.3g} %",
    "bytes": lambda value: f"{value / 1e9:.4g} GB",
    "s": lambda value: f"{value:.3g} s",
}
"""How Grafana's units are written."""
STUDY = """\
# A study that is long enough to be watched.
study: watched
base:
  dataset: mnist-mini
  train_images: 1000
  batch_size: 100
  width: 0.125
  epochs: 32
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
    width, height = 13.0, ROW_INCHES * rows + HEAD_INCHES
    with mpl.rc_context({**SETTINGS, "font.size": 8, "axes.titlesize": 9}):
        figure = Figure(figsize=(width, height))
        for panel in panels:
            place = panel["gridPos"]
            left, right = (width * at / COLUMNS for at in (place["x"], place["x"] + place["w"]))
            bottom, top = (ROW_INCHES * (rows - at) for at in (place["y"] + place["h"], place["y"]))
            left, right = left + (0.9 if panel["type"] == "bargauge" else 0.6), right - 0.1
            bottom, top = bottom + 0.3, top - 0.4
            axes = figure.add_axes((left / width, bottom / height, (right - left) / width, (top - bottom) / height))
            _draw(axes, panel, server, start, end)
            axes.set_title(textwrap.fill(panel["title"], round(14 * (right - left))), color=INK.light, loc="left")
        figure.text(0.1 / width, 1 - 0.15 / height, board["title"], va="top", fontsize=11, color=INK.light)
        return small(to_png(figure, dpi=110))


def _draw(axes: Axes, panel: Mapping[str, Any], server: str, start: float, end: float) -> None:
    (target,) = panel["targets"]
    # Grafana's interval is four times that of the scrapes.
    query = target["expr"].replace("$study", ".*").replace("$__rate_interval", f"{4 * SCRAPE_SECONDS}s")
    found = ask(server, "query_range", query=query, start=str(start), end=str(end), step=str(STEP_SECONDS))["result"]
    unit = UNITS[panel["fieldConfig"]["defaults"]["unit"]]
    for spine in axes.spines.values():
        spine.set_color(GRID.light)
    axes.tick_params(colors=MUTED.light, length=2)
    if not found:
        axes.text(0.5, 0.5, "no data", color=MUTED.light, ha="center", transform=axes.transAxes)
        axes.set(xticks=[], yticks=[])
        return
    if query.startswith("sort_desc("):  # which Prometheus does for a moment, not for a span
        found.sort(key=lambda one: float(one["values"][-1][1]), reverse=True)
    named = [(_legend(target.get("legendFormat", ""), one["metric"]), one) for one in found[:LINES]]
    last = [float(one["values"][-1][1]) for _, one in named]
    if panel["type"] == "timeseries":
        for name, one in named:
            times = [float(at) - start for at, _ in one["values"]]
            values = [float(value) for _, value in one["values"]]
            axes.plot(times, values, linewidth=1.3, label=name or panel["title"], color=_colour(one["metric"]))
        axes.set_ylim(bottom=panel["fieldConfig"]["defaults"].get("min"))
        axes.yaxis.set_major_formatter(lambda value, _: unit(value))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} s")
        axes.grid(color=GRID.light, linewidth=0.5)
        axes.legend(frameon=False, fontsize=6, loc="best", handlelength=1.2)
    elif panel["type"] == "bargauge":
        axes.barh(range(len(last)), last, color=METHODS["a_ssl"][0].light, height=0.6)
        axes.set_yticks(range(len(last)), [name for name, _ in named])
        axes.invert_yaxis()
    else:
        lines = [
            f"{name} {unit(value)}" if len(last) > 1 else unit(value)
            for (name, _), value in zip(named, last, strict=True)
        ]
        size = 18 if len(last) == 1 else 11
        axes.text(
            0.5,
            0.5,
            "\n".join(lines),
            fontsize=size,
            color=INK.light,
            ha="center",
            va="center",
            transform=axes.transAxes,
        )
        axes.set(xticks=[], yticks=[])


def _legend(form: str, labels: Mapping[str, str]) -> str:
    for name, value in labels.items():
        form = form.replace("{{" + name + "}}", value)
    shown = ", ".join(value for name, value in labels.items() if name != "__name__")
    return shown if form in ("", "__auto") else form


def _colour(labels: Mapping[str, str]) -> str | None:
    """A method has its own colour everywhere; others the next one."""
    method = labels.get("method")
    return METHODS[method][0].light if method in METHODS else None


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
