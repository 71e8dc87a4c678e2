"""What another study found out about the points of a search: its finished trials that a cell could have made itself."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import ValidationError

from hssl_ray.study.file.problems import WarmStartError
from hssl_ray.study.file.sections import Search, outside
from hssl_ray.study.ledger import History, read_history
from hssl_ray.study.spec import Cell
from hssl_ray.trial.config import TrialConfig

Point = tuple[dict[str, Any], float]
"""Values of the searched fields, and the mean of the search's metric over the other study's seeds."""


def history_of(home: Path, study: str, search: Search) -> History:
    """The history of the study that a search starts from.

    Raises:
        WarmStartError: it has none.
    """
    history = read_history(home, study, (search.metric,))
    if history.digest is None:
        raise WarmStartError(f'search.warm_start: no study of this name has run here, got "{study}"')
    return history


def fitting(history: History, search: Search, cell: Cell) -> list[Point]:
    """The points of another study, suggested or planned, that lie in the space and agree with the cell in all else.

    A point counts when every seed of it has finished and has the metric: as a suggestion of the study's own would.
    """
    seeds: dict[str, list[float | None]] = {}
    configs: dict[str, TrialConfig] = {}
    for trial in history.trials().values():
        one = trial.config.model_copy(update={"seed": 0})
        outcome = history.outcomes.get(trial.trial_id)
        finished = outcome is not None and outcome.state == "finished"
        value = outcome.metrics.get(search.metric) if outcome is not None and finished else None
        configs[one.trial_id] = one
        seeds.setdefault(one.trial_id, []).append(value)
    found = []
    for identity, values in seeds.items():
        point = _point(configs[identity], search, cell)
        known = [value for value in values if value is not None]
        if point is not None and len(known) == len(values):
            found.append((point, fmean(known)))
    return found


def _point(config: TrialConfig, search: Search, cell: Cell) -> dict[str, Any] | None:
    """The searched fields of a trial, if the cell would make the same trial of them."""
    point = {name: getattr(config, name) for name in search.space}
    if any(outside(axis, point[name]) for name, axis in search.space.items()):
        return None
    try:
        own = TrialConfig(**{**cell.settings, **point})
    except ValidationError:
        return None
    return point if own.trial_id == config.trial_id else None
