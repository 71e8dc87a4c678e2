"""Rules between the sections of a study: what no section can see alone. Each function yields faults with their place.

TrialConfig's own rules are applied to every grid cell, and to the corners of the search space inside it, so that a
contradiction is found before a trial is spent.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from hssl_ray.study.file.messages import Fault, faults
from hssl_ray.study.file.problems import shown
from hssl_ray.study.file.sections import Range, outside
from hssl_ray.study.file.yaml_source import Loc
from hssl_ray.trial.config import TrialConfig

if TYPE_CHECKING:
    from hssl_ray.study.spec import Cell, Study

FREE_TRIALS = 10_000
"""More trials than this need a word from the user."""

MOST_TRIALS = 1_000_000
_MOST_CHECKS = 20_000  # points of a search space tried at load, about a second


def study_faults(study: Study, limit: int, *, written: bool) -> Iterator[Fault]:
    """Every fault between sections.

    Args:
        study: sections that are valid by themselves.
        limit: the number of trials allowed.
        written: the study's set keys are those of a file, where a comparison that was asked for must be possible.
    """
    placed = list(_placed_twice(study))
    repeated = list(_repeated(study))
    yield from placed
    yield from repeated
    if written and "compare" in study.model_fields_set:
        yield from _compared_methods(study)
    yield from _searched_first(study)
    yield from _raced(study)
    if study.trial_count > limit:
        rest = f"more than {limit:,} are not possible" if limit >= MOST_TRIALS else f"more than {limit:,} need --yes"
        yield _largest_axis(study), f"{study.trial_count:,} trials in all; {rest}"
    elif not placed and not repeated:
        yield from _shared_batches(study)
        yield from _same_cells(study)
        yield from _cells(study) if study.search is None else _searched_cells(study)


def _shared_batches(study: Study) -> Iterator[Fault]:
    """Workers share a batch evenly, so that one worker and several compute the same."""
    workers = study.resources.workers
    searched = study.search.space.get("batch_size") if study.search else None
    match searched:
        case None:
            default = TrialConfig.model_fields["batch_size"].default
            sizes = [
                size for axes in study.axes for size in axes.get("batch_size", [study.base.get("batch_size", default)])
            ]
        case Range(low=low, step=step):
            sizes = [low, low + (step or 1)]
        case _:
            sizes = searched
    uneven = [size for size in sizes if size % workers]
    if uneven:
        yield ("resources", "workers"), f"must divide batch_size = {uneven[0]}, got {workers}"


def _placed_twice(study: Study) -> Iterator[Fault]:
    homes: list[tuple[Loc, Mapping[str, Any]]] = [(("base",), study.base), (("grid",), study.grid)]
    fields_of_cases = {name: case[name] for case in study.cases or () for name in case}
    homes.append((("cases",), fields_of_cases))
    if study.search is not None:
        homes.append((("search", "space"), study.search.space))
    for (first, below), (second, above) in itertools.combinations(homes, 2):
        for name in above:
            if name in below:
                place = (*_first_case(study, name), name) if second == ("cases",) else (*second, name)
                yield place, f"is set in {'.'.join(map(str, first))} too; a field stands in one place"


def _first_case(study: Study, name: str) -> Loc:
    return "cases", next(index for index, case in enumerate(study.cases or ()) if name in case)


def _repeated(study: Study) -> Iterator[Fault]:
    lists: list[tuple[Loc, Sequence[Any]]] = [(("grid", name), values) for name, values in study.grid.items()]
    for index, case in enumerate(study.cases or ()):
        lists += [(("cases", index, name), values) for name, values in case.items() if isinstance(values, list)]
    lists.append((("seeds",), study.seeds if isinstance(study.seeds, list) else ()))
    if study.search is not None:
        axes = study.search.space.items()
        lists += [(("search", "space", name), axis) for name, axis in axes if isinstance(axis, list)]
    for loc, values in lists:
        first: dict[Any, int] = {}
        for index, value in enumerate(values):
            if first.setdefault(value, index) != index:
                yield (*loc, index), f"given twice, first as item {first[value] + 1}, got {shown(value)}"


def _searched_first(study: Study) -> Iterator[Fault]:
    """What a search is given before it draws."""
    if (search := study.search) is None:
        return
    place: Loc = ("search", "points_to_evaluate")
    points = search.points_to_evaluate or []
    if len(points) > search.trials:
        yield place, f"must be at most search.trials = {search.trials} points, got {len(points)}"
    seen: dict[tuple[tuple[str, Any], ...], int] = {}
    for index, point in enumerate(points):
        yield from (((*place, index), f"lacks {name}") for name in search.space if name not in point)
        for name, value in point.items():
            if name not in search.space:
                yield (*place, index, name), "is not in search.space, so no point has it"
            elif rule := outside(search.space[name], value):
                yield (*place, index, name), f"{rule}, got {shown(value)}"
        if (first := seen.setdefault(tuple(sorted(point.items())), index)) != index:
            yield (*place, index), f"given twice, first as item {first + 1}"
    if search.warm_start == study.study:
        yield ("search", "warm_start"), f"must be another study, got {shown(search.warm_start)}"
    if search.warm_start is not None and search.sampler in ("random", "qmc"):
        yield ("search", "warm_start"), f"{search.sampler} looks at no results, so there is nothing to start from"


def _raced(study: Study) -> Iterator[Fault]:
    if study.race is None:
        return
    if study.search is not None:
        yield ("seeds",), "a race cannot go with a search, which judges a suggestion by all of its seeds"
    elif study.cell_count <= MOST_TRIALS and not study.pairs:
        sides = f"{study.compare.baseline} and {study.compare.against}"
        yield ("seeds",), f"a race needs cells of {sides} that differ in the method alone, and there are none"


def _compared_methods(study: Study) -> Iterator[Fault]:
    default = study.base.get("method", TrialConfig.model_fields["method"].default)
    methods = list(dict.fromkeys(method for axes in study.axes for method in axes.get("method", [default])))
    for side in ("baseline", "against"):
        method = getattr(study.compare, side)
        if method not in methods:
            yield ("compare", side), f"must be a method of this study ({', '.join(methods)}), got {shown(method)}"


def _largest_axis(study: Study) -> Loc:
    sizes: dict[Loc, int] = {("grid", name): len(values) for name, values in study.grid.items()}
    if study.cases is not None:
        sizes["cases",] = len(study.cases)
    sizes["seeds",] = study.race.at_most if study.race else len(study.seed_list)
    if study.search is not None:
        sizes["search", "trials"] = study.search.trials
    return max(sizes, key=lambda loc: sizes[loc])


def _first_fault(settings: Mapping[str, Any]) -> tuple[str, str] | None:
    """The field and the rule that TrialConfig finds broken first; None where the settings make a trial."""
    try:
        TrialConfig(**settings)
    except ValidationError as error:
        loc, rule = next(faults(error))
        return str(loc[0]) if loc else "", rule
    return None


@dataclass
class _Gathered:
    """Equal faults of several cells as one, with the first cell's name and the number of others."""

    found: dict[Fault, list[str]] = field(default_factory=dict)

    def add(self, loc: Loc, rule: str, cell: str) -> None:
        self.found.setdefault((loc, rule), []).append(cell)

    def faults(self, alone: bool) -> Iterator[Fault]:
        for (loc, rule), cells in self.found.items():
            more = f" and {len(cells) - 1} more" if len(cells) > 1 else ""
            yield loc, rule if alone else f"{rule} (cell {cells[0]}{more})"


def _same_cells(study: Study) -> Iterator[Fault]:
    """Cases may overlap in a file written in a hurry; a cell that stands in two would be counted twice."""
    first: dict[tuple[tuple[str, Any], ...], Cell] = {}
    for cell in study.cells() if study.cases else ():
        known = first.setdefault(tuple(sorted(cell.settings.items())), cell)
        if known is not cell and cell.case is not None and known.case is not None:
            yield ("cases", cell.case), f"repeats cell {cell.name} of item {known.case + 1}"
            return


def _cells(study: Study) -> Iterator[Fault]:
    gathered = _Gathered()
    cells = study.cells()
    for cell in cells:
        for loc, rule in _cell_faults(study, cell):
            gathered.add(loc, rule, cell.name)
    yield from gathered.faults(alone=len(cells) == 1)


def _cell_faults(study: Study, cell: Cell) -> Iterator[Fault]:
    """TrialConfig stops at its first rule, so each culprit is set aside to find the next."""
    settings = dict(cell.settings)
    while (fault := _first_fault(settings)) is not None:
        culprit, rule = fault
        if culprit not in settings and culprit in cell.settings:
            return  # set aside already; its default is not the user's fault
        yield _blame(study, cell, settings, culprit, rule)
        if culprit not in settings:
            return
        del settings[culprit]


def _blame(study: Study, cell: Cell, settings: Mapping[str, Any], culprit: str, rule: str) -> Fault:
    """The place of a culprit. One that has its default is not in the file: blame the field that clashes with it."""
    if culprit in settings:
        return _place(study, cell, culprit, settings[culprit]), rule
    for name in settings:
        without = {key: value for key, value in settings.items() if key != name}
        if _first_fault(without) != (culprit, rule):
            return _place(study, cell, name, settings[name]), f"makes the default of {culprit} wrong: it {rule}"
    return ("base",), f"the default of {culprit} is wrong: it {rule}"


def _place(study: Study, cell: Cell, name: str, value: Any) -> Loc:
    if name in study.grid:
        return "grid", name, study.grid[name].index(value)
    if cell.case is not None and study.cases is not None and name in (case := study.cases[cell.case]):
        written = case[name]
        return (
            ("cases", cell.case, name, written.index(value))
            if isinstance(written, list)
            else ("cases", cell.case, name)
        )
    if study.search is None or name not in study.search.space:
        return "base", name
    return "search", "space", name, _ends(study.search.space[name])[value]


def _ends(axis: list[Any] | Range[Any]) -> dict[Any, int | str]:
    """The values of an axis that must be possible, and where they stand: every choice, or both ends."""
    if isinstance(axis, Range):
        return {axis.low: "low", axis.high: "high"}
    return {value: index for index, value in enumerate(axis)}


class _Checks:
    """Tries points of a search space, up to a budget; beyond it nothing is claimed."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.left = _MOST_CHECKS
        self.possible: set[tuple[str, Any]] = set()  # values seen in a point that makes a trial
        self.impossible: dict[tuple[str, Any], Fault] = {}

    def try_point(self, cell: Cell, point: Mapping[str, Any]) -> Fault | None:
        """None, with every value marked as possible, or the fault of the point."""
        self.left -= 1
        settings = {**cell.settings, **point}
        if (fault := _first_fault(settings)) is None:
            self.possible.update(point.items())
            return None
        culprit, rule = fault
        placed = _blame(self.study, cell, settings, culprit, rule)
        if culprit in point:
            self.impossible.setdefault((culprit, point[culprit]), placed)
        return placed


def _searched_cells(study: Study) -> Iterator[Fault]:
    """Every cell must have a possible point, every choice and every end of a range must be possible in some cell."""
    assert study.search is not None
    axes = {name: list(_ends(axis)) for name, axis in study.search.space.items()}
    checks, gathered, cells = _Checks(study), _Gathered(), study.cells()
    for cell in cells:
        fault, tried_all = _cell_without_point(checks, cell, axes)
        if fault is not None and tried_all:
            gathered.add(*fault, cell.name)
    yield from gathered.faults(alone=len(cells) == 1)
    if gathered.found:
        return
    for index, point in enumerate(study.search.points_to_evaluate or ()):
        if point.keys() == axes.keys() and all(_first_fault({**cell.settings, **point}) for cell in cells):
            culprit, rule = _first_fault({**cells[0].settings, **point}) or ("", "")
            yield ("search", "points_to_evaluate", index), f"makes no trial in any cell: {culprit} {rule}"
    for (name, value), fault in list(checks.impossible.items()):
        if (name, value) not in checks.possible and _is_impossible(checks, cells, axes, name, value):
            yield fault


def _cell_without_point(checks: _Checks, cell: Cell, axes: dict[str, list[Any]]) -> tuple[Fault | None, bool]:
    """The first fault of a cell none of whose points makes a trial, and whether all of them were tried."""
    first: Fault | None = None
    found = False
    start = {name: values[0] for name, values in axes.items()}
    star = ({**start, name: value} for name, values in axes.items() for value in values)
    for point in star:
        if checks.left <= 0:
            return None, False
        fault = checks.try_point(cell, point)
        found = found or fault is None
        first = first or fault
    if found:
        return None, True
    for values in itertools.product(*axes.values()):
        if checks.left <= 0:
            return None, False
        if checks.try_point(cell, dict(zip(axes, values, strict=True))) is None:
            return None, True
    return first, True


def _is_impossible(checks: _Checks, cells: Sequence[Cell], axes: dict[str, list[Any]], name: str, value: Any) -> bool:
    """Whether a value makes no trial in any cell, whatever the other axes; False when the budget ends first."""
    others = {key: values for key, values in axes.items() if key != name}
    for cell in cells:
        for values in itertools.product(*others.values()):
            if (
                checks.left <= 0
                or checks.try_point(cell, {**dict(zip(others, values, strict=True)), name: value}) is None
            ):
                return False
    return True
