"""Questions to a Prometheus that a test has started."""

import json
import urllib.parse
import urllib.request
from typing import Any


def ask(server: str, path: str, **query: str) -> Any:
    """One call of its HTTP interface."""
    with urllib.request.urlopen(f"{server}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=30) as answer:
        return json.load(answer)["data"]
