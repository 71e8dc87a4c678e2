"""IDX files are read to the last byte or refused by name."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hssl_ray.data.catalog import DatasetInfo
from hssl_ray.data.errors import DataError
from hssl_ray.data.idx import read_idx, read_idx_split
from hssl_ray.data.pixels import Content

Make = Callable[[DatasetInfo], Content]
Write = Callable[[Content], Path]


def test_pixels_and_labels_come_back(mnist: DatasetInfo, content: Make, idx_folder: Write) -> None:
    made = content(mnist)
    folder = idx_folder(made)
    for name in ("train", "test"):
        read = read_idx_split(folder, name)
        np.testing.assert_array_equal(read.images, made.split(name).images)
        np.testing.assert_array_equal(read.labels, made.split(name).labels)


@pytest.mark.parametrize("rename", ["{}", "{0[0]}.{0[1]}"], ids=["plain", "dotted"])
def test_plain_files_are_read_too(mnist: DatasetInfo, content: Make, idx_folder: Write, rename: str) -> None:
    made = content(mnist)
    folder = idx_folder(made)
    for path in list(folder.iterdir()):
        stem = path.name.removesuffix(".gz")
        name = stem if rename == "{}" else stem.replace("-idx", ".idx")
        (folder / name).write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    np.testing.assert_array_equal(read_idx_split(folder, "train").images, made.train.images)


def _damaged(whole: bytes) -> dict[str, tuple[bytes, str]]:
    return {
        "truncated": (whole[:-1], r"3x2x2 values take 28 bytes, got 27"),
        "too long": (whole + b"x", r"take 28 bytes, got 29"),
        "labels given as images": (b"\0\0\x08\x01" + whole[4:], r"starts with 00000803, got 00000801"),
        "floats": (b"\0\0\x0d\x03" + whole[4:], r"starts with 00000803, got 00000d03"),
        "a web page": (b"<html>no such file", r"starts with 00000803, got 3c68746d"),
        "inside its header": (whole[:10], r"ends inside its header of 16 bytes"),
        "empty": (b"", r"starts with 00000803, got $"),
    }


@pytest.mark.parametrize("case", _damaged(b""))
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, case: str) -> None:
    whole = bytes((0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 2)) + bytes(range(12))
    path = tmp_path / "images-idx3-ubyte"
    path.write_bytes(whole)
    assert read_idx(path, dimensions=3).tolist() == np.arange(12).reshape(3, 2, 2).tolist()
    data, says = _damaged(whole)[case]
    path.write_bytes(data)
    with pytest.raises(DataError, match=says) as caught:
        read_idx(path, dimensions=3)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("keep", [-1, -9, 30, 2], ids=["tail", "checksum", "body", "header"])
def test_a_truncated_gz_is_refused_by_name(mnist: DatasetInfo, content: Make, idx_folder: Write, keep: int) -> None:
    folder = idx_folder(content(mnist))
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz: cannot be read"):
        read_idx_split(folder, "train")


def test_a_flipped_byte_in_a_gz_is_found(mnist: DatasetInfo, content: Make, idx_folder: Write) -> None:
    folder = idx_folder(content(mnist))
    path = folder / "train-images-idx3-ubyte.gz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz: cannot be read"):
        read_idx_split(folder, "train")


def test_an_absent_file_is_named(mnist: DatasetInfo, content: Make, idx_folder: Write) -> None:
    folder = idx_folder(content(mnist))
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"has no t10k-labels-idx1-ubyte, plain or .gz"):
        read_idx_split(folder, "test")
