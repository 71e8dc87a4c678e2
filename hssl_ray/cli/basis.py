"""`hssl-ray basis report | sweep`: what a steerable basis can do, and which to choose, before anything is trained."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hssl_ray.cli.compare import SET

if TYPE_CHECKING:
    from hssl_ray.method.basis_report import BasisSpec
    from hssl_ray.report.basis.uses import Uses

app = typer.Typer(help="Measure steerable bases before anything is trained.", no_args_is_help=True)

Kind = Literal["A", "B"]

STUDY = Annotated[Path | None, typer.Argument(metavar="[STUDY]", help="Study file; absent: the paper's networks.")]
KERNEL = Annotated[int | None, typer.Option("--kernel-size", help="One basis of your own: cells a side, odd.")]
EFFECTIVE = Annotated[int | None, typer.Option("--effective-size", help="Its orders along a side; absent: the kernel.")]
SCALES = Annotated[str | None, typer.Option("--scales", metavar="S,S,...", help="Ascending; absent: the paper's six.")]
KIND = Annotated[Kind, typer.Option("--kind", help="A: all pairs of orders; B: those up to 4 in all, on finer scales.")]
ROTATIONS = Annotated[int, typer.Option("--rotations", help="Turned copies of it: 1, 4 quarter turns, or 8 eighths.")]
KERNELS = Annotated[str, typer.Option("--kernel-sizes", metavar="K,K,...", help="Kernels to try, odd.")]
EFFECTIVES = Annotated[str, typer.Option("--effective-sizes", metavar="E,E,...", help="Effective sizes to try.")]
SMOOTHNESS = Annotated[
    float | None,
    typer.Option("--smoothness", metavar="PIXELS", help="Length over which the images correlate; absent: 3."),
]
JSON = Annotated[bool, typer.Option("--json", help="Print JSON of a stable schema instead of tables.")]
PAGE = Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Also write a page (.html).")]
OUTPUT = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Also write a page (.html) or a picture (.png).")
]


@app.command("report")
def report(
    study: STUDY = None,
    kernel_size: KERNEL = None,
    effective_size: EFFECTIVE = None,
    scales: SCALES = None,
    kind: KIND = "A",
    rotations: ROTATIONS = 1,
    smoothness: SMOOTHNESS = None,
    as_json: JSON = False,
    output: OUTPUT = None,
    overrides: SET = None,
) -> None:
    """Print rank, conditioning, norms, energy cut off and scale-shift residual of every basis in use.

    In use by a study, by the paper's networks, or the one that --kernel-size and its companions describe.
    """
    # Imported here so that other commands start without torch and matplotlib.
    from hssl_ray.cli.printed import console, print_notes, print_tables
    from hssl_ray.method.basis_report import SMOOTHNESS as USUAL
    from hssl_ray.method.basis_report import BasisSpec, basis_report
    from hssl_ray.method.geometry import PAPER_SCALES
    from hssl_ray.report.basis.page import basis_page, basis_png
    from hssl_ray.report.basis.tables import basis_notes, basis_tables
    from hssl_ray.report.basis.uses import in_words, paper_bases, study_bases
    from hssl_ray.study.spec import load_study

    described = effective_size is not None or scales is not None or kind != "A" or rotations != 1
    if (described and kernel_size is None) or (kernel_size is not None and study is not None):
        raise typer.BadParameter("a basis of your own is a --kernel-size with its companions and no STUDY")
    _check(output, (".html", ".png"))
    uses: Uses
    loaded = None if study is None else load_study(study, overrides or (), large=True)
    pixels = USUAL if smoothness is None else smoothness
    try:
        if kernel_size is not None:
            effective = kernel_size if effective_size is None else effective_size
            chosen = PAPER_SCALES if scales is None else _numbers(scales, "--scales")
            spec = BasisSpec(kernel_size, effective, chosen, kind, rotations)
            title, uses = "A basis of your own", {spec: {}}
        elif loaded is not None:
            title, uses = loaded.study, study_bases(loaded)
        else:
            title, uses = "The bases of the paper's networks", paper_bases()
        found = [(basis_report(spec, pixels), in_words(uses[spec])) for spec in sorted(uses, key=_order)]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if not found:
        raise typer.BadParameter("no network of the study has a steerable basis", param_hint="STUDY")
    if as_json:
        _print_json([{"used_by": names, **dataclasses.asdict(one)} for one, names in found])
    else:
        to = console()
        for one, names in found:
            if names:
                to.print(names, style="dim", soft_wrap=True)
            print_tables(to, basis_tables(one))
            print_notes(to, basis_notes(one))
            to.print()
    if output is not None:
        page = basis_page(title, found) if output.suffix == ".html" else basis_png([one for one, _ in found])
        _write(output, page, as_json)


@app.command("sweep")
def sweep(
    kernel_sizes: KERNELS = "5,7,9,11,13,15",
    effective_sizes: EFFECTIVES = "2,3,5,7,11",
    scales: SCALES = None,
    kind: KIND = "A",
    smoothness: SMOOTHNESS = None,
    as_json: JSON = False,
    output: PAGE = None,
) -> None:
    """Rank bases by their scale-shift residual, beside what they cost: the first thing to settle of a scale network."""
    # Imported here so that other commands start without torch and matplotlib.
    from hssl_ray.cli.printed import console, print_tables
    from hssl_ray.method.basis_report import SMOOTHNESS as USUAL
    from hssl_ray.method.basis_sweep import basis_sweep
    from hssl_ray.method.geometry import PAPER_SCALES
    from hssl_ray.report.basis.page import sweep_page
    from hssl_ray.report.basis.tables import sweep_table

    _check(output, (".html",))
    chosen = PAPER_SCALES if scales is None else _numbers(scales, "--scales")
    kernels, sizes = _counts(kernel_sizes, "--kernel-sizes"), _counts(effective_sizes, "--effective-sizes")
    pixels = USUAL if smoothness is None else smoothness
    try:
        candidates = basis_sweep(kernels, sizes, chosen, kind, pixels)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if as_json:
        _print_json([dataclasses.asdict(candidate) for candidate in candidates])
    else:
        print_tables(console(), [sweep_table(candidates, chosen, pixels)])
    if output is not None:
        _write(output, sweep_page(candidates, chosen, pixels), as_json)


def _order(spec: BasisSpec) -> tuple[int, BasisSpec]:
    """Many scales first, which have the most to say."""
    return -len(spec.scales), spec


def _check(output: Path | None, endings: tuple[str, ...]) -> None:
    """Refused before anything is computed."""
    if output is not None and output.suffix not in endings:
        raise typer.BadParameter(f"must end in {' or '.join(endings)}, got {output}", param_hint="--output")


def _numbers(text: str, option: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"must be numbers with commas between, got {text}", param_hint=option) from None


def _counts(text: str, option: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"must be whole numbers with commas between, got {text}", param_hint=option) from None


def _print_json(data: object) -> None:
    typer.echo(json.dumps(data, indent=2, allow_nan=False))


def _write(output: Path, content: str | bytes, quiet: bool) -> None:
    """Whole or not at all; the path is printed unless JSON was asked for, which stays alone."""
    # Imported here with the rest: it is needed by those who write alone.
    from hssl_ray.data.files import replacing

    with replacing(output) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
    if not quiet:
        typer.echo(str(output))
