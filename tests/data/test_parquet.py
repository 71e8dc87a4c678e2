"""Parquet files hold what was written, in fixed-size rows, and refuse damage."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hssl_ray.data import parquet
from hssl_ray.data.errors import DataError
from hssl_ray.data.parquet import read_parquet, write_parquet
from hssl_ray.data.pixels import Split

SHAPE = (3, 8, 8)


@pytest.fixture
def split() -> Split:
    noise = np.random.default_rng(0)
    return Split(noise.integers(0, 256, (250, *SHAPE), np.uint8), noise.integers(0, 200, 250))


@pytest.fixture
def path(tmp_path: Path, split: Split, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of three row groups, the last one short."""
    monkeypatch.setattr(parquet, "ROW_GROUP", 100)
    write_parquet(tmp_path / "train.parquet", split)
    return tmp_path / "train.parquet"


def test_rows_come_back_over_row_groups(path: Path, split: Split) -> None:
    assert pq.ParquetFile(path).num_row_groups == 3
    read = read_parquet(path, SHAPE, 250)
    np.testing.assert_array_equal(read.images, split.images)
    np.testing.assert_array_equal(read.labels, split.labels)
    assert read.digest() == split.digest()


def test_any_reader_of_parquet_sees_image_and_label(path: Path, split: Split) -> None:
    table = pq.read_table(path)
    assert table.schema.names == ["image", "label"]
    assert table["image"][7].as_py() == split.images[7].tobytes()
    assert table["label"][7].as_py() == split.labels[7]


def test_the_digest_does_not_depend_on_the_encoding(path: Path, split: Split) -> None:
    before = read_parquet(path, SHAPE, 250).digest()
    pq.write_table(pq.read_table(path), path, compression="gzip", row_group_size=33)
    assert read_parquet(path, SHAPE, 250).digest() == before


def test_the_digest_sees_one_pixel_one_label_and_the_shape(split: Split) -> None:
    images, labels = split.images.copy(), split.labels.copy()
    images[249, 2, 7, 7] ^= 1
    labels[0] ^= 1
    others = [
        Split(images, split.labels),
        Split(split.images, labels),
        Split(split.images.reshape(250, 3, 4, 16), labels),
    ]
    assert len({split.digest(), *(other.digest() for other in others)}) == 4


def test_every_flipped_byte_of_the_data_is_found(path: Path, split: Split) -> None:
    """Page checksums make a damaged page an error of reading; a control byte outside pages may go unnoticed."""
    whole = path.read_bytes()
    for place in np.random.default_rng(1).integers(4, len(whole) * 9 // 10, 40):
        data = bytearray(whole)
        data[place] ^= 0x10
        path.write_bytes(data)
        try:
            digest = read_parquet(path, SHAPE, 250).digest()
        except DataError as error:
            assert str(error).startswith(str(path))
        else:
            assert digest == split.digest(), f"byte {place} changed the content unseen"


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (pa.table({"image": [b"abc"], "label": [1]}), "columns must be image: fixed_size_binary"),
        (pa.table({"label": [1]}), "columns must be"),
        (
            pa.table({"image": pa.array([bytes(192)] * 2, pa.binary(192)), "label": pa.array([1, None], pa.int16())}),
            "a row has no image or no label",
        ),
        (
            pa.table({"image": pa.array([bytes(192)], pa.binary(192)), "label": pa.array([1], pa.int16())}),
            "must have 2 rows, got 1",
        ),
    ],
    ids=["other type", "no image", "null", "short"],
)
def test_another_table_is_refused(tmp_path: Path, table: pa.Table, says: str) -> None:
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(DataError, match=says):
        read_parquet(tmp_path / "x.parquet", SHAPE, 2)


@pytest.mark.parametrize("data", [b"", b"PAR1", b"<html>" * 100], ids=["empty", "magic", "page"])
def test_a_file_that_is_no_parquet_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.parquet").write_bytes(data)
    with pytest.raises(DataError, match=r"x.parquet: cannot be read as Parquet"):
        read_parquet(tmp_path / "x.parquet", SHAPE, 2)


def test_a_failed_write_keeps_the_old_file(path: Path, split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def half(table: pa.Table, where: Path, **options: object) -> None:
        where.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", half)
    with pytest.raises(OSError, match="No space left"):
        write_parquet(path, split)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == ["train.parquet"]
