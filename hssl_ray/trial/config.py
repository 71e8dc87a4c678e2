"""TrialConfig: what one trial is. Its hash is the trial's identity, so only what changes a result belongs here."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hssl_ray.data.catalog import CATALOG, DatasetInfo, DatasetName
from hssl_ray.method.architecture import Architecture, BackboneName, Structure
from hssl_ray.method.backbones import build_architecture
from hssl_ray.method.criterion_spec import CriterionSpec, ObjectiveName, SimilarityName, contrastive
from hssl_ray.method.geometry import (
    TOLERANCE,
    DistanceMetric,
    Geometry,
    GroupName,
    geometry,
    largest_effective_size,
    lifted_order,
    metrics,
)

Method = Literal["a_ssl", "f_ssl", "h_ssl", "frozen", "supervised"]
METHODS: tuple[str, ...] = get_args(Method)
PAIRS = ("a_ssl", "f_ssl", "h_ssl")
"""The methods that contrast pairs; the others are baselines."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class _Network:
    """What a trial's network is on its data set, in plain numbers."""

    architecture: Architecture
    grid: int
    feature_size: int
    misfit: str
    """Why the classifier cannot read the feature map; empty where it can."""


@lru_cache(maxsize=256)
def _network(
    backbone: BackboneName,
    width: float,
    dataset: DatasetName,
    image_size: int | None,
    group: GroupName,
    structure: Structure,
    mixing: int,
    stem_stride: int,
) -> _Network:
    """The network, computed and kept once for all trials that have it: a study has far fewer networks than trials.

    Raises:
        ValueError: there is no such network.
    """
    data = CATALOG[dataset]
    architecture = build_architecture(
        backbone,
        width=width,
        image_channels=data.channels,
        image_size=image_size or data.size,
        lifted_order=lifted_order(group),
        structure=structure,
        mixing=mixing,
        stem_stride=stem_stride,
        largest_effective_size=largest_effective_size(group),
    )
    grid = image_size or architecture.exact_size(data.size)
    try:
        architecture.probe_inputs(grid)
        misfit = ""
    except ValueError as error:
        misfit = str(error)
    return _Network(architecture, grid, architecture.feature_size(grid), misfit)


class TrialConfig(BaseModel):
    """One method, one set of parameters, one seed. Flat, frozen, validated; the defaults are the paper's (§4.4).

    Raises:
        pydantic.ValidationError: a field breaks its rule, or two fields contradict each other.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, ignored_types=(cached_property,))

    dataset: DatasetName = Field(default="mnist-mini", description="Data set, by its name in `hssl-ray data list`.")
    train_images: Count | None = Field(
        default=None, description="Class-balanced number of training images; absent means all."
    )
    image_size: Annotated[int, Field(ge=8, le=256)] | None = Field(
        default=None, description="Cells a side of what the network sees; absent pads to the smallest exact grid."
    )
    image_fit: Literal["crop", "resize"] = Field(
        default="crop", description="How images larger than image_size are made to fit."
    )
    method: Method = Field(default="h_ssl", description="Where the pairs come from, or a baseline without pairs.")
    group: GroupName = Field(default="rotation", description="The lifted group whose elements make the pairs.")
    backbone: BackboneName = Field(default="mnist_cnn", description="Network f, App. A.")
    width: Annotated[float, Field(gt=0, le=8, allow_inf_nan=False)] = Field(
        default=1.0, description="Channel multiplier; 1 is the paper's network."
    )
    structure: Structure = Field(
        default="equivariant", description="Steerable layers, or none: Table 2's twin with free kernels."
    )
    mixing: Count = Field(default=1, description="Elements of the lifted axis that a filter spans.")
    stem_stride: Annotated[int, Field(ge=1, le=4)] = Field(
        default=1, description="Stride of a ResNet's lifting convolution."
    )
    base_size: Count = Field(default=1, description="|g0|: number of fibers in a bundle.")
    max_distance: NonNegative | None = Field(
        default=None, description="Largest topographic distance between g1 and g2; absent means no bound."
    )
    min_distance: NonNegative | None = Field(
        default=None, description="Smallest topographic distance between g1 and g2; absent means no bound."
    )
    distance_metric: DistanceMetric | None = Field(
        default=None, description="How the group's distance is measured; absent means the group's own."
    )
    augmentation: Literal["paper", "matched"] = Field(
        default="paper", description="A-SSL's transformations: the paper's ranges, or the group elements H-SSL draws."
    )
    objective: ObjectiveName = Field(
        default="info_nce", description="Eq. 3 (info_nce), Eq. 4 (negative_cosine), or another loss of two views."
    )
    similarity: SimilarityName = Field(
        default="cosine", description="What contrastive objectives compare by; Eq. 8's is log-bilinear."
    )
    layerwise: bool = Field(
        default=False, description="Greedy learning (§6): a loss at every stage of the backbone, gradients isolated."
    )
    temperature: Positive = Field(default=0.1, description="Softmax temperature tau of contrastive objectives.")
    optimizer: Literal["lars", "adamw"] = Field(default="lars", description="Optimiser of backbone, head and probe.")
    momentum: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = Field(
        default=0.9, description="LARS momentum."
    )
    trust_coefficient: Positive = Field(
        default=0.001, description="LARS eta: a step's length relative to its weight's, per unit learning rate."
    )
    learning_rate: Positive = Field(default=0.1, description="Peak learning rate after warm-up.")
    probe_learning_rate: Positive | None = Field(
        default=None, description="Peak learning rate of the probe; absent means learning_rate."
    )
    weight_decay: NonNegative = Field(default=1e-4, description="Weight decay of backbone and head weights.")
    warmup_epochs: Annotated[int, Field(ge=0)] = Field(default=10, description="Epochs of linear warm-up.")
    epochs: Count = Field(default=500, description="Passes over the training images.")
    batch_size: Annotated[int, Field(ge=2)] = Field(default=4096, description="Images per step over all workers.")
    precision: Literal["auto", "bf16", "fp16", "fp32"] = Field(
        default="auto",
        description="Autocast type; auto is bf16 where the processor computes in it, fp16 scales its loss.",
    )
    probe_images: Literal["view", "clean"] = Field(
        default="view", description="What A-SSL's classifier sees: the first view's images, or those as they are."
    )
    frozen_norm: Literal["data", "initial"] = Field(
        default="data", description="BatchNorm of a frozen backbone: statistics of the data, or mean 0 and variance 1."
    )
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(default=0, description="Fixes every draw of the trial.")

    @cached_property
    def trial_id(self) -> str:
        """Identity: the hash of what differs from the defaults, so that a new field leaves old trials theirs."""
        changed = self.model_dump(exclude_defaults=True)
        canonical = json.dumps(changed, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    @property
    def data(self) -> DatasetInfo:
        return CATALOG[self.dataset]

    @property
    def architecture(self) -> Architecture:
        return self._network.architecture

    @property
    def grid(self) -> int:
        """Cells a side of the image that the network sees."""
        return self._network.grid

    @cached_property
    def geometry(self) -> Geometry:
        return self.geometry_on(self._network.feature_size)

    @cached_property
    def _network(self) -> _Network:
        return _network(
            self.backbone, self.width, self.dataset, self.image_size, self.group, self.structure, self.mixing,
            self.stem_stride,
        )  # fmt: skip

    def geometry_on(self, feature_size: int) -> Geometry:
        """The group's geometry on a feature map of `feature_size` cells a side."""
        return geometry(self.group, feature_size, self.distance_metric)

    @property
    def lifted_order(self) -> int:
        return lifted_order(self.group)

    @property
    def criterion(self) -> CriterionSpec:
        return CriterionSpec(self.objective, self.similarity, self.temperature)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches only: a short batch would have fewer negatives than the others."""
        return (self.train_images or self.data.train_images) // self.batch_size

    @model_validator(mode="after")
    def _network_fits(self) -> TrialConfig:
        if self.image_fit != "crop" and self.grid >= self.data.size:
            raise ValueError(
                f"image_fit: images of {self.data.size} cells fit {self.grid} as they are, so it must be crop,"
                f" got {self.image_fit}"
            )
        if self._network.misfit:
            raise ValueError(f"image_size: {self._network.misfit}")
        return self

    @model_validator(mode="after")
    def _pairs_exist(self) -> TrialConfig:
        if self.method == "f_ssl" and self.group != "translation":
            raise ValueError(f"group: f_ssl contrasts patches of the grid, so it must be translation, got {self.group}")
        if self.distance_metric not in (None, *metrics(self.group)):
            allowed = ", ".join(metrics(self.group))
            raise ValueError(
                f"distance_metric: must be one of {allowed} for group {self.group}, got {self.distance_metric}"
            )
        if self.geometry.order < 2:
            raise ValueError(f"image_size: leaves {self.group} a single cell to move on, got {self.grid}")
        try:
            self.geometry.base_side(self.base_size)
        except ValueError as error:
            raise ValueError(f"base_size: {error}, got {self.base_size}") from None
        if self.max_distance is not None:
            diameter = self.geometry.diameter
            if self.max_distance > diameter + TOLERANCE:
                raise ValueError(
                    f"max_distance: must be at most {self.group}'s diameter {diameter:.4g}, got {self.max_distance:g}"
                )
        if self.min_distance is not None:
            if self.max_distance is not None and self.min_distance > self.max_distance:
                raise ValueError(
                    f"min_distance: must be at most max_distance = {self.max_distance:g}, got {self.min_distance:g}"
                )
            try:
                self.geometry.check_shell(self.base_size, self.min_distance, self.max_distance)
            except ValueError as error:
                raise ValueError(f"min_distance: {error}, got {self.min_distance:g}") from None
        return self

    @model_validator(mode="after")
    def _objective_fits(self) -> TrialConfig:
        if self.similarity != "cosine" and not contrastive(self.objective):
            raise ValueError(f"similarity: must be cosine for {self.objective}, got {self.similarity}")
        fiber, projected = self.architecture.feature_channels * self.base_size, self.architecture.head_sizes[-1]
        if self.objective == "negative_cosine" and fiber != projected:
            raise ValueError(
                f"base_size: negative_cosine compares a view of {fiber} numbers with its projection to {projected}, so"
                f" the two must be equal, got {self.base_size}"
            )
        return self

    @model_validator(mode="after")
    def _budget_fits(self) -> TrialConfig:
        images = self.train_images or self.data.train_images
        if images > self.data.train_images:
            raise ValueError(f"train_images: {self.dataset} has {self.data.train_images}, got {images}")
        if images % self.data.classes:
            raise ValueError(f"train_images: must be a multiple of the {self.data.classes} classes, got {images}")
        if self.batch_size > images:
            raise ValueError(f"batch_size: must be at most the {images} training images, got {self.batch_size}")
        if self.warmup_epochs > self.epochs:
            raise ValueError(f"warmup_epochs: must be at most epochs = {self.epochs}, got {self.warmup_epochs}")
        return self
