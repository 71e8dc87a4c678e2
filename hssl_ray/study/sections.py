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
    model_serializer,
    model_validator,
)
from typing_extensions import TypedDict

from hssl_ray.study.metrics import EpochMetric, Goal, Metric
from hssl_ray.trial.checkpoint_files import Best, Retention
from hssl_ray.trial.config import Method, TrialConfig

STRICT = ConfigDict(frozen=True, extra="forbid", strict=True)

FIELDS: tuple[str, ...] = tuple(name for name in TrialConfig.model_fields if name != "seed")
"""TrialConfig's fields that a study sets; the seed comes from `seeds`."""

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

Seeds = Annotated[
    Annotated[int, Field(ge=1, le=100_000), Tag("count")]
    | Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1), Tag("list")],
    Discriminator(lambda value: "list" if isinstance(value, list) else "count"),
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
    cpus_per_worker: Annotated[float, Field(gt=0, le=4096, allow_inf_nan=False)] = Field(
        default=1, description="Processor cores of a worker."
    )
    gpus_per_worker: Annotated[float, Field(ge=0, le=64, allow_inf_nan=False)] = Field(
        default=0, description="GPUs of a worker; below 1, workers share one."
    )


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


class Resilience(BaseModel):
    """What happens when a worker or a node is lost. Never changes a result."""

    model_config = STRICT

    max_retries: Annotated[int, Field(ge=0, le=100)] = Field(default=2, description="New attempts after a loss.")
