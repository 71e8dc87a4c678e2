"""Class-balanced choices of images, without chance."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def balanced_subset(labels: Tensor, count: int) -> Tensor:
    """Positions of the first `count / classes` images of each class, ascending: (count,) int64.

    A smaller subset is always part of a larger one, so a learning curve adds images and never swaps them.

    Raises:
        ValueError: `count` is not a multiple of the number of classes, or a class has too few images.
    """
    return _choose(labels, count, lambda places, wanted: places[:wanted])


def spread_subset(labels: Tensor, count: int) -> Tensor:
    """As `balanced_subset`, but evenly spaced through each class.

    MNIST's test images are ordered: the first half is cleaner than the second (its authors say), so a prefix of them
    would be an easier test than the whole.
    """
    return _choose(labels, count, lambda places, wanted: places[torch.arange(wanted) * len(places) // wanted])


def _choose(labels: Tensor, count: int, pick: Callable[[Tensor, int], Tensor]) -> Tensor:
    classes = torch.bincount(labels).nonzero().flatten().tolist()
    if count <= 0 or count % len(classes):
        raise ValueError(f"count: must be a positive multiple of the {len(classes)} classes, got {count}")
    wanted = count // len(classes)
    chosen = []
    for label in classes:
        places = torch.nonzero(labels == label).flatten()
        if len(places) < wanted:
            raise ValueError(f"count: {count} needs {wanted} images of class {label}, which has {len(places)}")
        chosen.append(pick(places, wanted))
    return torch.cat(chosen).sort().values
