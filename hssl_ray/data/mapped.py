"""The memory-mapped file a trial reads: one uncompressed Arrow record batch, shared by all processes of a machine.

It is made once from Parquet and named by the digest of its content, so it is never stale. The mapping is private,
copy-on-write: processes share the pages of the page cache, and a stray write reaches neither file nor neighbour.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hssl_ray.data.errors import DataError
from hssl_ray.data.files import locked, replacing
from hssl_ray.data.manifest import Manifest, parquet_directory, remedy, work_directory
from hssl_ray.data.parquet import image_array, image_type, read_parquet
from hssl_ray.data.pixels import SPLITS, Split


def mapped_path(manifest: Manifest, split: str) -> Path:
    """Where the mapped file of a split lies, or would lie."""
    return work_directory(manifest.name) / f"mapped-{manifest.digest[:16]}" / f"{split}.arrow"


def ensure_mapped(manifest: Manifest) -> None:
    """Make the mapped files that are missing; of many processes one works and the others wait.

    Raises:
        DataError: the Parquet files do not hold what the manifest says, or the disk refuses.
    """
    if all(mapped_path(manifest, split).exists() for split in SPLITS):
        return
    folder = work_directory(manifest.name)
    try:
        with locked(folder / ".lock"):
            for split in SPLITS:
                path = mapped_path(manifest, split)
                if not path.exists():
                    write_mapped(path, read_checked(manifest, split), manifest.split(split).digest)
    except OSError as error:
        raise DataError(f"{folder}: the mapped files of {manifest.name} cannot be made here: {error}") from error


def read_checked(manifest: Manifest, split: str) -> Split:
    """A split from its Parquet file, equal to what the manifest says.

    Raises:
        DataError: it is not.
    """
    record = manifest.split(split)
    path = parquet_directory(manifest.name) / f"{split}.parquet"
    content = read_parquet(path, (manifest.channels, manifest.size, manifest.size), record.images)
    if content.digest() != record.digest:
        raise DataError(f"{path}: holds other images than its manifest says; {remedy(manifest.name)}")
    return content


def write_mapped(path: Path, split: Split, digest: str) -> None:
    """Write a split as an Arrow IPC file of one record batch that carries its digest."""
    batch = pa.RecordBatch.from_arrays(
        [image_array(split), pa.array(split.labels)],
        schema=_schema(split.images[0].size).with_metadata({"digest": digest}),
    )
    with (
        replacing(path) as partial,
        pa.OSFile(str(partial), "wb") as sink,
        pa.ipc.new_file(sink, batch.schema) as writer,
    ):
        writer.write_batch(batch)


def open_mapped(manifest: Manifest, split: str) -> Split:
    """A split over its memory map; nothing is read until it is touched. Images and labels may be written to, unseen.

    Raises:
        DataError: the file is absent or damaged.
    """
    record, path = manifest.split(split), mapped_path(manifest, split)
    pixels = manifest.channels * manifest.size**2
    try:
        with path.open("rb") as file:
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        whole = pa.py_buffer(mapping)
        batch = _only_batch(whole, _schema(pixels), record.digest)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{path}: is not a whole mapped file; delete it and it is made again ({error})") from error
    if len(batch) != record.images:
        raise DataError(f"{path}: must hold {record.images} images, got {len(batch)}; delete it and it is made again")

    def column(name: str, dtype: type[np.generic], count: int) -> npt.NDArray[Any]:
        # Arrow calls its buffers read-only, so the array is taken from the mapping, at the same address.
        offset = batch.column(name).buffers()[1].address - whole.address
        return np.frombuffer(mapping, dtype, count, offset)

    images = column("image", np.uint8, record.images * pixels)
    shape = (record.images, manifest.channels, manifest.size, manifest.size)
    return Split(images.reshape(shape), column("label", np.int64, record.images))


_whole: set[tuple[Path, str, int, int]] = set()  # files this process has compared, as they were then


def open_whole(manifest: Manifest, split: str) -> Split:
    """`open_mapped`, once every byte has been held against the manifest: once a process, and again if the file changes.

    Raises:
        DataError: the file is absent, damaged or holds other images.
    """
    opened, path = open_mapped(manifest, split), mapped_path(manifest, split)
    record, status = manifest.split(split), path.stat()
    state = (path, record.digest, status.st_mtime_ns, status.st_ino)
    if state not in _whole:
        if opened.digest() != record.digest:
            raise DataError(f"{path}: holds other images than its manifest says; delete it and it is made again")
        _whole.add(state)
    return opened


def _schema(pixels: int) -> pa.Schema:
    return pa.schema([("image", image_type(pixels)), ("label", pa.int64())])


def _only_batch(whole: pa.Buffer, schema: pa.Schema, digest: str) -> pa.RecordBatch:
    with pa.ipc.open_file(pa.BufferReader(whole)) as reader:
        if not reader.schema.equals(schema) or reader.num_record_batches != 1:
            raise ValueError("other columns or batches than this version writes")
        if (reader.schema.metadata or {}).get(b"digest") != digest.encode():
            raise ValueError("made from other images than the manifest names")
        return reader.get_batch(0)
