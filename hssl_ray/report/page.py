"""One self-contained HTML page that answers a study's question: it asks nothing of the network, now or in ten years."""

from __future__ import annotations

from collections import Counter
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
from hssl_ray.report.cost_figure import speed_figure
from hssl_ray.report.drawing import Drawing
from hssl_ray.report.equivariance_figure import gap_figure
from hssl_ray.report.figures import ROWS, curve_figure, curve_metrics, difference_figure, seed_figure
from hssl_ray.report.power_table import power_table
from hssl_ray.report.progress import progress
from hssl_ray.report.searched import FEWEST, Searched, importance_table, searched
from hssl_ray.report.searched_figure import importance_figure, parallel_figure
from hssl_ray.report.sweep_figure import sweep_figure
from hssl_ray.report.sweeps import sweeps, trend_table
from hssl_ray.report.text_table import NOTHING, TextTable
from hssl_ray.report.wording import Scale
from hssl_ray.study.file.sections import Search
from hssl_ray.trial.config import TrialConfig

DRAWN = 8  # pairs with figures of their own; the tables and the first figure have all


@dataclass(frozen=True)
class StudyInfo:
    """What a page says about a study beside its results.

    `question` is the study file's leading comment; `commands` what to type, by purpose (to resume, to compare, ...);
    `datasets` the digest of each data set by name; `versions` of what computed the results; `digest` is that of the
    study's whole configuration, `commit` that of the code.
    """

    name: str
    question: str = ""
    source: str = ""
    made: str = ""
    commands: Mapping[str, str] = field(default_factory=dict)
    datasets: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""
    commit: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page with figures of its own."""

    label: str
    figures: tuple[Drawing, ...]


@dataclass(frozen=True)
class Page:
    """A page, and every figure on it, in the page's order."""

    html: str
    figures: tuple[Drawing, ...]

    def pictures(self) -> dict[str, bytes]:
        """The figures as PNG files by name, which is the same for the same figure of another run."""
        files: dict[str, bytes] = {}
        seen = Counter[str]()
        for drawing in self.figures:
            seen[drawing.name] += 1
            again = f".{seen[drawing.name]}" if seen[drawing.name] > 1 else ""
            files[f"{drawing.name}{again}.png"] = drawing.png
        return files


def drawn_cells(comparison: Comparison) -> set[str]:
    """The cells whose training curves a page shows."""
    return {cell.name for pair in comparison.pairs[:DRAWN] for cell in pair.cells}


def render(
    comparison: Comparison,
    results: pa.Table,
    history: pa.Table,
    info: StudyInfo,
    *,
    search: Search | None = None,
    bases: Sequence[Drawing] = (),
) -> Page:
    """The page as HTML, and its figures.

    Args:
        results: one row per trial, as `compare` reads it.
        history: one row per trial, epoch and metric; may be empty. That of `drawn_cells` is all that is shown.
        search: the study's, if it samples settings.
        bases: pictures of the basis functions that the study's networks are built on.
    """
    question = comparison.question
    answered = sum(pair.answer is not None for pair in comparison.pairs)
    curves = cell_curves(history, question.confidence)
    found = sweeps(comparison, results)
    tried = searched(comparison, results, search) if search else []
    parts = {
        "overview": [difference_figure(comparison)] if answered else [],
        "sweeps": [sweep_figure(sweep, question) for sweep in found[:DRAWN]],
        "searched": _search_figures(tried[: 2 * DRAWN], search) if search else [],
        "gap": [drawing] if (drawing := gap_figure(comparison, results)) else [],
        "speed": [drawing] if (drawing := speed_figure(comparison, results)) else [],
        "bases": list(bases),
    }
    sections = [_section(pair, comparison, curves) for pair in comparison.pairs[:DRAWN]]
    figures = (*(one for part in parts.values() for one in part), *(one for own in sections for one in own.figures))
    html = (
        environment()
        .get_template("page.html.j2")
        .render(
            info=info,
            question=question,
            margin=_margin(comparison),
            headline=wording.headline(comparison),
            badges=_badges(comparison),
            notes=wording.notes(comparison),
            progress=progress(results, info.name),
            pairs=wording.pair_table(comparison),
            power=power_table(comparison),
            cells=wording.cell_table(comparison),
            gaps=wording.gap_table(comparison.gaps) if comparison.gaps else None,
            beyond=max(0, answered - ROWS),
            figures=parts,
            trends=trend_table(found, comparison),
            searching=search is not None,
            fewest=FEWEST,
            importance=importance_table(tried, search) if search and tried else None,
            sections=sections,
            left_out=len(comparison.pairs[DRAWN:]),
            cost=cost_table(results),
            passes=one_pass_against_two(results, comparison),
            health=health_table(results),
            trials=_trial_table(results, comparison),
            shared=_shared_settings(results),
        )
    )
    return Page(html, figures)


def _search_figures(tried: Sequence[Searched], search: Search) -> list[Drawing]:
    bars = [importance_figure(tried)] if any(one.importance for one in tried) else []
    return bars + [parallel_figure(one, search) for one in tried]


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
    return Section(pair.label, tuple(figures))


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
    templates = Environment(
        loader=PackageLoader("hssl_ray.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["inline"] = lambda drawing: inline(drawing.svg)
    return templates
