"""What each field of a trial means to the paper's tables: where it stands, what may differ, and what must not.

`CLASSIFIED` is the one place that says so; a test fails when `TrialConfig` has a field that is not there. Until then
such a field counts as a reading, the strictest role, so that it is never mixed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from hssl_ray.method.criterion_spec import contrastive
from hssl_ray.trial.config import METHODS, PAIRS, TrialConfig

Settings = Mapping[str, Any]
"""Values of a trial's fields by name."""


class Role(Enum):
    """What becomes of a field when trials are put into a table."""

    KEY = "tells rows, columns and seeds apart"
    AXIS = "what Figure 3 varies; a row of a table has the paper's value, or else the one it has"
    READING = "how an unclear sentence of the paper is read: one value in a whole table"
    ROW = "what a trial may cost, and what is measured in the group's own way: one value in a row, which has its own"


@dataclass(frozen=True)
class Use:
    """A field's role, and whose results it can change: of these methods, where `when` holds of the other fields."""

    role: Role
    methods: tuple[str, ...] = METHODS
    when: Callable[[Settings], bool] | None = None


def draws_elements(settings: Settings) -> bool:
    """Whether the pair is two elements of the group, rather than A-SSL's two transformations in the paper's ranges."""
    return bool(settings["method"] != "a_ssl" or settings.get("augmentation") == "matched")


def draws_within_bounds(settings: Settings) -> bool:
    """Whether the pair is drawn by distance."""
    bounds = settings.get("max_distance"), settings.get("min_distance")
    return draws_elements(settings) and bounds != (None, None)


def contrasts(settings: Settings) -> bool:
    """Whether the objective has negatives, and so a similarity and a temperature."""
    objective = settings.get("objective")
    return objective is not None and contrastive(objective)


def with_lars(settings: Settings) -> bool:
    """Whether LARS is the optimiser."""
    return bool(settings["optimizer"] == "lars")


CLASSIFIED: dict[str, Use] = {
    "dataset": Use(Role.KEY),
    "group": Use(Role.KEY),
    "backbone": Use(Role.KEY),
    "structure": Use(Role.KEY),
    "method": Use(Role.KEY),
    "seed": Use(Role.KEY),
    "base_size": Use(Role.AXIS, PAIRS),
    "max_distance": Use(Role.AXIS, PAIRS, draws_elements),
    "min_distance": Use(Role.AXIS, PAIRS, draws_elements),  # A9
    "distance_metric": Use(Role.ROW, PAIRS, draws_within_bounds),  # A7
    "image_size": Use(Role.READING),  # A4, A6; over a table its policy counts, see `names_of`
    "image_fit": Use(Role.READING),  # A4
    "stem_stride": Use(Role.READING),  # A14
    "mixing": Use(Role.READING),
    "augmentation": Use(Role.READING, ("a_ssl",)),  # A8
    "objective": Use(Role.READING, PAIRS),  # A1, A3
    "similarity": Use(Role.READING, PAIRS, contrasts),  # A2
    "layerwise": Use(Role.READING, PAIRS),
    "temperature": Use(Role.READING, PAIRS, contrasts),
    "optimizer": Use(Role.READING),
    "momentum": Use(Role.READING, when=with_lars),  # A15, as the next
    "trust_coefficient": Use(Role.READING, when=with_lars),
    "precision": Use(Role.READING),  # A21
    "probe_images": Use(Role.READING, ("a_ssl",)),  # A17
    "frozen_norm": Use(Role.READING, ("frozen",)),  # A18
    "train_images": Use(Role.ROW),
    "width": Use(Role.ROW),
    "epochs": Use(Role.ROW),
    "batch_size": Use(Role.ROW),
    "learning_rate": Use(Role.ROW),
    "probe_learning_rate": Use(Role.ROW),
    "weight_decay": Use(Role.ROW),
    "warmup_epochs": Use(Role.ROW),
}

FIELDS = CLASSIFIED | {name: Use(Role.READING) for name in TrialConfig.model_fields if name not in CLASSIFIED}

PAPER_GRIDS = {"mnist": 29, "mnist-mini": 29, "fashion-mnist": 29, "cifar10": 28, "tiny-imagenet": 32}
"""Cells a side that give the feature maps App. A states: 8 x 8, 7 x 7, 4 x 4 (A4)."""

GRIDS = ("exact", "native", "paper")
"""Policies of `image_size`: the smallest grid on which quarter turns are exact, the images' own size, App. A's maps."""


class TableError(ValueError):
    """A table cannot be made of what was asked for, or of what the store holds; says what to type instead."""


def fields_of(*roles: Role) -> list[str]:
    """The fields with one of these roles, in the order above."""
    return [name for name, use in FIELDS.items() if use.role in roles]


def concerns(field: str, settings: Settings) -> bool:
    """Whether a field can change the result of a trial with these settings."""
    use = FIELDS[field]
    return settings["method"] in use.methods and (use.when is None or use.when(settings))


def names_of(field: str, settings: Settings) -> tuple[Any, ...]:
    """The names under which a field's value is compared between the rows of a table: itself, but for `image_size`.

    Images differ in size between data sets, so of their grid the policies count that it follows, of which there may be
    several: MNIST's 29 cells are exact and the paper's. A grid that follows none has its cells as name.
    """
    size = settings[field]
    if field != "image_size":
        return (size,)
    moved = ("image_size", "image_fit", *fields_of(Role.AXIS))  # what another grid may have no room or use for
    own = {n: settings[n] for n in TrialConfig.model_fields if n not in moved and settings.get(n) is not None}
    exact = TrialConfig(**own)
    cells = size or exact.grid
    sizes = (exact.grid, exact.data.size, PAPER_GRIDS.get(exact.dataset))
    return tuple(name for name, of in zip(GRIDS, sizes, strict=True) if of == cells) or (cells,)
