"""Objectives of your own: `spread.py` in this folder is `objective: spread` in a study. docs/extending.md shows one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from hssl_ray.added import added_names, declared

if TYPE_CHECKING:
    from hssl_ray.method.criterion import Criterion
    from hssl_ray.method.criterion_spec import CriterionSpec


def _nothing(width: int) -> int:
    return 0


@dataclass(frozen=True)
class AddedObjective:
    """What a file of this folder sets OBJECTIVE to."""

    build: Callable[[CriterionSpec, int], Criterion]
    """From the trial's settings and the length of a projected view."""
    contrastive: bool = False
    """Whether it uses the temperature and the similarity of `CriterionSpec`."""
    parameters: Callable[[int], int] = _nothing
    """Numbers that it learns itself, from the length of a projected view."""


def objective_names(taken: tuple[str, ...]) -> tuple[str, ...]:
    """The objectives of this folder."""
    return added_names(__path__, taken)


@cache
def added_objective(name: str) -> AddedObjective:
    """The declaration of one of `objective_names`; imports its file, and with it torch."""
    return declared(__name__, name, "OBJECTIVE", AddedObjective)
