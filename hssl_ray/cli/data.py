"""`hssl-ray data`: get data sets, list them, check them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hssl_ray.data.catalog import CATALOG, DatasetName

if TYPE_CHECKING:
    from hssl_ray.data.inventory import Entry

app = typer.Typer(help="Get, list and check data sets.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("prepare")
def prepare_command(
    name: Annotated[DatasetName, typer.Argument(help="Data set, by its name in `data list`.")],
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="Folder with the published files; absent means a download."),
    ] = None,
    target: Annotated[
        Path | None,
        typer.Option("--to", metavar="DIR", help="Folder to write to; absent means the one `data list` names."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Make it again although it is there.")] = False,
) -> None:
    """Make a data set's Parquet files and manifest from its published files.

    mnist-mini ships with the package; `prepare mnist-mini --from MNIST_DIR --to DIR` makes its files again.
    """
    # It imports torch, which takes seconds.
    from hssl_ray.data.prepare import prepare, prepare_mini

    info = CATALOG[name]
    if name != "mnist-mini":
        manifest = prepare(info, source, target, force=force, say=typer.echo)
    elif source is None and target is None:
        typer.echo("mnist-mini ships with the package: nothing to prepare")
        return
    elif source is None or target is None:
        raise typer.BadParameter("mnist-mini ships with the package; to make its files again, give --from and --to")
    else:
        manifest = prepare_mini(info, CATALOG["mnist"], source, target, say=typer.echo)
    size = (manifest.train.bytes + manifest.test.bytes) / 1e6
    typer.echo(
        f"{name}: {manifest.train.images:,} training and {manifest.test.images:,} test images, {size:.1f} MB of "
        f"Parquet, digest {manifest.digest[:16]}"
    )


@app.command("list")
def list_command(as_json: Json = False) -> None:
    """List the data sets and where they are."""
    # They import pyarrow and rich; `--help` and commands that print JSON should not wait for that.
    from rich.console import Console
    from rich.table import Table

    from hssl_ray.data.inventory import inventory

    entries = inventory()
    if as_json:
        typer.echo(json.dumps([_row(entry) for entry in entries], indent=1))
        return
    table = Table("name", "state", "train", "test", "image", "classes", "licence", box=None)
    for entry in entries:
        info = entry.info
        table.add_row(
            info.name,
            entry.state,
            f"{info.train_images:,}",
            f"{info.test_images:,}",
            f"{info.channels}x{info.size}x{info.size}",
            str(info.classes),
            info.licence,
        )
    Console().print(table)
    for entry in entries:
        if entry.problem:
            typer.echo(entry.problem)
    if any(entry.state == "absent" for entry in entries):
        typer.echo("Get one with: hssl-ray data prepare NAME [--from DIR]")


@app.command("verify")
def verify_command(
    name: Annotated[DatasetName | None, typer.Argument(help="Data set; absent means all that are here.")] = None,
    as_json: Json = False,
) -> None:
    """Read every byte again and hold it against the manifest. Exit code 3 if something differs."""
    # As in `list`.
    from hssl_ray.data.inventory import inventory, verify

    names = [name] if name else [entry.info.name for entry in inventory() if entry.state != "absent"]
    outcomes = [verify(each) for each in names]
    if as_json:
        rows = [
            {"name": each.name, "whole": each.whole, "directory": str(each.directory), "problems": each.problems}
            for each in outcomes
        ]
        typer.echo(json.dumps(rows, indent=1))
    else:
        for each in outcomes:
            typer.echo(f"{each.name}: {'whole' if each.whole else 'damaged'} ({each.directory})")
            for problem in each.problems:
                typer.echo(f"  {problem}")
    if not all(each.whole for each in outcomes):
        raise typer.Exit(3)


def _row(entry: Entry) -> dict[str, Any]:
    info, manifest = entry.info, entry.manifest
    return {
        "name": info.name,
        "state": entry.state,
        "train_images": info.train_images,
        "test_images": info.test_images,
        "shape": [info.channels, info.size, info.size],
        "classes": info.classes,
        "licence": info.licence,
        "directory": str(entry.directory),
        "digest": manifest.digest if manifest else None,
        "source": manifest.source if manifest else None,
        "problem": entry.problem or None,
    }
