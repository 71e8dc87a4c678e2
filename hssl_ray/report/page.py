"""One self-contained HTML page that answers a study's question: it asks nothing of the network, now or in ten years."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from hssl_ray.report import wording
from hssl_ray.report.compare import cell_curves
from hssl_ray.report.comparison import Comparison, Pair
from hssl_ray.report.cost import cost_table, health_table, one_pass_against_two
from hssl_ray.report.figures import (
    ROWS,
    curve_figure,
    curve_metrics,
    difference_caption,
    difference_figure,
    seed_figure,
)
from hssl_ray.report.progress import progress
from hssl_ray.report.text_table import NOTHING, TextTable
from hssl_ray.report.wording import Scale
from hssl_ray.trial.config import TrialConfig

DRAWN = 8  # pairs with figures of their own; the tables and the first figure have all


@dataclass(frozen=True)
class StudyInfo:
    """What a page says about a study beside its results.

    `question` is the study file's leading comment; `commands` what to type, by purpose (to resume, to compare, ...);
    `datasets` the digest of each data set by name; `versions` of what computed the results.
    """

    name: str
    question: str = ""
    source: str = ""
    made: str = ""
    commands: Mapping[str, str] = field(default_factory=dict)
    datasets: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Section:
    """A pair's own figures."""

    label: str
    figures: tuple[Markup, ...]


def drawn_cells(comparison: Comparison) -> set[str]:
    """The cells whose training curves a page shows."""
    return {cell.name for pair in comparison.pairs[:DRAWN] for cell in pair.cells}


def render(comparison: Comparison, results: pa.Table, history: pa.Table, info: StudyInfo) -> str:
    """The page as one string of HTML.

    Args:
        results: one row per trial, as `compare` reads it.
        history: one row per trial, epoch and metric; may be empty. That of `drawn_cells` is all that is shown.
    """
    page = environment().get_template("page.html.j2")
    answered = sum(pair.answer is not None for pair in comparison.pairs)
    curves = cell_curves(history, comparison.question.confidence)
    return page.render(
        info=info,
        question=comparison.question,
        margin=_margin(comparison),
        headline=wording.headline(comparison),
        badges=_badges(comparison),
        notes=wording.notes(comparison),
        progress=progress(results, info.name),
        pairs=wording.pair_table(comparison),
        cells=wording.cell_table(comparison),
        gaps=wording.gap_table(comparison.gaps) if comparison.gaps else None,
        overview=inline(difference_figure(comparison)) if answered else None,
        caption=difference_caption(comparison.question),
        beyond=max(0, answered - ROWS),
        sections=[_section(pair, comparison, curves) for pair in comparison.pairs[:DRAWN]],
        left_out=len(comparison.pairs[DRAWN:]),
        cost=cost_table(results),
        passes=one_pass_against_two(results, comparison),
        health=health_table(results),
        trials=_trial_table(results, comparison),
        shared=_shared_settings(results),
    )


def _badges(comparison: Comparison) -> list[dict[str, str]]:
    """The verdicts beside the headline, with the setting where there are several; none for a long list."""
    verdicts = [(pair.label, pair.answer.verdict if pair.answer else "no answer") for pair in comparison.pairs]
    if len(verdicts) > DRAWN:
        return []
    return [
        {"verdict": verdict, "text": f"{label}: {verdict}" if len(verdicts) > 1 else verdict}
        for label, verdict in verdicts
    ]


def _section(pair: Pair, comparison: Comparison, curves: pa.Table) -> Section:
    question = comparison.question
    figures = [seed_figure(pair, question)] if any(cell.values for cell in pair.cells) else []
    own = {cell.name for cell in pair.cells}
    mine = curves.filter(pc.is_in(curves["cell"], pa.array(sorted(own), pa.string())))
    figures += [curve_figure(mine, pair.cells, metric, pair.label) for metric in curve_metrics(mine, question)]
    return Section(pair.label, tuple(map(inline, figures)))


def _trial_table(results: pa.Table, comparison: Comparison) -> TextTable:
    """Every trial by name, with the identity that finds its files and its run."""
    metric = comparison.question.metric
    scale = Scale(metric)
    rows = []
    for row in _chosen(results, "name", "trial_id", "state", "attempt", "seconds", metric):
        value, seconds = row.get(metric), row.get("seconds")
        rows.append(
            (
                row["name"],
                row["state"],
                NOTHING if value is None else scale.value(value),
                NOTHING if seconds is None else f"{seconds:,.0f}",
                str(row["attempt"]),
                row["trial_id"],
            )
        )
    header = ("trial", "state", metric + scale.unit, "seconds", "attempt", "id")
    return TextTable("Trials", header, tuple(rows))


def _shared_settings(results: pa.Table) -> dict[str, str]:
    """The fields that have one value in all trials."""
    shared = {}
    for name in TrialConfig.model_fields:
        if name in results.column_names:
            values = results[name].unique().to_pylist()
            if len(values) == 1:
                shared[name] = "default" if values[0] is None else str(values[0])
    return shared


def _chosen(results: pa.Table, *names: str) -> Sequence[Mapping[str, Any]]:
    rows: list[dict[str, Any]] = results.select([name for name in names if name in results.column_names]).to_pylist()
    return rows


def _margin(comparison: Comparison) -> str:
    scale = Scale(comparison.question.metric)
    return scale.margin(comparison.question.margin) + scale.points


def inline(svg: str) -> Markup:
    """SVG for the middle of an HTML page, whose parser knows the namespaces. The figures escape what they are told."""
    for space in (' xmlns:xlink="http://www.w3.org/1999/xlink"', ' xmlns="http://www.w3.org/2000/svg"'):
        svg = svg.replace(space, "")
    return Markup(svg)  # noqa: S704 - made by our own figures


def environment() -> Environment:
    """The templates beside this file; what a page is told is escaped."""
    return Environment(
        loader=PackageLoader("hssl_ray.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
