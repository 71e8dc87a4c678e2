"""`hssl-ray schema`: the study file described for editors and readers."""

from __future__ import annotations

import json
from typing import Annotated

import typer

MARKDOWN = Annotated[bool, typer.Option("--markdown", help="Print tables of all keys instead.")]


def schema(markdown: MARKDOWN = False) -> None:
    """Print the JSON Schema of study files.

    An editor with a YAML language server completes and checks a study that begins with
    `# yaml-language-server: $schema=schema.json`.
    """
    # Imported here so that other commands and `--help` need no models.
    from hssl_ray.study.file.schema import study_keys, study_schema

    typer.echo(study_keys() if markdown else json.dumps(study_schema(), indent=2), nl=not markdown)
