"""Writes the Grafana dashboards: `python dashboards/make.py`. A panel is a line here; the JSON files are for Grafana.

tests/cli/test_monitoring.py runs every panel's query against a real Prometheus that scrapes a real study.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

FOLDER = Path(__file__).parent / "grafana"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
OF_STUDY = 'study=~"$study"'
WIDTH = 24

# Okabe and Ito's palette, which the colour-blind can tell apart: one colour for each method everywhere.
METHOD_COLOURS = {"a_ssl": "#0072B2", "h_ssl": "#D55E00", "frozen": "#999999", "supervised": "#009E73"}
STATE_COLOURS = {
    "planned": "#999999",
    "running": "#56B4E9",
    "finished": "#009E73",
    "pruned": "#F0E442",
    "diverged": "#CC79A7",
    "failed": "#D55E00",
    "killed": "#E69F00",
}


@dataclass(frozen=True)
class Panel:
    """One panel: its title, what it asks Prometheus, and how the answer is drawn."""

    title: str
    queries: tuple[tuple[str, str], ...]
    """(legend, expression) pairs."""
    kind: Literal["timeseries", "stat", "bargauge"] = "timeseries"
    unit: str = "short"
    width: int = 8
    height: int = 8
    help: str = ""


@dataclass(frozen=True)
class Dashboard:
    """One page of panels, with a choice of studies on top."""

    uid: str
    title: str
    panels: tuple[Panel, ...]


def one(expression: str, legend: str = "") -> tuple[tuple[str, str], ...]:
    return ((legend, expression),)


DASHBOARDS = (
    Dashboard(
        "hssl-study",
        "hssl_ray: study overview",
        (
            Panel(
                "Trials by state",
                one(f"sum by (state) (ray_hssl_trials{{{OF_STUDY}}})", "{{state}}"),
                "bargauge",
                width=8,
                height=7,
            ),
            Panel(
                "Done",
                one(
                    f'sum(ray_hssl_trials{{{OF_STUDY}, state=~"finished|pruned|diverged"}})'
                    f" / sum(ray_hssl_study_trials{{{OF_STUDY}}})"
                ),
                "stat",
                "percentunit",
                width=4,
                height=7,
            ),
            Panel(
                "Epochs a minute",
                one(f"60 * sum(rate(ray_hssl_epochs_total{{{OF_STUDY}}}[2m]))"),
                "stat",
                width=4,
                height=7,
            ),
            Panel(
                "Longest silence of a running trial",
                one(f"max(ray_hssl_silence_seconds{{{OF_STUDY}}})"),
                "stat",
                "s",
                width=4,
                height=7,
                help="A trial is heard of after every epoch.",
            ),
            Panel(
                "Writes MLflow has not got",
                one(f"sum(ray_hssl_outbox_jobs{{{OF_STUDY}}})"),
                "stat",
                width=4,
                height=7,
                help="None is lost: they are in the journals, and `hssl-ray sync` sends them.",
            ),
            Panel(
                "Trials over time",
                one(f"sum by (state) (ray_hssl_trials{{{OF_STUDY}}})", "{{state}}"),
                width=12,
            ),
            Panel(
                "Images per second",
                one(f"sum by (method) (ray_hssl_images_per_second{{{OF_STUDY}}})", "{{method}}"),
                width=12,
            ),
        ),
    ),
    Dashboard(
        "hssl-methods",
        "hssl_ray: A-SSL against H-SSL",
        (
            Panel(
                "Best probe accuracy",
                one(f'max by (method) (ray_hssl_metric_best{{{OF_STUDY}, metric="probe/top1"}})', "{{method}}"),
                unit="percentunit",
                width=12,
                help="The online probe. Verdicts with intervals are `hssl-ray compare`'s; best of many is no mean.",
            ),
            Panel(
                "Best value of what the study compares",
                one(
                    f'max by (method, metric) (ray_hssl_metric_best{{{OF_STUDY}, metric!="train/loss"}})',
                    "{{method}} {{metric}}",
                ),
                unit="percentunit",
                width=12,
            ),
            Panel(
                "Newest training loss",
                one(f'avg by (method) (ray_hssl_metric_last{{{OF_STUDY}, metric="train/loss"}})', "{{method}}"),
                width=12,
                help="Losses of different methods are different functions: watch each fall, do not compare them.",
            ),
            Panel(
                "Epochs by method",
                one(f"sum by (method) (ray_hssl_epochs_total{{{OF_STUDY}}})", "{{method}}"),
                width=6,
            ),
            Panel(
                "Images per second: one pass against two",
                one(f"sum by (method) (ray_hssl_images_per_second{{{OF_STUDY}}})", "{{method}}"),
                width=6,
            ),
        ),
    ),
    Dashboard(
        "hssl-sweep",
        "hssl_ray: sweep",
        (
            Panel(
                "Trials that reached each rung",
                # In the order of the rungs: fewer trials reach each next one. By name, 16 would come before 2.
                one(f"sort_desc(sum by (epoch) (ray_hssl_rung_trials{{{OF_STUDY}}}))", "epoch {{epoch}}"),
                "bargauge",
                width=8,
            ),
            Panel(
                "Stopped early",
                one(f'sum(ray_hssl_trials{{{OF_STUDY}, state="pruned"}})'),
                "stat",
                width=4,
            ),
            Panel(
                "Failed, diverged or killed",
                one(f'sum by (state) (ray_hssl_trials{{{OF_STUDY}, state=~"failed|diverged|killed"}})', "{{state}}"),
                "stat",
                width=6,
            ),
            Panel(
                "New attempts, by why the last one ended",
                one(f"sum by (cause) (ray_hssl_restarts_total{{{OF_STUDY}}})", "{{cause}}"),
                "bargauge",
                width=6,
            ),
            Panel(
                "Best value over time",
                one(f'max by (metric) (ray_hssl_metric_best{{{OF_STUDY}, metric!="train/loss"}})', "{{metric}}"),
                unit="percentunit",
                width=16,
            ),
            Panel(
                "Share of time spent on checkpoints",
                one(
                    f"sum(rate(ray_hssl_checkpoint_seconds_total{{{OF_STUDY}}}[5m]))"
                    f' / clamp_min(sum(avg_over_time(ray_hssl_trials{{{OF_STUDY}, state="running"}}[5m])), 1)'
                ),
                unit="percentunit",
                width=8,
            ),
        ),
    ),
    Dashboard(
        "hssl-workers",
        "hssl_ray: workers and nodes",
        (
            Panel("Processor use of each node", one("ray_node_cpu_utilization", "{{ip}}"), unit="percent", width=12),
            Panel("Memory of each node", one("ray_node_mem_used", "{{ip}}"), unit="bytes", width=12),
            Panel(
                "Use of each GPU",
                one("ray_node_gpus_utilization", "{{ip}} {{GpuIndex}}"),
                unit="percent",
                width=12,
                help="Empty where there is none.",
            ),
            Panel("Free disk of each node", one("ray_node_disk_free", "{{ip}}"), unit="bytes", width=12),
            Panel(
                "Memory of trials' processes",
                one(
                    'sum by (Component) (ray_component_uss_bytes{Component=~"ray::(ImplicitFunc|RayTrainWorker).*"})',
                    "{{Component}}",
                ),
                unit="bytes",
                width=24,
            ),
        ),
    ),
)


def _overrides() -> list[dict[str, Any]]:
    """A fixed colour for every method and state, wherever its name begins a legend."""
    return [
        {
            "matcher": {"id": "byRegexp", "options": f"/^{name}( .*)?$/"},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
        }
        for name, colour in (METHOD_COLOURS | STATE_COLOURS).items()
    ]


def _panel(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    options: dict[str, Any] = {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True}}
    if panel.kind != "timeseries":
        options = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}
        options |= {"orientation": "horizontal", "displayMode": "basic"} if panel.kind == "bargauge" else {}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.help,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": _overrides()},
        "options": options,
        "targets": [
            {
                "refId": "ABCDEFGH"[place],
                "datasource": SOURCE,
                "expr": expression,
                "legendFormat": legend or "__auto",
                "instant": panel.kind != "timeseries",
                "range": panel.kind == "timeseries",
            }
            for place, (legend, expression) in enumerate(panel.queries)
        ],
    }


def as_json(board: Dashboard) -> dict[str, Any]:
    """A dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    x = y = 0
    for number, panel in enumerate(board.panels, start=1):
        if x + panel.width > WIDTH:
            x, y = 0, y + panels[-1]["gridPos"]["h"]
        panels.append(_panel(panel, number, x, y))
        x += panel.width
    return {
        "uid": board.uid,
        "title": board.title,
        "tags": ["hssl_ray"],
        "schemaVersion": 41,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "links": [
            {"type": "dashboards", "tags": ["hssl_ray"], "title": "hssl_ray", "asDropdown": False, "keepTime": True}
        ],
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
                {
                    "name": "study",
                    "label": "Study",
                    "type": "query",
                    "datasource": SOURCE,
                    "query": {"query": "label_values(ray_hssl_study_trials, study)", "refId": "study"},
                    "refresh": 2,
                    "multi": True,
                    "includeAll": True,
                    "current": {"text": "All", "value": "$__all"},
                },
            ]
        },
        "annotations": {"list": []},
        "panels": panels,
    }


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for board in DASHBOARDS:
        path = FOLDER / f"{board.uid}.json"
        path.write_text(json.dumps(as_json(board), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
