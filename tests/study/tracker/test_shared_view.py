"""The stored view: what the MLflow UI finds when it follows the link."""

import base64
import hashlib
import json
import zlib

from hssl_ray.study.tracker.shared_view import shared_view


def test_the_tag_holds_the_view_under_the_hash_of_its_own_json() -> None:
    view = shared_view(group_by="hssl.method", only="tags.`hssl.kind` = 'trial'")
    scheme, packed = view.tag_value.split(";", 1)
    text = zlib.decompress(base64.b64decode(packed))
    assert scheme == "deflate"
    assert view.tag_key == "mlflow.sharedViewState." + hashlib.sha256(text).hexdigest()
    state = json.loads(text)
    assert state["groupBy"] == {
        "aggregateFunction": "average",
        "groupByKeys": [{"mode": "tag", "groupByData": "hssl.method"}],
    }
    assert state["searchFilter"] == "tags.`hssl.kind` = 'trial'"
    assert state["chartsSearchFilter"] == ""
    assert state["useGroupedValuesInCharts"] is True


def test_the_same_view_has_the_same_key_and_another_one_has_not() -> None:
    assert shared_view(only="a") == shared_view(only="a")
    assert shared_view(only="a").share_key != shared_view(only="b").share_key


def test_the_link_names_server_experiment_and_key() -> None:
    view = shared_view(only="a")
    assert view.link("http://host:5000/", "7") == (
        f"http://host:5000/#/experiments/7/runs?workflowType=machine_learning&compareRunsMode=CHART&viewStateShareKey={view.share_key}"
    )
