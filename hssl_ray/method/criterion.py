"""From pairs to a loss: the projection head, the objective, and what the objective learns beside them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import final

from torch import Tensor, nn

from hssl_ray.method.added_objectives import added_objective
from hssl_ray.method.criterion_spec import CriterionSpec
from hssl_ray.method.non_contrastive import build_predictor, negative_cosine, simsiam
from hssl_ray.method.objectives import dcl, info_nce, nt_xent
from hssl_ray.method.redundancy import barlow_twins, vicreg
from hssl_ray.method.similarity import Similarity, build_similarity

Contrast = Callable[[Tensor, Tensor, float, Similarity], Tensor]
TwoViews = Callable[[Tensor, Tensor], Tensor]


class Criterion(nn.Module, ABC):
    """I(V1, V2) of a trial: (N, B*C), (N, B*C) -> a number.

    The head h is an argument and no part of the module, because objectives differ in where they apply it; parameters
    of the module are what the objective itself learns, if anything.
    """

    @abstractmethod
    def forward(self, head: nn.Module, v1: Tensor, v2: Tensor) -> Tensor:
        """The loss of two views that are not yet projected."""


@final
class Contrastive(Criterion):
    """Eq. 3 and its kin on h(V1), h(V2)."""

    def __init__(self, contrast: Contrast, spec: CriterionSpec, width: int) -> None:
        super().__init__()
        self.contrast = contrast
        self.temperature = spec.temperature
        self.similarity = build_similarity(spec.similarity, width)

    def forward(self, head: nn.Module, v1: Tensor, v2: Tensor) -> Tensor:
        return self.contrast(head(v1), head(v2), self.temperature, self.similarity)


@final
class Regularised(Criterion):
    """VICReg or Barlow Twins on h(V1), h(V2)."""

    def __init__(self, objective: TwoViews) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, head: nn.Module, v1: Tensor, v2: Tensor) -> Tensor:
        return self.objective(head(v1), head(v2))


@final
class Predictive(Criterion):
    """Eq. 4 to the letter: h predicts V2 from V1."""

    def forward(self, head: nn.Module, v1: Tensor, v2: Tensor) -> Tensor:
        return negative_cosine(head(v1), v2)


@final
class SimSiam(Criterion):
    """SimSiam on h(V1), h(V2), with its predictor."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.predictor = build_predictor(width)

    def forward(self, head: nn.Module, v1: Tensor, v2: Tensor) -> Tensor:
        h1, h2 = head(v1), head(v2)
        return simsiam(self.predictor(h1), self.predictor(h2), h1, h2)


def build_criterion(spec: CriterionSpec, width: int) -> Criterion:
    """The criterion of a study file for a head whose output has `width` numbers."""
    match spec.objective:
        case "info_nce":
            return Contrastive(info_nce, spec, width)
        case "nt_xent":
            return Contrastive(nt_xent, spec, width)
        case "dcl":
            return Contrastive(dcl, spec, width)
        case "negative_cosine":
            return Predictive()
        case "simsiam":
            return SimSiam(width)
        case "vicreg":
            return Regularised(vicreg)
        case "barlow_twins":
            return Regularised(barlow_twins)
        case _:
            return added_objective(spec.objective).build(spec, width)
