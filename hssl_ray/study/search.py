"""Suggestions for the searched fields of one cell, by Optuna's samplers. The one file that imports optuna.

A suggestion depends on the seed, the cell and the history alone: each is drawn from a fresh Optuna study that holds the
history, so a driver that died and came back goes on as if it had not. Nothing that Optuna stores is kept on disk.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from pydantic import ValidationError

from hssl_ray.study.problems import SamplerUnavailable
from hssl_ray.study.sections import Range, Search, missing_package
from hssl_ray.study.spec import Cell
from hssl_ray.trial.config import TrialConfig

State = Literal["running", "finished", "pruned", "failed"]

_MOST_ATTEMPTS = 100  # draws that violate a constraint or repeat, before the sampler is given up for this suggestion
_MOST_POINTS = 10_000  # points of a space that are listed one by one


@dataclass(frozen=True)
class Suggestion:
    """Values for the searched fields; `number` counts the suggestions of a cell from 0."""

    number: int
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Past:
    """A suggestion made before, as the ledger has it: its state, and its value where it has one."""

    suggestion: Suggestion
    state: State = "running"
    value: float | None = None


@dataclass
class Sampler:
    """Asks and tells for one cell of a study.

    Every suggestion makes a valid trial and differs from all earlier ones of the cell. `value` is the mean of
    `search.metric` over the seeds.

    Raises:
        SamplerUnavailable: at construction.
    """

    search: Search
    cell: Cell
    seed: int
    _past: dict[int, Past] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if package := missing_package(self.search.sampler):
            raise SamplerUnavailable(
                f"search.sampler: {self.search.sampler} needs the package {package}, which is not installed"
            )
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._axes = {name: _distribution(axis) for name, axis in self.search.space.items()}

    def replay(self, past: Iterable[Past]) -> None:
        """Take over suggestions that were made before, in any order."""
        self._past |= {one.suggestion.number: one for one in past}

    def ask(self) -> Suggestion | None:
        """The next suggestion, from now on running; None when `search.trials` are made or no point is left."""
        if len(self._past) >= self.search.trials:
            return None
        settings = self._sample()
        if settings is None:
            settings = self._untried()
        if settings is None:
            return None
        suggestion = Suggestion(max(self._past, default=-1) + 1, settings)
        self._past[suggestion.number] = Past(suggestion)
        return suggestion

    def tell(self, number: int, value: float | None, state: State = "finished") -> None:
        """The outcome of a suggestion: finished or pruned with its value, or failed.

        A value that is missing or not finite is a failure whatever the state says; a suggestion told again has its
        newest outcome.
        """
        usable = value is not None and math.isfinite(value) and state in ("finished", "pruned")
        self._past[number] = Past(
            self._past[number].suggestion, state if usable else "failed", value if usable else None
        )

    def _sample(self) -> dict[str, Any] | None:
        """A new point from the sampler; None if it keeps on repeating itself or violating constraints."""
        study = self._study()
        known = {_key(one.suggestion.settings): one for one in self._past.values()}
        sequence = self.search.sampler == "qmc"  # a fixed sequence of points: skip those that are used
        for _ in range(_MOST_ATTEMPTS + (len(known) if sequence else 0)):
            trial = study.ask(self._axes)
            settings = dict(trial.params)
            one = known.get(_key(settings))
            if one is None and self._makes_trial(settings):
                return settings
            if sequence:
                study.tell(trial, 0.0)
            elif one is not None and one.state == "finished":
                study.tell(trial, one.value)  # answered from the trial that has run
            else:
                study.tell(trial, state=TrialState.FAIL)
        return None

    def _study(self) -> optuna.Study:
        """A fresh Optuna study in which the history has happened."""
        study = optuna.create_study(direction=self.search.goal, sampler=self._optuna_sampler())
        past = [self._past[number] for number in sorted(self._past)]
        match self.search.sampler:
            case "qmc" | "random":
                pass  # neither looks at what was drawn before, and of thousands telling it takes seconds each time
            case "cmaes":
                # CMA-ES keeps its state in the trials it made itself, so it has to make them again.
                for one in past:
                    study.enqueue_trial(dict(one.suggestion.settings))
                    trial = study.ask(self._axes)
                    _ = trial.relative_params  # lazy: this is what makes CMA-ES note the trial's generation
                    if one.state == "finished":
                        study.tell(trial, one.value)
                    elif one.state != "running":
                        study.tell(trial, state=TrialState.FAIL)
            case _:
                study.add_trials([self._optuna_trial(one) for one in past])
        return study

    def _optuna_trial(self, one: Past) -> optuna.trial.FrozenTrial:
        states = {
            "running": TrialState.RUNNING,
            "finished": TrialState.COMPLETE,
            "pruned": TrialState.PRUNED,
            "failed": TrialState.FAIL,
        }
        return optuna.trial.create_trial(
            state=states[one.state],
            params=dict(one.suggestion.settings),
            distributions=self._axes,
            value=one.value if one.state == "finished" else None,
            intermediate_values={0: one.value} if one.state == "pruned" and one.value is not None else None,
        )

    def _optuna_sampler(self) -> optuna.samplers.BaseSampler:
        """Samplers that learn draw anew for every suggestion; those that follow a sequence keep one seed."""
        fresh, fixed = self._stream(str(len(self._past))), self._stream("sequence")
        match self.search.sampler:
            case "random":
                return optuna.samplers.RandomSampler(seed=fresh)
            case "tpe":
                return optuna.samplers.TPESampler(seed=fresh)
            case "gp":
                return optuna.samplers.GPSampler(seed=fresh, warn_independent_sampling=False)
            case "cmaes":
                return optuna.samplers.CmaEsSampler(seed=fixed, warn_independent_sampling=False)
            case "qmc":
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                    return optuna.samplers.QMCSampler(seed=fixed, scramble=True, warn_independent_sampling=False)

    def _stream(self, name: str) -> int:
        """A seed of its own for every study seed, cell and purpose."""
        digest = hashlib.sha256(f"{self.seed}/{self.cell.name}/{name}".encode()).digest()
        return int.from_bytes(digest[:4], "big") % 2**31

    def _untried(self) -> dict[str, Any] | None:
        """A valid point not suggested yet: any of a listed space, or one of some random draws of a larger one."""
        known = {_key(one.suggestion.settings) for one in self._past.values()}
        if (points := _points(self.search.space)) is None:
            study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=self._stream("untried")))
            points = (dict(study.ask(self._axes).params) for _ in range(_MOST_POINTS // 10))
            return next((p for p in points if _key(p) not in known and self._makes_trial(p)), None)
        left = [point for point in points if _key(point) not in known and self._makes_trial(point)]
        return left[self._stream(f"untried {len(known)}") % len(left)] if left else None

    def _makes_trial(self, settings: Mapping[str, Any]) -> bool:
        try:
            TrialConfig(**{**self.cell.settings, **settings})
        except ValidationError:
            return False
        return True


def _key(settings: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(settings.items()))


def _distribution(axis: list[Any] | Range[int] | Range[float]) -> BaseDistribution:
    match axis:
        case Range(low=int(low), high=int(high)):
            return IntDistribution(low, high, log=axis.log, step=int(axis.step or 1))
        case Range():
            return FloatDistribution(axis.low, axis.high, log=axis.log, step=axis.step)
        case _:
            return CategoricalDistribution(axis)


def _points(space: Mapping[str, list[Any] | Range[int] | Range[float]]) -> Iterable[dict[str, Any]] | None:
    """All points of a space; None where they are too many to list."""
    axes: list[list[Any]] = []
    for axis in space.values():
        if isinstance(axis, list):
            axes.append(axis)
        elif isinstance(axis.low, int) and isinstance(axis.high, int):
            axes.append(list(range(axis.low, axis.high + 1, int(axis.step or 1))[: _MOST_POINTS + 1]))
        else:
            return None
    if math.prod(len(values) for values in axes) > _MOST_POINTS:
        return None
    return (dict(zip(space, values, strict=True)) for values in itertools.product(*axes))
