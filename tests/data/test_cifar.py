"""CIFAR-10's binary version: channels and labels in their places, short files refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hssl_ray.data.catalog import DatasetInfo
from hssl_ray.data.cifar import read_cifar10_binary
from hssl_ray.data.errors import DataError
from hssl_ray.data.pixels import Content

Make = Callable[[DatasetInfo], Content]
Write = Callable[[Content], Path]


def test_pixels_and_labels_come_back(cifar10: DatasetInfo, content: Make, cifar_folder: Write) -> None:
    made = content(cifar10)
    folder = cifar_folder(made) / "cifar-10-batches-bin"
    for name in ("train", "test"):
        read = read_cifar10_binary(folder, name)
        np.testing.assert_array_equal(read.images, made.split(name).images)
        np.testing.assert_array_equal(read.labels, made.split(name).labels)


def test_a_record_is_label_then_red_green_blue(tmp_path: Path) -> None:
    """The published description: 1 label byte, 1024 red, 1024 green, 1024 blue, row by row."""
    record = bytes([7]) + bytes([1]) * 1024 + bytes([2]) * 1024 + bytes([3]) * 1023 + bytes([9])
    (tmp_path / "test_batch.bin").write_bytes(record)
    read = read_cifar10_binary(tmp_path, "test")
    assert read.labels.tolist() == [7]
    assert [int(read.images[0, channel, 0, 0]) for channel in range(3)] == [1, 2, 3]
    assert read.images[0, 2, 31, 31] == 9


@pytest.mark.parametrize("size", [0, 3072, 3074])
def test_part_of_a_record_is_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / "test_batch.bin").write_bytes(bytes(size))
    with pytest.raises(DataError, match=f"test_batch.bin: must be whole records of 3073 bytes, got {size}"):
        read_cifar10_binary(tmp_path, "test")


def test_an_absent_file_is_named(cifar10: DatasetInfo, content: Make, cifar_folder: Write) -> None:
    folder = cifar_folder(content(cifar10)) / "cifar-10-batches-bin"
    (folder / "data_batch_4.bin").unlink()
    with pytest.raises(DataError, match=r"data_batch_4.bin: cannot be read"):
        read_cifar10_binary(folder, "train")
