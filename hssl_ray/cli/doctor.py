"""`hssl-ray doctor`: what is wrong with this machine, and how to mend it."""

from __future__ import annotations

import json as json_text
import os
from dataclasses import asdict

import typer

from hssl_ray.cli.codes import UNEXPECTED
from hssl_ray.cli.compare import JSON

SCHEMA = "hssl-ray/doctor/1"
COLOURS = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def doctor(json: JSON = False) -> None:
    """Look at versions, hardware, disk, data sets, Ray, MLflow and variables, and say how to mend what is wrong.

    Changes nothing. Exit codes: 0 studies can run here, with or without warnings; 1 something keeps them from it.
    """
    # Imported here: torch and MLflow take seconds.
    from rich.text import Text

    from hssl_ray.cli.printed import console
    from hssl_ray.data.home import home
    from hssl_ray.machine.adoption import use_services
    from hssl_ray.machine.connections import connections
    from hssl_ray.machine.hardware import hardware
    from hssl_ray.machine.software import software
    from hssl_ray.machine.storage import storage
    from hssl_ray.study.tracker.tracked import tracking_uri

    root, to = home(), console()
    use_services(os.environ, root, strict=False)
    found = []
    for finding in (
        one
        for room in (software(), hardware(), storage(root), connections(root, os.environ, tracking_uri(root)))
        for one in room
    ):
        found.append(finding)
        if not json:
            mend = f"\n         mend: {finding.mend}" if finding.mend else ""
            line = Text.assemble(
                (f"{finding.level:<8}", COLOURS[finding.level]), f" {finding.subject}: {finding.said}{mend}"
            )
            to.print(line, soft_wrap=True)
    problems = sum(one.level == "problem" for one in found)
    warnings = sum(one.level == "warning" for one in found)
    if json:
        report = {"schema": SCHEMA, "problems": problems, "findings": [asdict(one) for one in found]}
        typer.echo(json_text.dumps(report, indent=1))
    else:
        to.print(f"\n{problems} problems, {warnings} warnings", style="bold")
    if problems:
        raise typer.Exit(UNEXPECTED)
