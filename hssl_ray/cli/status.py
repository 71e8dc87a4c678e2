"""`hssl-ray status STUDY`: how far is it, and what went wrong?"""

from __future__ import annotations

from typing import Annotated

import typer

from hssl_ray.cli.compare import ALL, JSON, SET, STUDY

WATCH = Annotated[bool, typer.Option("--watch", help="Go on showing it until the study is done, or Ctrl-C.")]


def status(
    study: STUDY, watch: WATCH = False, json: JSON = False, everything: ALL = False, overrides: SET = None
) -> None:
    """Count the study's trials by state and cell, name those that ended badly, and say how to go on.

    Reads files only, so it works with the cluster down. More than 50 cells are counted by what became of them. The
    exit code is 0 whatever the states are.

    With --watch a terminal shows in place what runs, how fast, what is best and who runs it; without a terminal every
    change is a line. It ends when the study is done, when the run that it watches ends, or on Ctrl-C.
    """
    if watch:
        if json or everything:
            raise typer.BadParameter("--watch shows a terminal's view: leave out --json and --all")
        from hssl_ray.cli.watch import watch as watched  # as below

        watched(study, overrides or ())
        return
    # Imported here so that other commands start without pyarrow.
    from hssl_ray.cli.collector import no_collection
    from hssl_ray.cli.printed import console, print_notes, print_tables
    from hssl_ray.cli.programs import again
    from hssl_ray.cli.readers import read_study
    from hssl_ray.data.home import home
    from hssl_ray.report.progress import progress

    with no_collection():
        reading = read_study(study, overrides or (), home(), lambda study: ("epoch",))
    counted = progress(reading.results, reading.study.study, reading.stopped)
    if json:
        typer.echo(counted.to_json())
        return
    to = console()
    print_tables(to, counted.tables(everything=everything))
    to.print(counted.sentence(), style="bold")
    print_notes(to, reading.notes())
    if counted.left:
        to.print(f"\nContinue: {again('run', study, overrides or ())}")
    to.print(f"Compare:  {again('compare', study, overrides or ())}")
