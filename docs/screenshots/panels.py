"""One picture for each Grafana dashboard: its panels, drawn from a real Prometheus that scrapes a real study.

`python docs/screenshots/panels.py [--to FOLDER]` starts a Ray head, a Prometheus and a small study of its own on
loopback, waits until the panels have something to show, and ends them again. Exit code 2 where Prometheus is absent.
Grafana itself is not needed: each panel's own query is asked as Grafana would ask it, over the time of the study.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from browser import free_port
from make import IMAGES, NotThere, small
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hssl_ray.report.drawing import GRID, INK, METHODS, MUTED, SETTINGS, to_png
from hssl_ray.study.ray_settings import EVERYWHERE, LOCAL

ROOT = Path(__file__).parents[2]
BOARDS = sorted((ROOT / "dashboards" / "grafana").glob("*.json"))
COLUMNS = 24  # of Grafana's grid
START_SECONDS, STUDY_SECONDS, STEP_SECONDS = 180, 900, 2
LINES = 8  # of a panel; more are not told apart
STUDY = """\
# A study that is long enough to be watched.
study: watched
base:
  dataset: mnist-mini
  train_images: 100
  batch_size: 50
  width: 0.125
  epochs: 40
  warmup_epochs: 1
  optimizer: adamw
  learning_rate: 0.003
grid:
  method: [a_ssl, h_ssl]
seeds: 4
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
    query = target["expr"].replace("$study", ".*").replace("$__rate_interval", "30s")
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
def running(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of our own, gone with the block."""
    with log.open("wb") as output:
        process = subprocess.Popen(list(command), env=dict(environment), stdout=output, stderr=output)  # noqa: S603
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def watched(folder: Path, stack: ExitStack) -> tuple[str, subprocess.Popen[bytes]]:
    """A head, a Prometheus on it, and a study; the address of Prometheus, and the study's driver."""
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        raise NotThere("prometheus: must be installed (Debian: apt-get install prometheus), got nothing on PATH")
    port, metrics = free_port(), free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "HSSL_"))}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), **LOCAL, **EVERYWHERE}
    environment |= {"RAY_raylet_start_wait_time_s": "120"}  # of a machine that is busy
    environment |= {"HSSL_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    ray = str(Path(sys.executable).with_name("ray"))
    head = [ray, "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=2"]
    head += ["--num-gpus=0", "--dashboard-host=127.0.0.1", f"--dashboard-port={free_port()}"]
    head += ["--object-store-memory=100000000", f"--ray-client-server-port={free_port()}"]
    head += [f"--dashboard-agent-listen-port={free_port()}", f"--metrics-export-port={metrics}"]
    head += [f"--temp-dir={folder / 'r'}"]
    stack.enter_context(running(head, environment, folder / "head.log"))
    _until(lambda: _open(f"http://127.0.0.1:{metrics}/metrics"), "the head's metrics", START_SECONDS)
    scraped = {"job_name": "ray", "static_configs": [{"targets": [f"127.0.0.1:{metrics}"]}]}
    config = folder / "prometheus.yml"
    config.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": [scraped]}))
    state = [ray, "status", f"--address=127.0.0.1:{port}"]
    _until(lambda: _succeeds(state, environment), "the head", START_SECONDS)  # its metrics are there before it is
    server = f"127.0.0.1:{free_port()}"
    asked = [prometheus, f"--config.file={config}", f"--storage.tsdb.path={folder / 'db'}"]
    stack.enter_context(running([*asked, f"--web.listen-address={server}"], environment, folder / "prometheus.log"))
    _until(lambda: _open(f"http://{server}/-/ready"), "Prometheus", START_SECONDS)
    study = folder / "watched.yaml"
    study.write_text(STUDY)
    driver = [sys.executable, "-m", "hssl_ray", "run", str(study)]
    process = running(driver, environment | {"RAY_ADDRESS": f"127.0.0.1:{port}"}, folder / "driver.log")
    return f"http://{server}", stack.enter_context(process)


def _succeeds(command: Sequence[str], environment: Mapping[str, str]) -> bool:
    return subprocess.run(list(command), env=dict(environment), capture_output=True, check=False).returncode == 0  # noqa: S603


def _open(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310
            return True
    except OSError:
        return False


def _until(condition: Any, what: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise NotThere(f"{what}: not there within {seconds:g} s")
        time.sleep(1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a picture of each Grafana dashboard's panels.")
    parser.add_argument("--to", type=Path, default=IMAGES, help="folder of the pictures")
    parser.add_argument("--seconds", type=float, default=STUDY_SECONDS, help="how long the study runs at most")
    asked = parser.parse_args()
    start = time.time()
    try:
        with tempfile.TemporaryDirectory(prefix="hssl-", ignore_cleanup_errors=True) as folder, ExitStack() as stack:
            server, driver = watched(Path(folder), stack)
            deadline = time.monotonic() + asked.seconds
            while driver.poll() is None and time.monotonic() < deadline:
                time.sleep(1)
            first = ask(
                server, "query_range", query="ray_hssl_trials", start=str(start), end=str(time.time()), step="2"
            )
            times = [float(at) for one in first["result"] for at, _ in one["values"]]
            if not times:
                logs = "\n".join((Path(folder) / f"{name}.log").read_text()[-2000:] for name in ("driver", "head"))
                raise NotThere(f"no metric of the study: {logs}")
            for path in BOARDS:
                target = asked.to / f"grafana-{path.stem.removeprefix('hssl-')}.png"
                target.write_bytes(board_picture(json.loads(path.read_text()), server, min(times), max(times)))
                print(f"{target}: {target.stat().st_size:,} bytes", flush=True)
    except NotThere as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
