"""`hssl-ray report`: a study's answer as one HTML page, or a table or figure of the paper from all studies tracked."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

Target = Literal["table1", "table2", "figure3"]
TARGETS: tuple[Target, ...] = get_args(Target)
OF_STUDY, OF_PAPER = "A study's page", "The paper's tables and figure"


class Format(StrEnum):
    """What a table or figure is written as."""

    MD = "md"
    CSV = "csv"
    LATEX = "latex"
    HTML = "html"
    JSON = "json"


TARGET = Annotated[
    str, typer.Argument(metavar="STUDY|table1|table2|figure3", help="Study file (.yaml), or what of the paper to make.")
]
OUTPUT = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Where to. Default: report.html in the study's folder; the terminal for the paper's.",
    ),
]
SET = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="As given to `run`; may be repeated.", rich_help_panel=OF_STUDY),
]
STUDIES = Annotated[
    list[str] | None,
    typer.Option(
        "--study",
        metavar="NAME",
        help="Only this study's trials; may be repeated. Default: all in the store.",
        rich_help_panel=OF_PAPER,
    ),
]
WHERE = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="FIELD=VALUE",
        help="Which of several candidates, by a field of the trial; may be repeated.",
        rich_help_panel=OF_PAPER,
    ),
]
METRIC = Annotated[
    str | None,
    typer.Option(
        metavar="METRIC", help="Any metric the trials have. Default: probe/top1, the paper's.", rich_help_panel=OF_PAPER
    ),
]
MARGIN = Annotated[
    float | None,
    typer.Option(
        metavar="MARGIN",
        help="Largest difference that counts as none. Default: 0.02, two points.",
        rich_help_panel=OF_PAPER,
    ),
]
CONFIDENCE = Annotated[
    float | None,
    typer.Option(metavar="LEVEL", help="Level of intervals and verdicts. Default: 0.95.", rich_help_panel=OF_PAPER),
]
FORMAT = Annotated[
    Format | None,
    typer.Option("--format", help="Default: what FILE ends in, else md.", rich_help_panel=OF_PAPER),
]


def report(
    target: TARGET,
    output: OUTPUT = None,
    overrides: SET = None,
    studies: STUDIES = None,
    where: WHERE = None,
    metric: METRIC = None,
    margin: MARGIN = None,
    confidence: CONFIDENCE = None,
    form: FORMAT = None,
) -> None:
    """Write a study's page, or make a table or figure of the paper from whatever the tracking store has.

    STUDY: comparison, figures, cost and provenance as one HTML file.

    table1, table2, figure3: from the finished trials of all studies in MLflow
    (MLFLOW_TRACKING_URI, else the home's own store). Two readings of the paper
    are never mixed: where the store has several candidates, the exit code is 2,
    and each is named with the --where that chooses it.

    figure3 --output figure3.png (or .svg) is the picture.
    """
    # Imported here so that other commands start without matplotlib, and those on files without MLflow.
    from hssl_ray.data.home import home
    from hssl_ray.study.file.yaml_source import STUDY_SUFFIXES

    paper_options = {
        "--study": studies,
        "--where": where,
        "--metric": metric,
        "--margin": margin,
        "--confidence": confidence,
        "--format": form,
    }
    of_the_paper = next((name for name in TARGETS if name == target), None)
    if of_the_paper is not None:
        from hssl_ray.cli.paper_report import Asked, write_paper

        _refuse({"--set": overrides}, f"belongs to a study file, got {target}")
        asked = Asked(
            of_the_paper,
            studies=tuple(studies or ()),
            where=tuple(where or ()),
            metric="probe/top1" if metric is None else metric,
            margin=0.02 if margin is None else margin,
            confidence=0.95 if confidence is None else confidence,
        )
        said = write_paper(asked, home(), output, form.value if form else None)
        typer.echo(said, nl=not said.endswith("\n"))
        return
    if not target.endswith(STUDY_SUFFIXES):
        from hssl_ray.study.file.problems import did_you_mean, shown
        from hssl_ray.study.file.yaml_source import nearby

        near = nearby(Path(target)) or did_you_mean(target, TARGETS)
        raise typer.BadParameter(f"must be a .yaml file, table1, table2 or figure3, got {shown(target)}{near}")

    from hssl_ray.cli.pages import write_page

    _refuse(paper_options, f"belongs to table1, table2 and figure3, got the study file {target}")
    typer.echo(str(write_page(Path(target), overrides or (), home(), output=output)))


def _refuse(options: Mapping[str, object], why: str) -> None:
    for name, given in options.items():
        if given is not None:
            raise typer.BadParameter(f"{name}: {why}")
