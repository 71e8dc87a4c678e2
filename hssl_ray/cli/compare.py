"""`hssl-ray compare STUDY`: does one method match the other, as far as the finished trials can tell?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

STUDY = Annotated[Path, typer.Argument(metavar="STUDY", help="Study file.")]
SET = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="As given to `run`; may be repeated.")
]
JSON = Annotated[bool, typer.Option("--json", help="Print JSON of a stable schema instead of tables.")]
ALL = Annotated[bool, typer.Option("--all", help="Print every row, also of hundreds.")]
MARKDOWN = Annotated[bool, typer.Option("--markdown", help="Print Markdown, to paste where it is shown as a page.")]


def compare(
    study: STUDY, json: JSON = False, markdown: MARKDOWN = False, everything: ALL = False, overrides: SET = None
) -> None:
    """Print mean ± std of every cell and, for every pair, the difference with its interval and the verdict.

    Works while the study runs and after it. Of more than 50 settings the best are printed, and how many there are of
    each verdict. Missing results are named; the exit code is 0 with or without them.
    """
    # Imported here so that other commands start without pyarrow and scipy.
    from hssl_ray.cli.collector import no_collection
    from hssl_ray.cli.printed import console, print_notes, print_tables
    from hssl_ray.cli.programs import again
    from hssl_ray.cli.questions import question_of
    from hssl_ray.cli.readers import compared_metrics, read_study
    from hssl_ray.data.home import home
    from hssl_ray.report import compare as comparing
    from hssl_ray.report.abridged import shown

    with no_collection():
        reading = read_study(study, overrides or (), home(), compared_metrics)
        comparison = comparing.compare(reading.results, question_of(reading.study))
        if json:
            typer.echo(comparison.to_json())
            return
    said = shown(comparison, everything=everything)
    if markdown:
        typer.echo(said.markdown(), nl=False)
        return
    to = console()
    print_tables(to, said.tables)
    to.print(said.headline, style="bold")
    print_notes(to, [*said.notes, *reading.notes()])
    if comparison.gaps or not comparison.pairs:
        to.print(f"\nRun what is missing: {again('run', study, overrides or ())}", soft_wrap=True)
