"""The chart page of an experiment with runs grouped by method, as the MLflow UI's own "share view" would store it.

MLflow keeps a shared view as an experiment tag: its key ends in the SHA-256 of the view's JSON, its value is that JSON,
deflated and in base64. The format is internal to the UI (read in MLflow 3.17), so it is made in this one place.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
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
        return (
            f"{server.rstrip('/')}/#/experiments/{quote(experiment_id, safe='')}/runs"
            f"?compareRunsMode=CHART&viewStateShareKey={self.share_key}"
        )


def grouped_view(tag: str, *, only: str) -> SharedView:
    """A view whose charts show one mean curve for each value of a run tag.

    Args:
        tag: name of the tag that groups the runs.
        only: the UI's search expression for the runs to show.
    """
    state = {
        "searchFilter": only,
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": tag}]},
        "useGroupedValuesInCharts": True,
        "runsHiddenMode": "SHOW_ALL",
        "hideEmptyCharts": True,
    }
    text = json.dumps(state, sort_keys=True, separators=(",", ":"))
    packed = base64.b64encode(zlib.compress(text.encode())).decode()
    return SharedView(hashlib.sha256(text.encode()).hexdigest(), f"deflate;{packed}")
