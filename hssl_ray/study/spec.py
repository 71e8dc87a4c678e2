"""A study: one file, expanded to cells (one per point of the grid) and trials (one per cell and seed)."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from hssl_ray.study.file.layers import read_layers
from hssl_ray.study.file.messages import as_problem, faults
from hssl_ray.study.file.problems import StudyError
from hssl_ray.study.file.rules import FREE_TRIALS, MOST_TRIALS, study_faults
from hssl_ray.study.file.sections import (
    FIELDS,
    STRICT,
    STUDY_NAME,
    Budget,
    Cases,
    Checkpoints,
    Compare,
    EarlyStop,
    Grid,
    Race,
    Resilience,
    Resources,
    Search,
    Seeds,
    Settings,
)
from hssl_ray.study.file.yaml_source import Loc
from hssl_ray.trial.config import TrialConfig


@dataclass(frozen=True)
class Cell:
    """One point of the grid: the trials that differ in nothing but the seed, or in what a search samples.

    `case` is the place in the file's `cases` that the point comes from; None where there are no cases.
    """

    name: str
    settings: Mapping[str, Any]
    case: int | None = None


@dataclass(frozen=True)
class PlannedTrial:
    """One trial of a study. `name` is for people, `trial_id` is its identity."""

    trial_id: str
    config: TrialConfig
    cell: str
    name: str


class Study(BaseModel):
    """What to train and compare. Frozen, validated; every key but `study` has a default.

    Raises:
        pydantic.ValidationError: a section or a rule between sections is broken. `load_study` says where in the file.
    """

    model_config = ConfigDict(**STRICT, ignored_types=(cached_property,))

    study: Annotated[str, Field(pattern=STUDY_NAME)] = Field(
        description="Name of the study, also in the tracking store."
    )
    base: Settings = Field(default_factory=dict, description="What all trials share: fields of the trial.")
    grid: Grid = Field(default_factory=dict, description="Full factorial: for each field a list of values.")
    cases: Cases | None = Field(
        default=None, description="Alternatives, each with values or lists of its own; the grid is run in every one."
    )
    seeds: Seeds = Field(
        default=1,
        description="Replicates of every cell: n for seeds 0 to n - 1, a list of seeds, or `start` and `at_most` to "
        "add seeds where the comparison is undecided.",
    )
    search: Search | None = Field(default=None, description="Values sampled inside every cell of the grid.")
    early_stop: EarlyStop | None = Field(default=None, description="Stops weak trials early; absent means never.")
    budget: Budget | None = Field(default=None, description="What all runs together may use; absent means no limit.")
    resources: Resources = Field(default=Resources(), description="What one trial may use.")
    compare: Compare = Field(default=Compare(), description="The question the study answers.")
    checkpoints: Checkpoints = Field(default=Checkpoints(), description="How often trials save themselves.")
    resilience: Resilience = Field(default=Resilience(), description="What happens when a worker is lost.")

    @property
    def seed_list(self) -> Sequence[int]:
        """The seeds that every cell has; a race adds more to some."""
        match self.seeds:
            case int(count) | Race(start=count):
                return range(count)
            case seeds:
                return seeds

    @property
    def race(self) -> Race | None:
        return self.seeds if isinstance(self.seeds, Race) else None

    @cached_property
    def axes(self) -> list[dict[str, list[Any]]]:
        """For each case its fields' values and the grid's; one entry, the grid's own, where there are no cases."""
        lists = [
            {name: value if isinstance(value, list) else [value] for name, value in case.items()}
            for case in self.cases or [{}]
        ]
        return [{**case, **self.grid} for case in lists]

    @property
    def cell_count(self) -> int:
        return sum(math.prod(len(values) for values in axes.values()) for axes in self.axes)

    @property
    def trial_count(self) -> int:
        """Trials at most: as if no suggestion were made twice, and no pair decided before its last look."""
        if (race := self.race) is not None and self.cell_count <= MOST_TRIALS:
            return self.least_trial_count + 2 * len(self.pairs) * (race.at_most - race.start)
        return self.least_trial_count

    @property
    def least_trial_count(self) -> int:
        """Trials if every pair is decided with the seeds at the start."""
        return self.cell_count * len(self.seed_list) * (self.search.trials if self.search else 1)

    @cached_property
    def pairs(self) -> list[tuple[Cell, Cell]]:
        """The compared cells that differ in the method alone: baseline and against."""
        sides: dict[str, dict[tuple[tuple[str, Any], ...], Cell]] = {
            self.compare.baseline: {},
            self.compare.against: {},
        }
        default = TrialConfig.model_fields["method"].default
        for cell in self.cells():
            others = tuple(sorted((name, value) for name, value in cell.settings.items() if name != "method"))
            sides.get(cell.settings.get("method", default), {})[others] = cell
        baseline, against = sides[self.compare.baseline], sides[self.compare.against]
        return [(baseline[others], against[others]) for others in baseline if others in against]

    @property
    def datasets(self) -> list[str]:
        """The data sets that the trials read."""
        searched = self.search.space.get("dataset", []) if self.search else []
        default = TrialConfig.model_fields["dataset"].default
        return sorted({cell.settings.get("dataset", default) for cell in self.cells()} | set(searched))

    @cached_property
    def digest(self) -> str:
        """sha256 of the resolved study without resources, budget and how failures are met, which change no result."""
        left_out: dict[str, Any] = {
            "resources": True,
            "budget": True,
            "resilience": {"retry_on", "backoff", "hang_seconds"},
        }
        if not self.cases:
            left_out["cases"] = True  # because files without keep their digest, as all do for `max_retries`
        data = self.model_dump(mode="json", exclude=left_out)
        if self.search is not None:
            data["search"] = self.search.as_digested()
        if self.race is None:
            data["seeds"] = list(self.seed_list)
        return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def cells(self) -> list[Cell]:
        """One cell for each point of the grid in each case, in the order of cases, lists and TrialConfig's fields."""
        return [
            self._cell(dict(zip(axes, values, strict=True)), case if self.cases else None)
            for case, axes in enumerate(self.axes)
            for values in itertools.product(*axes.values())
        ]

    def planned(self) -> Iterator[PlannedTrial]:
        """The trials of grid and seeds. A study with a search has none before it samples: see `sampled`."""
        if self.search is None:
            for cell in self.cells():
                yield from self._replicates(cell, cell.settings, cell.name)

    def raced(self) -> Iterator[PlannedTrial]:
        """The trials that a race may add to those planned; none without one."""
        if (race := self.race) is not None:
            for cell in itertools.chain.from_iterable(self.pairs):
                yield from self.replicates(cell, range(race.start, race.at_most))

    def replicates(self, cell: Cell, seeds: Iterable[int]) -> list[PlannedTrial]:
        """The trials of a cell with these seeds; a race adds them."""
        return list(self._replicates(cell, cell.settings, cell.name, seeds))

    def sampled(self, cell: Cell, number: int, values: Mapping[str, Any]) -> list[PlannedTrial]:
        """The trials of one suggestion of the search in a cell: the same values with every seed.

        Raises:
            pydantic.ValidationError: the values do not make a trial; a `Sampler` never suggests such.
        """
        return list(self._replicates(cell, {**cell.settings, **values}, f"{cell.name}-n{number}"))

    def _cell(self, point: Mapping[str, Any], case: int | None) -> Cell:
        settings = {**self.base, **point}
        searched = self.search.space if self.search else {}
        named = [name for name in ("method", "group") if name not in searched]
        parts = [str(settings.get(name, TrialConfig.model_fields[name].default)) for name in named]
        parts += [f"{name}={_written(value)}" for name, value in point.items() if name not in named]
        return Cell("-".join(parts), settings, case)

    def _replicates(
        self, cell: Cell, settings: Mapping[str, Any], name: str, seeds: Iterable[int] | None = None
    ) -> Iterator[PlannedTrial]:
        for seed in self.seed_list if seeds is None else seeds:
            config = TrialConfig(**settings, seed=seed)
            yield PlannedTrial(config.trial_id, config, cell.name, f"{name}-s{seed}")

    @model_validator(mode="after")
    def _sections_agree(self, info: ValidationInfo) -> Study:
        limit = (info.context or {}).get("limit", MOST_TRIALS)
        if found := list(study_faults(self, limit, written=info.context is not None)):
            text = "; ".join(f"{'.'.join(map(str, loc))}: {message}" for loc, message in found)
            raise PydanticCustomError("study_rules", "{text}", {"text": text, "faults": found})
        return self


def _written(value: Any) -> str:
    return "none" if value is None else repr(value) if isinstance(value, float) else str(value)


def load_study(path: Path | str, overrides: Sequence[str] = (), *, large: bool = False) -> Study:
    """The study of a file, with what it extends and `KEY=VALUE` overrides, all under the same rules.

    Args:
        path: the study file.
        overrides: such as `base.epochs=1`; the value is YAML.
        large: allow more than 10,000 trials.

    Raises:
        StudyError: with every mistake, its file, line and column.
    """
    tree, problems = read_layers(Path(path), overrides)
    if tree is None:
        raise StudyError(sorted(problems))
    places = {problem.place for problem in problems}
    try:
        study = Study.model_validate(tree.plain, context={"limit": MOST_TRIALS if large else FREE_TRIALS})
    except ValidationError as error:
        found = (as_problem(fault, tree, _KEYS) for fault in faults(error))
        # What could not be read at all breaks its field's rule too; that is said once.
        problems += [problem for problem in found if problem.place not in places]
    if problems:
        raise StudyError(sorted(problems))
    return study


def _known_keys() -> dict[Loc, tuple[str, ...]]:
    """The keys of every mapping of a study file, for suggestions."""
    keys: dict[Loc, tuple[str, ...]] = {(): (*Study.model_fields, "extends")}
    sections: dict[str, type[BaseModel]] = {"search": Search, "early_stop": EarlyStop, "resources": Resources}
    sections |= {"compare": Compare, "checkpoints": Checkpoints, "resilience": Resilience, "budget": Budget}
    sections["seeds"] = Race
    keys |= {(name,): tuple(model.model_fields) for name, model in sections.items()}
    keys |= {("base",): FIELDS, ("grid",): FIELDS, ("cases",): FIELDS}
    keys["search", "space"] = keys["search", "points_to_evaluate"] = tuple(name for name in FIELDS if name != "method")
    return keys


_KEYS = _known_keys()
