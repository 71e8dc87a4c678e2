"""What each data set is: its published shape, scaling and classes. The one list of names a study file may use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from hssl_ray.data.added_sets import added_sets
from hssl_ray.data.info import DatasetInfo

__all__ = ["ADDED", "CATALOG", "DatasetInfo", "DatasetName"]


CATALOG: dict[str, DatasetInfo] = {
    info.name: info
    for info in (
        DatasetInfo(
            name="mnist-mini",
            channels=1,
            size=28,
            classes=10,
            train_images=10_000,
            test_images=2_000,
            mean=(0.0,),
            std=(0.3081,),
            licence="CC BY-SA 3.0",
            digest="e1d3d21f9b8f8af45865c76963a60475e14c579272b7504081253c2b43e83208",
        ),
        DatasetInfo(
            name="mnist",
            channels=1,
            size=28,
            classes=10,
            train_images=60_000,
            test_images=10_000,
            mean=(0.0,),
            std=(0.3081,),
            licence="CC BY-SA 3.0",
            digest="afa6c731e6ff28f1fa99e17f47b4282627303b7cf897ab18b58fb3749370733c",
        ),
        DatasetInfo(
            name="fashion-mnist",
            channels=1,
            size=28,
            classes=10,
            train_images=60_000,
            test_images=10_000,
            mean=(0.0,),
            std=(0.3530,),
            licence="MIT",
            digest="2b374bebb9d450c14cd4e6824e9659072e13ed43fbe383865e2c14786c83657b",
        ),
        DatasetInfo(
            name="cifar10",
            channels=3,
            size=32,
            classes=10,
            train_images=50_000,
            test_images=10_000,
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.2470, 0.2435, 0.2616),
            licence="see source",
        ),
        DatasetInfo(
            name="tiny-imagenet",
            channels=3,
            size=64,
            classes=200,
            train_images=100_000,
            test_images=10_000,
            mean=(0.4802, 0.4481, 0.3975),
            std=(0.2770, 0.2691, 0.2821),
            licence="see source",
        ),
    )
}
ADDED = added_sets(tuple(CATALOG))
CATALOG |= {name: added.info for name, added in ADDED.items()}

if TYPE_CHECKING:
    DatasetName = str
else:
    DatasetName = Literal[tuple(CATALOG)]
