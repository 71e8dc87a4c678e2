"""The objectives by name, what each takes and what it learns, in plain numbers.

Kept apart from `criterion` (the same as modules) so that `hssl-ray plan` can check and weigh a study without torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ObjectiveName = Literal["info_nce", "nt_xent", "dcl", "negative_cosine", "simsiam", "vicreg", "barlow_twins"]
SimilarityName = Literal["cosine", "log_bilinear", "literal_bilinear"]

CONTRASTIVE: tuple[ObjectiveName, ...] = ("info_nce", "nt_xent", "dcl")
"""They compare all pairs of a batch: they alone have a temperature and a choice of similarity."""

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
        return width**2 if self.objective in CONTRASTIVE and self.similarity != "cosine" else 0


def predictor_width(width: int) -> int:
    """Numbers in the narrow layer of SimSiam's predictor."""
    return max(1, width // BOTTLENECK)
