"""What each data set is: its published shape, scaling and classes. The one list of names a study file may use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

DatasetName = Literal["mnist-mini", "mnist", "fashion-mnist", "cifar10", "tiny-imagenet"]


@dataclass(frozen=True)
class DatasetInfo:
    """Published facts of one data set. Pixels become (value / 255 - mean) / std, channel by channel.

    The mean is zero for images on a black ground, so that ground, zero padding and the pixels that a transformation
    vacates are the same number.
    """

    name: DatasetName
    channels: int
    size: int
    classes: int
    train_images: int
    test_images: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    licence: str


CATALOG: dict[str, DatasetInfo] = {
    info.name: info
    for info in (
        DatasetInfo("mnist-mini", 1, 28, 10, 10_000, 2_000, (0.0,), (0.3081,), "CC BY-SA 3.0"),
        DatasetInfo("mnist", 1, 28, 10, 60_000, 10_000, (0.0,), (0.3081,), "CC BY-SA 3.0"),
        DatasetInfo("fashion-mnist", 1, 28, 10, 60_000, 10_000, (0.0,), (0.3530,), "MIT"),
        DatasetInfo(
            "cifar10", 3, 32, 10, 50_000, 10_000, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), "see source"
        ),
        DatasetInfo(
            "tiny-imagenet",
            3,
            64,
            200,
            100_000,
            10_000,
            (0.4802, 0.4481, 0.3975),
            (0.2770, 0.2691, 0.2821),
            "see source",
        ),
    )
}
assert set(CATALOG) == set(get_args(DatasetName))
