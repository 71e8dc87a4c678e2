"""Which published format each data set has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hssl_ray.data.catalog import ADDED, DatasetInfo
from hssl_ray.data.cifar import read_cifar10_binary
from hssl_ray.data.errors import DataError
from hssl_ray.data.idx import read_idx_split
from hssl_ray.data.pixels import Content
from hssl_ray.data.published import PUBLISHED
from hssl_ray.data.tiny_imagenet import read_tiny_imagenet
from hssl_ray.data.torchvision_sets import CIFAR10_PYTHON, read_cifar10_python


def read_published(info: DatasetInfo, folder: Path, say: Callable[[str], None]) -> Content:
    """Read a data set from the files it is published as, an archive's top folder left out.

    Raises:
        DataError: the files are absent, or one is damaged.
    """
    classes = PUBLISHED[info.name].classes
    match info.name:
        case "mnist" | "fashion-mnist":
            return Content(read_idx_split(folder, "train"), read_idx_split(folder, "test"), classes)
        case "cifar10":
            if folder.name == CIFAR10_PYTHON:
                return read_cifar10_python(folder, classes)
            return Content(read_cifar10_binary(folder, "train"), read_cifar10_binary(folder, "test"), classes)
        case "tiny-imagenet":
            return read_tiny_imagenet(folder, info, say)
        case name if name in ADDED:
            return ADDED[name].read(folder)
        case name:
            raise DataError(f"{name} has no published files of its own")
