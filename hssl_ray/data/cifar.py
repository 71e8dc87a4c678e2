"""CIFAR-10, binary version: a record is one label byte and 3072 pixel bytes, red, green, blue."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hssl_ray.data.errors import DataError
from hssl_ray.data.pixels import Split

_FILES = {"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)}
_SHAPE = (3, 32, 32)
_RECORD = 1 + 3 * 32 * 32


def read_cifar10_binary(folder: Path, split: str) -> Split:
    """One split from the `.bin` files of `folder`.

    Raises:
        DataError: a file is absent or cut short.
    """
    records = np.concatenate([_read(folder / name) for name in _FILES[split]])
    return Split(np.ascontiguousarray(records[:, 1:]).reshape(-1, *_SHAPE), records[:, 0].astype(np.int64))


def _read(path: Path) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); fetch it again") from error
    if not data or len(data) % _RECORD:
        raise DataError(f"{path}: must be whole records of {_RECORD} bytes, got {len(data)} bytes; fetch it again")
    return np.frombuffer(data, np.uint8).reshape(-1, _RECORD)
