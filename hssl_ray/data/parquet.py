"""A split as one Parquet file: a row is an image's bytes, channel by channel, and its label.

Fixed-size binary, plain encoding, zstd: 60,000 MNIST images take 9.3 MB and 0.04 s to read; as fixed-size lists of
uint8 they take 12.6 MB and 0.27 s. Level 19 would save another 4 % of the bytes for 20 times the writing time.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hssl_ray.data.errors import DataError
from hssl_ray.data.files import replacing
from hssl_ray.data.pixels import Split

ROW_GROUP = 5_000


def image_type(pixels: int) -> pa.DataType:
    """Arrow type of one image."""
    return pa.binary(pixels)


def image_array(split: Split) -> pa.Array:
    """The images as an Arrow array over the same memory."""
    pixels = split.images[0].size
    return pa.Array.from_buffers(image_type(pixels), len(split), [None, pa.py_buffer(split.images)])


def write_parquet(path: Path, split: Split) -> None:
    """Write one split, whole or not at all."""
    assert split.images.flags.c_contiguous
    table = pa.table({"image": image_array(split), "label": pa.array(split.labels.astype(np.int16))})
    with replacing(path) as partial:
        pq.write_table(
            table,
            partial,
            row_group_size=ROW_GROUP,
            use_dictionary=False,
            compression="zstd",
            compression_level=9,
            write_page_checksum=True,
        )


def read_parquet(path: Path, shape: tuple[int, int, int], count: int) -> Split:
    """Read one split of `count` images of `shape` (C, H, W), a row group at a time into memory made once.

    Raises:
        DataError: the file is absent, damaged, or holds something else.
    """
    pixels = int(np.prod(shape))
    expected = pa.schema([("image", image_type(pixels)), ("label", pa.int16())])
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            if not file.schema_arrow.equals(expected):
                raise DataError(f"{path}: columns must be {_line(expected)}, got {_line(file.schema_arrow)}")
            if file.metadata.num_rows != count:
                raise DataError(f"{path}: must have {count} rows, got {file.metadata.num_rows}")
            split = Split(np.empty((count, *shape), np.uint8), np.empty(count, np.int64))
            rows, start = split.images.reshape(count, pixels), 0
            for batch in file.iter_batches(batch_size=ROW_GROUP):
                stop = start + len(batch)
                images, labels = batch.column("image"), batch.column("label")
                if images.null_count or labels.null_count:
                    raise DataError(f"{path}: a row has no image or no label")
                values = np.frombuffer(images.buffers()[1], np.uint8)[images.offset * pixels :]
                rows[start:stop] = values[: len(batch) * pixels].reshape(len(batch), pixels)
                split.labels[start:stop] = labels.to_numpy()
                start = stop
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as Parquet: {error}") from error
    return split


def _line(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in schema)
