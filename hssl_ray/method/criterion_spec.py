"""The objectives by name, what each takes and what it learns, in plain numbers.

Kept apart from `criterion` (the same as modules) so that `hssl-ray plan` can check and weigh a study without torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hssl_ray.method.added_objectives import added_objective, objective_names

SimilarityName = Literal["cosine", "log_bilinear", "literal_bilinear"]

CONTRASTIVE = ("info_nce", "nt_xent", "dcl")
"""They compare all pairs of a batch: they alone have a temperature and a choice of similarity."""

BUILT_IN = (*CONTRASTIVE, "negative_cosine", "simsiam", "vicreg", "barlow_twins")

if TYPE_CHECKING:
    ObjectiveName = str
else:
    ObjectiveName = Literal[(*BUILT_IN, *objective_names(BUILT_IN))]

BOTTLENECK = 4  # SimSiam's predictor narrows by it (Chen & He 2021: 2048 to 512)


@dataclass(frozen=True)
class CriterionSpec:
    """An objective with its similarity and temperature; those that are not contrastive use neither."""

    objective: ObjectiveName
    similarity: SimilarityName
    temperature: float

    def parameters(self, width: int) -> int:
        """Numbers that the objective itself learns on projected views of `width` numbers."""
        if self.objective == "simsiam":
            hidden = predictor_width(width)
            return 2 * width * hidden + 2 * hidden + width
        if self.objective not in BUILT_IN:
            return added_objective(self.objective).parameters(width)
        return width**2 if contrastive(self.objective) and self.similarity != "cosine" else 0


def contrastive(objective: ObjectiveName) -> bool:
    """Whether an objective has a temperature and a choice of similarity."""
    return objective in CONTRASTIVE or (objective not in BUILT_IN and added_objective(objective).contrastive)


def predictor_width(width: int) -> int:
    """Numbers in the narrow layer of SimSiam's predictor."""
    return max(1, width // BOTTLENECK)
