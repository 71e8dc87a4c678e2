"""`hssl-ray similarity STUDY`: did the two methods make the same network?"""

from __future__ import annotations

import typer

from hssl_ray.cli.codes import DATA, INVALID
from hssl_ray.cli.compare import JSON, SET, STUDY


def similarity(study: STUDY, json: JSON = False, overrides: SET = None) -> None:
    """Compare the trained networks of the study's two methods, stage by stage: linear CKA and orbit Procrustes.

    Reads the last checkpoints of finished trials, and names the others. Exit code 2 if the study never trains both
    methods in one setting, 3 if no seed has finished with both.
    """
    # Imported here so that other commands start without torch.
    from hssl_ray.cli.printed import console, print_notes, print_tables
    from hssl_ray.cli.programs import again
    from hssl_ray.cli.questions import question_of
    from hssl_ray.cli.readers import read_study
    from hssl_ray.data.home import home
    from hssl_ray.report import similarity as comparing

    reading = read_study(study, overrides or (), home())
    try:
        found = comparing.similarity(reading.results, question_of(reading.study), home())
    except comparing.NoPair as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(INVALID) from None
    except comparing.NothingFinished as error:
        typer.echo(f"{error}\nTrain them: {again('run', study, overrides or ())}", err=True)
        raise typer.Exit(DATA) from None
    if json:
        typer.echo(found.to_json())
        return
    to = console()
    print_tables(to, found.tables())
    print_notes(to, [*found.notes, *reading.notes()])
