"""The data sets of this machine, opened by name."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hssl_ray.data.catalog import DatasetInfo
from hssl_ray.data.manifest import dataset_info, parquet_directory, read_manifest
from hssl_ray.data.mapped import ensure_mapped, open_whole
from hssl_ray.data.pixels import Split


@dataclass(frozen=True)
class ImageSet:
    """images (N, C, H, W) uint8 and labels (N,) int64, over a memory map that all processes of the machine share."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """A data set ready to train on. `digest` names its pixels and labels; `source` says where they come from."""

    info: DatasetInfo
    digest: str
    source: str
    train: ImageSet
    test: ImageSet


def open_dataset(name: str) -> Dataset:
    """Open a data set over its memory-mapped files, which the first call on a machine makes.

    Raises:
        DataError: no such data set, not prepared (the message says what to fetch and where to put it), or damaged.
    """
    info = dataset_info(name)
    manifest = read_manifest(name, parquet_directory(name))
    ensure_mapped(manifest)
    train, test = (_image_set(open_whole(manifest, split)) for split in ("train", "test"))
    return Dataset(info, manifest.digest, manifest.source, train, test)


def _image_set(split: Split) -> ImageSet:
    return ImageSet(torch.from_numpy(split.images), torch.from_numpy(split.labels))
