"""`hssl-ray plan STUDY`: what a study will run, what it will cost, what its seeds can show. Starts without torch."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hssl_ray.cli.codes import INVALID

if TYPE_CHECKING:
    from rich.console import Console

    from hssl_ray.study.forecast import Forecast
    from hssl_ray.study.spec import Study

_MOST_ROWS = 50
_PIPE_WIDTH = 200  # columns of a pipe or a file, where nothing should be folded

STUDY = Annotated[Path, typer.Argument(metavar="STUDY", help="Study file.")]
JSON = Annotated[bool, typer.Option("--json", help="Print JSON: the forecast, the resolved study and every trial.")]
SET = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change the study, e.g. `base.epochs=1`; may be repeated."),
]
YES = Annotated[bool, typer.Option("--yes", help="Allow more than 10,000 trials.")]
PROBE = Annotated[bool, typer.Option("--probe", help="Measure this machine's speed for a few seconds (imports torch).")]
THROUGHPUT = Annotated[
    float | None,
    typer.Option("--throughput", metavar="GMAC/S", min=1e-6, max=1e12, help="Speed to compute hours from."),
]
SD = Annotated[
    float | None,
    typer.Option("--sd", min=1e-9, max=1e9, help="Assumed standard deviation of the compared metric between seeds."),
]


def plan(
    study: STUDY,
    as_json: JSON = False,
    overrides: SET = None,
    yes: YES = False,
    probe: PROBE = False,
    throughput: THROUGHPUT = None,
    sd: SD = None,
) -> None:
    """Check a study file and print its cells, its trials, its cost and what its seeds can show. Runs nothing.

    Exit codes: 0 the study is valid, 2 it is not; then every mistake is one line `file:line:column: key: rule, value`.
    """
    # Imported here so that other commands and `--help` need no models.
    from hssl_ray.study.file.problems import StudyError
    from hssl_ray.study.forecast import DEFAULT_SD, DEFAULT_THROUGHPUT, forecast
    from hssl_ray.study.spec import load_study

    try:
        loaded = load_study(study, overrides or (), large=yes)
    except StudyError as error:
        if as_json:
            _print_json({"problems": [dataclasses.asdict(problem) for problem in error.problems]})
        else:
            typer.echo(str(error), err=True)
        raise typer.Exit(INVALID) from None
    source = "stated" if throughput else "measured just now" if probe else "usual for two cores; --probe measures yours"
    speed = throughput or (_probed(loaded) if probe else DEFAULT_THROUGHPUT)
    found = forecast(loaded, speed, sd or DEFAULT_SD)
    if as_json:
        _print_json(_report(loaded, found, source))
    else:
        _print_tables(loaded, found, source)


def _probed(study: Study) -> float:
    # Imported here: torch takes seconds, which only `--probe` is ready to wait for.
    from hssl_ray.study.forecast import dearest_trial
    from hssl_ray.study.speed_probe import probe_throughput

    return probe_throughput(dearest_trial(study), study.resources)


def _report(study: Study, found: Forecast, source: str) -> dict[str, Any]:
    trials = [{"trial_id": t.trial_id, "name": t.name, "cell": t.cell} for t in study.planned()]
    return {
        "study": study.model_dump(mode="json"),
        "digest": study.digest,
        "throughput_source": source,
        **dataclasses.asdict(found),
        "planned": trials,
    }


def _print_json(data: dict[str, Any]) -> None:
    typer.echo(json.dumps(data, indent=2, allow_nan=False))


def _print_tables(study: Study, found: Forecast, source: str) -> None:
    # Imported here: only a person needs a table.
    from rich.console import Console
    from rich.table import Table

    to = Console(highlight=False, markup=False)
    if not to.is_terminal:
        to = Console(highlight=False, markup=False, width=_PIPE_WIDTH)
    searched = f", {study.search.trials} suggestions in each" if study.search else ""
    seeds, trials = _count(len(study.seed_list), "seed"), _count(found.trials, "trial")
    if (race := study.race) is not None:
        seeds, trials = f"{race.start} to {race.at_most} seeds", f"{found.least_trials:,} to {found.trials:,} trials"
    to.print(
        f"{study.study}: {trials} = {_count(study.cell_count, 'cell')} x {seeds}{searched}",
        style="bold",
    )
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("cell", overflow="fold")
    for name in ("trials", "grid", "parameters", "GMAC/image", "passes", "epochs", "steps", "GMAC"):
        table.add_column(name, justify="right")
    for cell in found.cells[:_MOST_ROWS]:
        numbers = (
            f"{cell.trials:,}",
            f"{cell.grid} x {cell.grid}",
            f"{cell.parameters:,}",
            f"{cell.gmac_per_image:.4f}",
        )
        steps = f"{cell.epochs * cell.steps_per_epoch:,}"
        table.add_row(cell.name, *numbers, str(cell.forward_passes), f"{cell.epochs:,}", steps, f"{cell.gmac:,.0f}")
    to.print(table)
    if (more := len(found.cells) - _MOST_ROWS) > 0:
        to.print(f"... and {_count(more, 'cell')} more; --json lists them")
    _print_summary(to, found, source)


def _print_summary(to: Console, found: Forecast, source: str) -> None:
    about, hours = "at most" if found.at_most else "about", _duration(found.hours)
    if found.least_trials < found.trials:
        about, hours = f"{found.least_gmac:,.0f} to", f"{_duration(found.least_hours)} to {hours}"
    to.print(
        f"\nCost: {about} {found.gmac:,.0f} GMAC, {hours} at {found.throughput:,.0f} GMAC/s ({source})"
        f"; checkpoints {_bytes(found.checkpoint_bytes)}",
        soft_wrap=True,
    )
    power = found.power
    to.print(
        f"Power: if {power.metric} varies by {power.sd:g} between seeds (--sd), {_count(power.seeds, 'seed')} a cell"
        + _power_clause(found),
        soft_wrap=True,
    )
    for warning in found.warnings:
        to.print(f"Warning: {warning}", style="yellow", soft_wrap=True)


def _power_clause(found: Forecast) -> str:
    power = found.power
    needed = "more than 100,000 seeds" if power.seeds_for_margin is None else _count(power.seeds_for_margin, "seed")
    shows = f"equivalence within {power.margin:g} takes {needed}"
    if power.detectable_difference is None or power.provable_margin is None:
        return f" can show nothing; {shows}"
    return (
        f" find a difference of {power.detectable_difference:.4f} and show equivalence within "
        f"{power.provable_margin:.4f}, each with 80 % power; {shows}"
    )


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _duration(hours: float) -> str:
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    if hours < 1:
        return f"{hours * 60:.0f} min"
    if hours < 48:
        return f"{hours:.1f} h"
    days = hours / 24
    return f"{days:,.0f} days" if days < 730 else f"{days / 365:,.0f} years"


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:,.1f} TB"
