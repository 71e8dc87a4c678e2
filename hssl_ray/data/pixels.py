"""Images and labels in memory, checked once, with the digest that is a data set's identity."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hssl_ray.data.errors import DataError
from hssl_ray.data.info import DatasetInfo

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Split:
    """One split: images (N, C, H, W) uint8 and labels (N,) int64, both contiguous."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: npt.NDArray[np.int64]) -> Split:
        """The images and labels at these positions, copied."""
        return Split(self.images[indices], self.labels[indices])

    def class_counts(self, classes: int) -> tuple[int, ...]:
        """Images of each class."""
        return tuple(int(count) for count in np.bincount(self.labels, minlength=classes))

    def digest(self) -> str:
        """SHA-256 of shape, pixels and labels: the same however the split is encoded or compressed."""
        content = hashlib.sha256(f"uint8 {self.images.shape} int64 {self.labels.shape}".encode())
        content.update(np.ascontiguousarray(self.images).data)
        content.update(np.ascontiguousarray(self.labels, dtype="<i8").data)
        return content.hexdigest()


@dataclass(frozen=True)
class Content:
    """A whole data set as its published files hold it. `classes` are names in the order of the labels."""

    train: Split
    test: Split
    classes: tuple[str, ...]

    def split(self, name: str) -> Split:
        return {"train": self.train, "test": self.test}[name]


def content_digest(split_digests: Mapping[str, str]) -> str:
    """Identity of a whole data set, from the digests of its splits."""
    lines = "".join(f"{name} {split_digests[name]}\n" for name in SPLITS)
    return hashlib.sha256(lines.encode()).hexdigest()


def check_split(split: Split, info: DatasetInfo, name: str, where: object) -> None:
    """Hold a split against the published facts.

    Raises:
        DataError: number of images, their shape, or a label differs from what is published.
    """
    expected = {"train": info.train_images, "test": info.test_images}[name]
    shape = (info.channels, info.size, info.size)
    if len(split.images) != len(split.labels):
        raise DataError(f"{where}: {name} has {len(split.images)} images but {len(split.labels)} labels")
    if len(split) != expected:
        raise DataError(f"{where}: {name} of {info.name} has {expected} images, got {len(split)}")
    if split.images.shape[1:] != shape:
        raise DataError(f"{where}: images of {info.name} have shape {shape}, got {split.images.shape[1:]}")
    low, high = int(split.labels.min()), int(split.labels.max())
    if low < 0 or high >= info.classes:
        raise DataError(f"{where}: labels of {info.name} lie in 0..{info.classes - 1}, got {low}..{high}")
