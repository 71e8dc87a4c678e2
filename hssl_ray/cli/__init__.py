"""The command line: `hssl-ray plan | run | submit | status | compare | up | down | doctor | data ...`.

Commands import what they need when they run, so that `--help` and `plan` start without torch, Ray or MLflow.
"""

from __future__ import annotations

import gc
import sys

import typer

from hssl_ray import __version__
from hssl_ray.cli.basis import app as basis_app
from hssl_ray.cli.compare import compare
from hssl_ray.cli.data import app as data_app
from hssl_ray.cli.doctor import doctor
from hssl_ray.cli.plan import plan
from hssl_ray.cli.reconcile import reconcile
from hssl_ray.cli.report import report
from hssl_ray.cli.run import run
from hssl_ray.cli.schema import schema
from hssl_ray.cli.similarity import similarity
from hssl_ray.cli.status import status
from hssl_ray.cli.submit import submit
from hssl_ray.cli.sync import sync
from hssl_ray.cli.up import down, up
from hssl_ray.study.ray.garbage import collect_seldom

app = typer.Typer(
    name="hssl-ray",
    help="Self-supervised learning on equivariant networks: one study file in, one A-SSL / H-SSL comparison out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"hssl-ray {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    pass


app.command()(plan)
app.command()(run)
app.command()(submit)
app.command()(status)
app.command()(compare)
app.command()(similarity)
app.command()(report)
app.command()(sync)
app.command()(reconcile)
app.command()(up)
app.command()(down)
app.command()(doctor)
app.command()(schema)
app.add_typer(data_app, name="data")
app.add_typer(basis_app, name="basis")


def main() -> None:
    """Entry point: errors meant for people are one line and an exit code, never a traceback."""
    collect_seldom()
    try:
        app()
    except Exception as error:
        # Imported here: it knows the errors of every room, and a command that ends well needs none of them.
        from hssl_ray.cli.errors import exit_code

        code = exit_code(error)
        if code is None:
            raise
        sys.stderr.write(f"{error}\n")
        sys.exit(code)
    finally:
        gc.freeze()  # else Python searches all that was imported for garbage once more at its end, for up to 2 s
