"""The paper's tables as HTML pages of their own, in the style of a study's page."""

from __future__ import annotations

from collections.abc import Mapping

from hssl_ray.report import paper_wording
from hssl_ray.report.figures import difference_figure
from hssl_ray.report.page import environment, inline
from hssl_ray.report.paper_tables import PaperTable

CAPTION = (
    "Difference with intervals. Thick bar inside the shaded margin: equivalent. Thin bar clear of zero: different. "
    "Dots: single seeds."
)


def render_table(table: PaperTable, source: str, commands: Mapping[str, str]) -> str:
    """Table 1 or 2 as one string of HTML.

    Args:
        source: where the trials were read, for people.
        commands: what to type, by purpose.
    """
    answered = any(pair.answer for pair in table.comparison.pairs)
    return (
        environment()
        .get_template("paper.html.j2")
        .render(
            title=paper_wording.TITLES[table.name].partition(":")[0],
            headline=paper_wording.headline(table),
            source=source,
            tables=paper_wording.tables(table),
            footnotes=paper_wording.footnotes(table),
            figures=[(inline(difference_figure(table.comparison)), CAPTION)] if answered else [],
            notes=paper_wording.notes(table),
            commands=commands,
        )
    )
