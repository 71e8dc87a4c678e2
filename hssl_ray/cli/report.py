"""`hssl-ray report STUDY`: the study's answer as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hssl_ray.cli.compare import SET, STUDY

OUTPUT = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Where to; default: report.html in the study's folder."),
]


def report(study: STUDY, output: OUTPUT = None, overrides: SET = None) -> None:
    """Write the comparison with figures, cost and provenance to one HTML file of its own, and print its path."""
    # Imported here so that other commands start without matplotlib.
    from hssl_ray.cli.pages import write_page
    from hssl_ray.data.home import home

    typer.echo(str(write_page(study, overrides or (), home(), output=output)))
