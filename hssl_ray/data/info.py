"""What is known of a data set before it is read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DatasetInfo:
    """Published facts of one data set. Pixels become (value / 255 - mean) / std, channel by channel.

    The mean is zero for images on a black ground, so that ground, zero padding and the pixels that a transformation
    vacates are the same number.
    """

    name: str
    channels: int
    size: int
    classes: int
    train_images: int
    test_images: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    licence: str
    digest: str | None = None
    """`Dataset.digest` of the published images, where known: Fashion-MNIST has the file names and sizes of MNIST."""
