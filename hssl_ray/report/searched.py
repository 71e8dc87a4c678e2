"""What a study's search tried: its suggestions with their values, and which of the searched fields mattered."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hssl_ray.report.comparison import Comparison
from hssl_ray.report.text_table import NOTHING, TextTable
from hssl_ray.report.wording import Scale, method_name
from hssl_ray.study.file.sections import Search

if TYPE_CHECKING:
    from hssl_ray.study.search.importance import Importance

FEWEST = 4  # suggestions; of fewer no share of a variance can be told


@dataclass(frozen=True)
class Tried:
    """One suggestion: its settings, and the mean over its seeds of what the search goes by."""

    settings: Mapping[str, Any]
    value: float


@dataclass(frozen=True)
class Searched:
    """The suggestions of one method in one setting that have ended well with every seed, and what mattered in them."""

    label: str
    method: str
    tried: tuple[Tried, ...]
    importance: tuple[Importance, ...]


def searched(comparison: Comparison, results: pa.Table, search: Search) -> list[Searched]:
    """Every searched cell with at least `FEWEST` suggestions, in the order of the pairs.

    Args:
        results: one row per trial, of which the comparison was made.
    """
    from hssl_ray.study.search.importance import importance  # Optuna takes a second, which only a search needs

    rows = results.to_pylist()
    found, seen = [], set()
    for pair in comparison.pairs:
        for side in pair.cells:
            if side.name in seen:
                continue
            seen.add(side.name)
            settings = {name: value for name, value in pair.settings.items() if name not in search.space}
            own = [r for r in rows if r["method"] == side.method and all(r[k] == v for k, v in settings.items())]
            tried = _tried(own, search)
            if len(tried) >= FEWEST:
                shares = importance(search, [(one.settings, one.value) for one in tried])
                found.append(Searched(pair.label, side.method, tuple(tried), tuple(shares)))
    return found


def _tried(rows: list[dict[str, Any]], search: Search) -> list[Tried]:
    suggestions: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        suggestions.setdefault(tuple(row[name] for name in search.space), []).append(row)
    tried = []
    for settings, own in suggestions.items():
        ended = [row.get(search.metric) for row in own if row["state"] == "finished"]
        values = [value for value in ended if value is not None and math.isfinite(value)]
        if len(values) == len(own):
            tried.append(Tried(dict(zip(search.space, settings, strict=True)), fmean(values)))
    return tried


def importance_table(found: list[Searched], search: Search) -> TextTable:
    """Shares of the variance by field, and the best suggestion."""
    scale = Scale(search.metric)
    rows = []
    for one in found:
        best = (max if search.goal == "maximize" else min)(one.tried, key=lambda tried: tried.value)
        for share in one.importance:
            rows.append(
                (
                    f"{one.label}: {method_name(one.method)}",
                    share.field,
                    f"{100 * share.fanova:.0f} %",
                    NOTHING if share.ped_anova is None else f"{100 * share.ped_anova:.0f} %",
                    _setting(best.settings[share.field]),
                    scale.value(best.value),
                )
            )
    header = ("cells", "field", "fANOVA", "PED-ANOVA", "best suggestion", f"its {search.metric}{scale.unit}")
    return TextTable("What mattered, as shares", header, tuple(rows))


def _setting(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
