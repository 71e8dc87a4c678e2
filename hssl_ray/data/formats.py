"""Which published format each data set has."""

from __future__ import annotations

from pathlib import Path

from hssl_ray.data.catalog import DatasetInfo
from hssl_ray.data.cifar import read_cifar10_binary
from hssl_ray.data.errors import DataError
from hssl_ray.data.idx import read_idx_split
from hssl_ray.data.pixels import Content
from hssl_ray.data.published import PUBLISHED
from hssl_ray.data.tiny_imagenet import read_tiny_imagenet
from hssl_ray.data.torchvision_sets import read_cifar10_python


def read_published(info: DatasetInfo, folder: Path) -> Content:
    """Read a data set from the files it is published as. An archive's own top folder may be there or not.

    Raises:
        DataError: the files are absent, or one is damaged.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: is not a folder\n{PUBLISHED[info.name].how_to(info.name)}")
    classes = PUBLISHED[info.name].classes
    match info.name:
        case "mnist" | "fashion-mnist":
            return Content(read_idx_split(folder, "train"), read_idx_split(folder, "test"), classes)
        case "cifar10":
            if (folder / "cifar-10-batches-py").is_dir():
                return read_cifar10_python(folder, classes)
            if folder.name == "cifar-10-batches-py":
                return read_cifar10_python(folder.parent, classes)
            inner = _inside(folder, "cifar-10-batches-bin")
            return Content(read_cifar10_binary(inner, "train"), read_cifar10_binary(inner, "test"), classes)
        case "tiny-imagenet":
            return read_tiny_imagenet(_inside(folder, "tiny-imagenet-200"), info)
        case name:
            raise DataError(f"{name} has no published files of its own")


def _inside(folder: Path, top: str) -> Path:
    return folder / top if (folder / top).is_dir() else folder
