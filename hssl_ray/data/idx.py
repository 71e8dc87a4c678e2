"""IDX, the format of MNIST and Fashion-MNIST: a magic number, the sizes, then bytes; plain or gzip."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hssl_ray.data.errors import DataError
from hssl_ray.data.pixels import Split

_PREFIX = {"train": "train", "test": "t10k"}


def read_idx_split(directory: Path, split: str) -> Split:
    """One split of gray images from `<prefix>-images-idx3-ubyte[.gz]` and its labels: (N, 1, H, W).

    Raises:
        DataError: a file is absent, cut short, or not IDX.
    """
    prefix = _PREFIX[split]
    images = read_idx(_find(directory, f"{prefix}-images", "idx3-ubyte"), dimensions=3)
    labels = read_idx(_find(directory, f"{prefix}-labels", "idx1-ubyte"), dimensions=1)
    return Split(images[:, np.newaxis], labels.astype(np.int64))


def read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """An array of unsigned bytes with this many dimensions.

    Raises:
        DataError: cut short, too long, or another magic number.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            data = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); fetch it again") from error
    header = 4 + 4 * dimensions
    magic = bytes((0, 0, 8, dimensions))  # 8: unsigned byte
    if data[:4] != magic:
        raise DataError(
            f"{path}: an IDX file of {dimensions} dimensions starts with {magic.hex()}, got {data[:4].hex()}"
        )
    if len(data) < header:
        raise DataError(f"{path}: ends inside its header of {header} bytes; fetch it again")
    shape = struct.unpack(f">{dimensions}I", data[4:header])
    expected = header + int(np.prod(shape, dtype=np.int64))
    if len(data) != expected:
        raise DataError(
            f"{path}: {'x'.join(map(str, shape))} values take {expected} bytes, got {len(data)}; fetch it again"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _find(directory: Path, stem: str, kind: str) -> Path:
    # Some mirrors unpack the files under names with a dot.
    names = [f"{stem}{mark}{kind}{end}" for mark in "-." for end in ("", ".gz")]
    for name in names:
        if (directory / name).is_file():
            return directory / name
    raise DataError(f"{directory}: has no {names[0]}, plain or .gz")
