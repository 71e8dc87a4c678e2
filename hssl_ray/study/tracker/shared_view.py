"""A chart page of an experiment, set up by code and stored as the MLflow UI's own "share view" would store it.

MLflow keeps a shared view as an experiment tag: its key ends in the SHA-256 of the view's JSON, its value is that JSON,
deflated and in base64. The format is internal to the UI (read in MLflow 3.17), so it is made in this one place.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

PREFIX = "mlflow.sharedViewState."


@dataclass(frozen=True)
class SharedView:
    """A stored view: the experiment tag that holds it, and the share key that its link names."""

    share_key: str
    tag_value: str

    @property
    def tag_key(self) -> str:
        return PREFIX + self.share_key

    def link(self, server: str, experiment_id: str) -> str:
        """Address of the view in the UI of `server`."""
        return f"{experiment_link(server, experiment_id)}&compareRunsMode=CHART&viewStateShareKey={self.share_key}"


def experiment_link(server: str, experiment_id: str) -> str:
    """Address of an experiment's runs. Without the query the UI opens an empty page about language model traces."""
    return f"{server.rstrip('/')}/#/experiments/{quote(experiment_id, safe='')}/runs?workflowType=machine_learning"


def comparison_link(server: str, experiment_id: str, run_ids: Sequence[str]) -> str:
    """Address of the page that sets runs of an experiment side by side."""
    runs, experiments = (quote(json.dumps(list(ids))) for ids in (run_ids, [experiment_id]))
    return f"{server.rstrip('/')}/#/compare-runs?runs={runs}&experiments={experiments}&workflowType=machine_learning"


def shared_view(*, only: str, group_by: str | None = None, charts: str = "") -> SharedView:
    """A view of the charts of some runs.

    Args:
        only: the UI's search expression for the runs to show.
        group_by: name of a run tag; each of its values is then one mean curve, with the range around it.
        charts: regular expression for the names of the metrics to show; all if empty.
    """
    groups = {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": group_by}]}
    state = {
        "searchFilter": only,
        "groupBy": groups if group_by else None,
        "useGroupedValuesInCharts": True,
        "chartsSearchFilter": charts,
        "runsHiddenMode": "SHOW_ALL",
        "hideEmptyCharts": True,
    }
    text = json.dumps(state, sort_keys=True, separators=(",", ":"))
    packed = base64.b64encode(zlib.compress(text.encode())).decode()
    return SharedView(hashlib.sha256(text.encode()).hexdigest(), f"deflate;{packed}")
