"""A table or the figure of the paper, ready to be written down in any format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hssl_ray.report import figures, wording
from hssl_ray.report.page import environment, inline
from hssl_ray.report.paper import figure3_data, figure3_drawing, figure3_wording, table_data, table_wording
from hssl_ray.report.paper.figure3 import Figure3
from hssl_ray.report.paper.latex import latex_page
from hssl_ray.report.paper.tables import PaperTable
from hssl_ray.report.text_table import TextTable

Picture = tuple[str, str]
"""SVG and its caption."""


@dataclass(frozen=True)
class Sheet:
    """What is said, whatever it is written as. `footnotes` belong to the first table; pictures are drawn on demand."""

    title: str
    headline: str
    tables: Sequence[TextTable]
    footnotes: Mapping[str, str]
    notes: Sequence[str]
    pictures: Callable[[], Sequence[Picture]]
    to_csv: Callable[[], str]
    to_json: Callable[[], str]

    def markdown(self) -> str:
        """Markdown that reads as text too."""
        footnotes = [f"[{mark}] {text}" for mark, text in self.footnotes.items()]
        return wording.markdown_page(self.headline, self.tables, [*footnotes, *self.notes])

    def latex(self) -> str:
        """LaTeX to be `\\input` into a document."""
        return latex_page(self.tables, self.footnotes, self.notes)

    def html(self, source: str, commands: Mapping[str, str]) -> str:
        """One self-contained page.

        Args:
            source: where the trials were read, for people.
            commands: what to type, by purpose.
        """
        page = environment().get_template("paper.html.j2")
        drawn = [(inline(svg), caption) for svg, caption in self.pictures()]
        return page.render(sheet=self, pictures=drawn, source=source, commands=commands)


def table_sheet(table: PaperTable) -> Sheet:
    """Table 1 or 2."""

    def pictures() -> list[Picture]:
        if not any(pair.answer for pair in table.comparison.pairs):
            return []
        drawing = figures.difference_figure(table.comparison)
        return [(drawing.svg, drawing.caption)]

    return Sheet(
        title=table_wording.TITLES[table.name].partition(":")[0],
        headline=table_wording.headline(table),
        tables=table_wording.tables(table),
        footnotes=table_wording.footnotes(table),
        notes=table_wording.notes(table),
        pictures=pictures,
        to_csv=lambda: table_data.to_csv(table),
        to_json=lambda: table_data.to_json(table),
    )


def figure_sheet(figure: Figure3) -> Sheet:
    """Figure 3."""

    def pictures() -> list[Picture]:
        panels = [panel for panel in figure.panels if panel.curves]
        return [(figure3_drawing.panel_svg(figure, panel), figure3_wording.caption(figure, panel)) for panel in panels]

    return Sheet(
        title="Figure 3",
        headline=figure3_wording.headline(figure),
        tables=figure3_wording.tables(figure),
        footnotes=figure3_wording.footnotes(figure),
        notes=figure3_wording.notes(figure),
        pictures=pictures,
        to_csv=lambda: figure3_data.to_csv(figure),
        to_json=lambda: figure3_data.to_json(figure),
    )
