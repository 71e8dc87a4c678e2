"""Suggestions for the searched fields of one cell, by Optuna's samplers.

A suggestion depends on the seed, the cell and the history alone: each is drawn by a fresh sampler from a study that
holds the history, so a driver that died and came back goes on as if it had not. Nothing is drawn from what Optuna
stores on disk, which `optuna_view` writes for people to look at.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState
from pydantic import ValidationError

from hssl_ray.study.file.problems import SamplerUnavailable
from hssl_ray.study.file.sections import Range, Search, missing_package
from hssl_ray.study.search.optuna_history import OptunaHistory
from hssl_ray.study.spec import Cell
from hssl_ray.trial.config import TrialConfig

State = Literal["running", "finished", "pruned", "failed"]
Key = tuple[tuple[str, Any], ...]

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
class _Settled:
    """A study in which the first `count` trials have happened for good."""

    study: optuna.Study
    count: int = 0


@dataclass
class Sampler:
    """Asks and tells for one cell of a study.

    Every suggestion makes a valid trial and differs from all earlier ones of the cell. `value` is the mean of
    `search.metric` over the seeds.

    Args:
        warm: finished points of another study, which the sampler knows from the start.

    Raises:
        SamplerUnavailable: at construction.
    """

    search: Search
    cell: Cell
    seed: int
    warm: Sequence[tuple[Mapping[str, Any], float]] = ()
    _past: dict[int, Past] = field(default_factory=dict, init=False)
    _known: dict[Key, int] = field(default_factory=dict, init=False)  # suggestions by their settings
    _trials: dict[int, FrozenTrial] = field(default_factory=dict, init=False)  # `warm`, then the past, by number
    _sequence: optuna.Study | None = field(default=None, init=False)
    _settled: _Settled | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if package := missing_package(self.search.sampler):
            raise SamplerUnavailable(
                f"search.sampler: {self.search.sampler} needs the package {package}, which is not installed"
            )
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._axes = axes_of(self.search.space)
        for number, (settings, value) in enumerate(self.warm):
            past = Past(Suggestion(number, settings), "finished", value)
            self._trials[number] = optuna_trial(past, self._axes, number)

    def replay(self, past: Iterable[Past]) -> None:
        """Take over suggestions that were made before, in any order."""
        for one in sorted(past, key=lambda one: one.suggestion.number):
            self._note(one)

    def ask(self) -> Suggestion | None:
        """The next suggestion, from now on running; None when `search.trials` are made or no point is left."""
        if len(self._past) >= self.search.trials:
            return None
        settings = self._asked_for() or self._sample() or self._untried()
        if settings is None:
            return None
        suggestion = Suggestion(max(self._past, default=-1) + 1, settings)
        self._note(Past(suggestion))
        return suggestion

    def tell(self, number: int, value: float | None, state: State = "finished") -> Past:
        """The outcome of a suggestion: finished or pruned with its value, or failed.

        A value that is missing or not finite is a failure whatever the state says; a suggestion told again has its
        newest outcome.

        Returns:
            The suggestion with that outcome.
        """
        usable = value is not None and math.isfinite(value) and state in ("finished", "pruned")
        past = Past(self._past[number].suggestion, state if usable else "failed", value if usable else None)
        self._note(past)
        return past

    def _note(self, past: Past) -> None:
        number = past.suggestion.number
        self._past[number] = past
        self._known[_key(past.suggestion.settings)] = number
        place = len(self.warm) + number
        self._trials[place] = optuna_trial(past, self._axes, place)
        if self._settled is not None and place < self._settled.count:
            self._settled = None

    def _asked_for(self) -> dict[str, Any] | None:
        """The first point of `points_to_evaluate` that was not suggested yet and is possible in this cell."""
        points = self.search.points_to_evaluate or ()
        return next((dict(p) for p in points if _key(p) not in self._known and self._makes_trial(p)), None)

    def _sample(self) -> dict[str, Any] | None:
        """A new point from the sampler; None if it keeps on repeating itself or violating constraints."""
        sequence = self.search.sampler == "qmc"  # a fixed sequence of points: skip those that are used
        study = self._study()
        for _ in range(_MOST_ATTEMPTS + (len(self._known) if sequence else 0)):
            trial = study.ask(self._axes)
            settings = dict(trial.params)
            number = self._known.get(_key(settings))
            usable = number is None and self._makes_trial(settings)
            if sequence:
                study.tell(trial, 0.0)
            elif number is not None and self._past[number].state == "finished":
                study.tell(trial, self._past[number].value)  # answered from the trial that has run
            elif not usable:
                study.tell(trial, state=TrialState.FAIL)
            if usable:
                return settings
        return None

    def _study(self) -> optuna.Study:
        """A study in which the history has happened, with a sampler that draws as it did before."""
        match self.search.sampler:
            case "random":  # looks at nothing
                return self._new_study(OptunaHistory())
            case "qmc":  # a point of the sequence that was passed over will be again, so it goes on where it stands
                self._sequence = self._sequence or self._new_study(OptunaHistory())
                return self._sequence
            case "cmaes":
                return self._remade()
            case _:
                return self._new_study(OptunaHistory(self._trials.values()))

    def _new_study(self, storage: OptunaHistory) -> optuna.Study:
        return optuna.create_study(storage=storage, sampler=self._optuna_sampler(), direction=self.search.goal)

    def _remade(self) -> optuna.Study:
        """CMA-ES keeps its state in the trials it made itself, so it has to make them again.

        Those before the first that still runs are made once: neither they nor the sampler's draws for them can change.
        """
        done = self._settled = self._settled or _Settled(self._new_study(OptunaHistory()))
        trials = list(self._trials.values())
        while done.count < len(trials) and trials[done.count].state != TrialState.RUNNING:
            self._remake(done.study, trials[done.count])
            done.count += 1
        storage = done.study._storage
        assert isinstance(storage, OptunaHistory)
        study = optuna.create_study(
            storage=storage.copy(), sampler=copy.deepcopy(done.study.sampler), direction=self.search.goal
        )
        for trial in trials[done.count :]:
            self._remake(study, trial)
        return study

    def _remake(self, study: optuna.Study, past: FrozenTrial) -> None:
        study.enqueue_trial(past.params)
        trial = study.ask(self._axes)
        _ = trial.relative_params  # lazy: this is what makes CMA-ES note the trial's generation
        if past.state == TrialState.COMPLETE:
            study.tell(trial, past.value)
        elif past.state != TrialState.RUNNING:
            study.tell(trial, state=TrialState.FAIL)

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
        known = self._known
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


def _key(settings: Mapping[str, Any]) -> Key:
    return tuple(sorted(settings.items()))


_STATES: Mapping[State, TrialState] = {
    "running": TrialState.RUNNING,
    "finished": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


def optuna_trial(past: Past, axes: Mapping[str, BaseDistribution], number: int) -> FrozenTrial:
    """A suggestion as Optuna has it; what a pruned one was worth is its last intermediate value."""
    return FrozenTrial(
        number=number,
        trial_id=number,
        state=_STATES[past.state],
        value=past.value if past.state == "finished" else None,
        params=dict(past.suggestion.settings),
        distributions=dict(axes),
        intermediate_values={0: past.value} if past.state == "pruned" and past.value is not None else {},
        datetime_start=None,
        datetime_complete=None,
        user_attrs={},
        system_attrs={},
    )


def axes_of(space: Mapping[str, list[Any] | Range[int] | Range[float]]) -> dict[str, BaseDistribution]:
    """The searched fields as Optuna's distributions."""
    return {name: _distribution(axis) for name, axis in space.items()}


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
