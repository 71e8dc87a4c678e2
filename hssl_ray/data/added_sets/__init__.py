"""Data sets of your own: `shapes.py` in this folder is `dataset: shapes` in a study. docs/extending.md shows one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hssl_ray.added import added_names, declared

if TYPE_CHECKING:
    from hssl_ray.data.info import DatasetInfo
    from hssl_ray.data.pixels import Content
    from hssl_ray.data.publication import Publication


@dataclass(frozen=True)
class AddedSet:
    """What a file of this folder sets DATASET to."""

    info: DatasetInfo
    publication: Publication
    read: Callable[[Path], Content]
    """From the folder that holds the publication's files."""


def added_sets(taken: tuple[str, ...]) -> dict[str, AddedSet]:
    """The declarations of this folder, by name. Their files are imported, so they should not import torch.

    Raises:
        ValueError: a name is taken, or is not the one that its file has.
    """
    found = {name: declared(__name__, name, "DATASET", AddedSet) for name in added_names(__path__, taken)}
    for name, added in found.items():
        if added.info.name != name:
            raise ValueError(f"added_sets/{name}.py: info.name must be {name}, got {added.info.name}")
    return found
