"""The basis report as one self-contained HTML page, or as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
from markupsafe import Markup

from hssl_ray.method.basis_report import BasisReport
from hssl_ray.method.basis_sweep import Candidate
from hssl_ray.report.basis.pictures import mosaic_figure, profile_figure, sweep_figure
from hssl_ray.report.basis.tables import basis_name, basis_notes, basis_tables, sweep_table
from hssl_ray.report.drawing import SETTINGS, to_png, to_svg
from hssl_ray.report.page import environment, inline
from hssl_ray.report.text_table import TextTable


@dataclass(frozen=True)
class BasisSection:
    """One basis on the page."""

    name: str
    uses: str
    tables: list[TextTable]
    notes: list[str]
    figures: list[tuple[Markup, str]]


def basis_page(title: str, reports: Sequence[tuple[BasisReport, str]]) -> str:
    """The page as one string of HTML; each basis with who uses it, in words."""
    return _render(title, [_section(report, uses) for report, uses in reports])


def sweep_page(candidates: Sequence[Candidate], scales: Sequence[float], smoothness: float) -> str:
    """The page of a sweep."""
    with mpl.rc_context(SETTINGS):
        svg = to_svg(sweep_figure(candidates), "Mean residual against cost of every basis")
    figure = (inline(svg), "Each mark a basis; lines join those of one effective size. Ringed: beaten by no other.")
    section = BasisSection("Sweep", "", [sweep_table(candidates, scales, smoothness)], [], [figure])
    return _render("Bases to choose from", [section])


def basis_png(reports: Sequence[BasisReport]) -> bytes:
    """All bases at all scales as one PNG."""
    with mpl.rc_context(SETTINGS):
        return to_png(mosaic_figure(reports), dpi=120)


def _section(report: BasisReport, uses: str) -> BasisSection:
    name = basis_name(report.spec)
    order = min(2, len(report.scales[0].kept_energy) - 1)
    with mpl.rc_context(SETTINGS):
        functions = to_svg(mosaic_figure([report]), f"Basis functions of {name} at every scale")
        profiles = to_svg(profile_figure(report, order), f"Order {order} of {name} along one side at every scale")
    return BasisSection(
        name,
        uses,
        basis_tables(report),
        basis_notes(report),
        [
            (inline(functions), "The lowest functions (n, m), n across and m down, each with its own contrast."),
            (
                inline(profiles),
                f"He_{order} along one side: the continuous function, the cells that sample it, the support (shaded), "
                "and the share of its energy inside.",
            ),
        ],
    )


def _render(title: str, sections: Sequence[BasisSection]) -> str:
    return environment().get_template("basis.html.j2").render(title=title, sections=sections)
