"""The sections of a study file as models: each validates its own keys. Rules between sections are in `rules`.

`base`, `grid` and `search.space` speak of TrialConfig's fields, so their types are derived from it: the word in the
file, its type and its bounds are the field's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from importlib.util import find_spec
from typing import Annotated, Any, Generic, Literal, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetPydanticSchema,
    SerializerFunctionWrapHandler,
    Tag,
    field_validator,
    model_serializer,
    model_validator,
)
from typing_extensions import TypedDict

from hssl_ray.study.file.problems import shown
from hssl_ray.study.metrics import EpochMetric, Goal, Metric
from hssl_ray.trial.checkpoint_files import Best, Retention
from hssl_ray.trial.config import Method, TrialConfig

STRICT = ConfigDict(frozen=True, extra="forbid", strict=True)

FIELDS: tuple[str, ...] = tuple(name for name in TrialConfig.model_fields if name != "seed")
"""TrialConfig's fields that a study sets; the seed comes from `seeds`."""

STUDY_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

Number = TypeVar("Number", int, float)
SamplerName = Literal["random", "tpe", "gp", "cmaes", "qmc"]


_SAMPLER_PACKAGES = {"cmaes": "cmaes", "gp": "torch", "qmc": "scipy"}


def missing_package(sampler: SamplerName) -> str | None:
    """The package that a sampler needs beside Optuna and that is not installed here."""
    package = _SAMPLER_PACKAGES.get(sampler)
    return package if package and find_spec(package) is None else None


class Range(BaseModel, Generic[Number]):
    """An interval to sample from, both ends included."""

    model_config = STRICT

    low: Number = Field(description="Smallest value.", allow_inf_nan=False)
    high: Number = Field(description="Largest value.", allow_inf_nan=False)
    log: bool = Field(default=False, description="Sample evenly in the logarithm.")
    step: Number | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Distance between values; absent means 1 or continuous."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Range[Number]:
        if self.low >= self.high:
            raise ValueError(f"high: must be above low = {self.low}, got {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"low: must be above 0 for log: true, got {self.low}")
        if self.log and self.step is not None:
            raise ValueError(f"step: cannot go with log: true, got {self.step}")
        if self.step is not None and (Decimal(str(self.high)) - Decimal(str(self.low))) % Decimal(str(self.step)):
            raise ValueError(f"step: must divide high - low = {self.high - self.low}, got {self.step}")
        if not math.isfinite(self.high - self.low):
            raise ValueError(f"high: is too far from low = {self.low}, got {self.high}")
        return self


def outside(axis: list[Any] | Range[Any], value: Any) -> str | None:
    """The rule that a value breaks which does not lie on an axis of a search; None where it does."""
    if isinstance(axis, list):
        return None if value in axis else f"must be one of search.space's {shown(axis)}"
    if value is None or not axis.low <= value <= axis.high:
        return f"must be in search.space's {axis.low} to {axis.high}"
    step = axis.step or (1 if isinstance(axis.low, int) else None)
    if step is not None and (Decimal(str(value)) - Decimal(str(axis.low))) % Decimal(str(step)):
        return f"must be a step of {step} above search.space's low = {axis.low}"
    return None


def _field_type(name: str) -> Any:
    """A field's type with its bounds, as TrialConfig declares them."""
    info = TrialConfig.model_fields[name]
    return Annotated[(info.annotation, *info.metadata, Field(description=info.description))]


def _list_type(name: str) -> Any:
    """Values of a field, at least one."""
    return Annotated[list[_field_type(name)], Field(min_length=1)]  # type: ignore[misc]


def _axis_type(name: str) -> Any:
    """What `search.space` takes for a field: a list of values, or for a number a range."""
    number = _number_type(TrialConfig.model_fields[name].annotation)
    if number is None:
        return _list_type(name)
    tagged = Annotated[_list_type(name), Tag("choices")] | Annotated[Range[number], Tag("range")]  # type: ignore[valid-type]
    return Annotated[tagged, Discriminator(_axis_kind)]


def _case_type(name: str) -> Any:
    """What a case takes for a field: a value, or a list of values."""
    tagged = Annotated[_list_type(name), Tag("choices")] | Annotated[_field_type(name), Tag("value")]  # type: ignore[valid-type]
    return Annotated[tagged, Discriminator(_case_kind)]


def _number_type(annotation: Any) -> type[int] | type[float] | None:
    """The number in `int`, `float | None`, `Annotated[int, ...] | None`; None where a field is no number."""
    if annotation in (int, float):
        return annotation  # type: ignore[no-any-return]
    return next((found for arg in get_args(annotation) if (found := _number_type(arg))), None)


def _axis_kind(value: Any) -> str:
    return "range" if isinstance(value, dict | Range) else "choices"


def _case_kind(value: Any) -> str:
    return "choices" if isinstance(value, list) else "value"


def _fields(title: str, field_type: Callable[[str], Any], names: tuple[str, ...] = FIELDS) -> Any:
    """A mapping from fields of the trial to what `field_type` says; unknown keys are refused."""
    keys = TypedDict(title, {name: field_type(name) for name in names}, total=False)  # type: ignore[misc]
    keys.__pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # type: ignore[attr-defined]
    return GetPydanticSchema(lambda _source, handler: handler(keys))


Settings = Annotated[dict[str, Any], _fields("Settings", _field_type)]
Grid = Annotated[dict[str, list[Any]], _fields("Grid", _list_type)]
Cases = Annotated[list[Annotated[dict[str, Any], _fields("Case", _case_type)]], Field(min_length=1)]
Space = Annotated[
    dict[str, Any],
    _fields("Space", _axis_type, tuple(name for name in FIELDS if name != "method")),
    Field(min_length=1),
]

Points = Annotated[
    list[
        Annotated[
            dict[str, Any],
            _fields("Point", _field_type, tuple(name for name in FIELDS if name != "method")),
        ]
    ],
    Field(min_length=1),
]


class Race(BaseModel):
    """Seeds that are added only to pairs of cells whose comparison is undecided, and in steps."""

    model_config = STRICT

    start: Annotated[int, Field(ge=2, le=100_000)] = Field(description="Seeds of every cell: 0 to start - 1.")
    at_most: Annotated[int, Field(ge=3, le=100_000)] = Field(description="Seeds a cell has at the last look.")
    step: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        default=None, description="Seeds added between looks; absent means as many as at the start."
    )

    @model_validator(mode="after")
    def _goes_on(self) -> Race:
        if self.at_most <= self.start:
            raise ValueError(f"at_most: must be above start = {self.start}, got {self.at_most}")
        return self

    @property
    def looks(self) -> tuple[int, ...]:
        """Seeds of a cell at each look, the last one at_most."""
        return (*range(self.start, self.at_most, self.step or self.start), self.at_most)


Seeds = Annotated[
    Annotated[int, Field(ge=1, le=100_000), Tag("count")]
    | Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1), Tag("list")]
    | Annotated[Race, Tag("race")],
    Discriminator(lambda value: {list: "list", dict: "race", Race: "race"}.get(type(value), "count")),
]


class Search(BaseModel):
    """Values sampled inside every grid cell. A suggestion runs with every seed; its value is the mean over them."""

    model_config = STRICT

    sampler: SamplerName = Field(default="tpe", description="Optuna's sampler.")
    trials: Annotated[int, Field(ge=1, le=100_000)] = Field(description="Suggestions in every cell.")
    metric: Metric = Field(default="probe/top1", description="What a suggestion is judged by, at its last epoch.")
    goal: Goal = Field(default="maximize", description="Whether more or less of the metric is better.")
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(default=0, description="Fixes the sampler's own draws.")
    space: Space = Field(description="For each searched field a list of values, or low and high.")
    points_to_evaluate: Points | None = Field(
        default=None, description="Points of the space that are suggested first, in every cell where they are possible."
    )
    warm_start: Annotated[str, Field(pattern=STUDY_NAME)] | None = Field(
        default=None,
        description="Another study, whose finished trials that fit a cell the sampler knows from the start.",
    )

    def as_digested(self) -> dict[str, Any]:
        """What suggestions depend on and the history does not hold; keys of later versions only where they are set."""
        left_out = {"points_to_evaluate", "warm_start"}
        return self.model_dump(mode="json", exclude={name for name in left_out if getattr(self, name) is None})


class Budget(BaseModel):
    """What a study may use over all of its runs. Once one is used up no new trial starts; those that run end."""

    model_config = STRICT

    trials: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="Trials that may be started. One that is taken over from another study is free."
    )
    hours: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None, description="Hours of training, added up over trials and attempts."
    )
    failed_trials: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="Trials that may fail or diverge; at this number the study stops."
    )


class EarlyStop(BaseModel):
    """Stops the weaker trials of a cell at rungs of epochs (asynchronous successive halving)."""

    model_config = STRICT

    scheduler: Literal["asha"] = Field(default="asha", description="Asynchronous successive halving.")
    grace_epochs: Annotated[int, Field(ge=1)] = Field(default=1, description="Epochs every trial runs.")
    reduction_factor: Annotated[int, Field(ge=2)] = Field(
        default=3, description="One in so many goes on past a rung, and rungs grow by this factor."
    )
    metric: EpochMetric = Field(default="probe/top1", description="What trials are ranked by; reported every epoch.")
    goal: Goal = Field(default="maximize", description="Whether more or less of the metric is better.")


class Resources(BaseModel):
    """What one trial may use. Never changes a result or an identity."""

    model_config = STRICT

    workers: Annotated[int, Field(ge=1, le=4096)] = Field(default=1, description="Processes of a trial (DDP ranks).")
    min_workers: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        default=None,
        description="Fewest workers to start an attempt with where nodes are missing; absent means all of them.",
    )
    cpus_per_worker: Annotated[float, Field(gt=0, le=4096, allow_inf_nan=False)] = Field(
        default=1, description="Processor cores of a worker."
    )
    gpus_per_worker: Annotated[float, Field(ge=0, le=64, allow_inf_nan=False)] = Field(
        default=0, description="GPUs of a worker; below 1, workers share one."
    )

    @model_validator(mode="after")
    def _fewest(self) -> Resources:
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(f"min_workers: must be at most workers = {self.workers}, got {self.min_workers}")
        return self


class Compare(BaseModel):
    """The question the study answers: is `against` equivalent to `baseline` within `margin`?"""

    model_config = STRICT

    baseline: Method = Field(default="a_ssl", description="Method on the left of the difference.")
    against: Method = Field(default="h_ssl", description="Method on the right of the difference.")
    metric: Metric = Field(default="probe/ridge_top1", description="What is compared, at the last epoch.")
    margin: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=0.02, description="Largest difference that counts as none, in the metric's unit (0.02 is 2 points)."
    )
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = Field(default=0.95, description="Level of the verdict.")

    @model_validator(mode="after")
    def _two_methods(self) -> Compare:
        if self.baseline == self.against:
            raise ValueError(f"against: must differ from baseline, got {self.against}")
        return self


class KeepBest(BaseModel):
    """What the best checkpoint of a trial is best at. Checkpoints stand at `every_epochs` and at the end."""

    model_config = STRICT

    metric: EpochMetric = Field(default="probe/top1", description="What checkpoints are ranked by.")
    goal: Goal = Field(default="maximize", description="Whether more or less of the metric is better.")


class Checkpoints(BaseModel):
    """How often a trial saves itself, and how many it keeps. Never changes a result."""

    model_config = STRICT

    every_epochs: Annotated[int, Field(ge=1)] = Field(default=5, description="Epochs between checkpoints.")
    keep: Annotated[int, Field(ge=2)] = Field(
        default=2, description="Newest checkpoints kept; two, so that one damaged file costs no trial."
    )
    keep_best: KeepBest | None = Field(
        default=None,
        description="Also keep the best, `{metric: probe/top1, goal: maximize}`; absent, age alone decides.",
    )

    @model_serializer(mode="wrap")
    def _without_what_is_absent(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """So that a study without `keep_best` keeps the digest it had before there was one."""
        return {name: value for name, value in plain(self).items() if name != "keep_best" or value is not None}

    @property
    def most(self) -> int:
        """Checkpoints that a trial may keep."""
        return self.keep + (self.keep_best is not None)

    @property
    def retention(self) -> Retention:
        """The same, as a trial is given it."""
        best = self.keep_best
        return Retention(self.keep, None if best is None else Best(best.metric, best.goal))


Retried = Literal["worker_lost", "node_lost", "preempted", "hung", "damaged_checkpoint", "oom", "disk_full", "error"]
"""Causes of a failure that another attempt at the same trial might not meet again."""

_HOPELESS = {
    "diverged": "the same trial diverges again",
    "pruned": "the trial was stopped on purpose",
    "interrupted": "running the study again goes on with it",
}


class Backoff(BaseModel):
    """How long a trial waits before it is tried again; other trials go on meanwhile."""

    model_config = STRICT

    first_seconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = Field(
        default=1.0,
        description="Seconds before a retry, doubled for each one after; the first after a loss comes at once.",
    )
    longest_seconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = Field(
        default=60.0, description="Bound of that."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Backoff:
        if self.longest_seconds < self.first_seconds:
            first, longest = self.first_seconds, self.longest_seconds
            raise ValueError(f"longest_seconds: must be at least first_seconds = {first:g}, got {longest:g}")
        return self


class Resilience(BaseModel):
    """What happens when an attempt at a trial fails. Never changes a result."""

    model_config = STRICT

    max_retries: Annotated[int, Field(ge=0, le=100)] = Field(
        default=2, description="New attempts at a trial in one run of the study, each from its last checkpoint."
    )
    retry_on: list[Retried] = Field(
        default=["worker_lost", "node_lost", "preempted", "hung", "damaged_checkpoint"],
        description="Causes of a failure after which there is one.",
    )
    backoff: Backoff = Field(default=Backoff(), description="How long a trial waits before a retry.")
    hang_seconds: Annotated[float, Field(ge=1, le=604_800, allow_inf_nan=False)] = Field(
        default=1800.0,
        description="A worker that has trained or evaluated no batch for so long is killed, as `hung`. Longer than"
        " the longest single step of an evaluation.",
    )

    @field_validator("retry_on", mode="before")
    @classmethod
    def _not_hopeless(cls, causes: Any) -> Any:
        for cause in causes if isinstance(causes, list) else ():
            if isinstance(cause, str) and cause in _HOPELESS:
                raise ValueError(f"{cause} is never retried: {_HOPELESS[cause]}")
        return causes
