"""The mapped file: made once by whoever comes first, shared, out of reach of a stray write."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hssl_ray.data.catalog import DatasetInfo
from hssl_ray.data.errors import DataError
from hssl_ray.data.manifest import Manifest, work_directory
from hssl_ray.data.mapped import ensure_mapped, mapped_path, open_mapped
from hssl_ray.data.pixels import Content
from hssl_ray.data.prepare import prepare

Prepared = tuple[Manifest, Content]


@pytest.fixture
def prepared(
    mnist: DatasetInfo, content: Callable[[DatasetInfo], Content], idx_folder: Callable[[Content], Path]
) -> Prepared:
    made = content(mnist)
    return prepare(mnist, idx_folder(made)), made


def test_a_mapped_split_is_the_prepared_one(prepared: Prepared) -> None:
    manifest, made = prepared
    ensure_mapped(manifest)
    opened = open_mapped(manifest, "train")
    np.testing.assert_array_equal(opened.images, made.train.images)
    np.testing.assert_array_equal(opened.labels, made.train.labels)
    assert opened.images.base is not None and not opened.images.flags.owndata


def test_a_stray_write_reaches_neither_the_file_nor_another_opening(prepared: Prepared) -> None:
    manifest, made = prepared
    ensure_mapped(manifest)
    before = mapped_path(manifest, "train").read_bytes()
    mine, theirs = open_mapped(manifest, "train"), open_mapped(manifest, "train")
    mine.images[:] = 7
    assert int(mine.images[0, 0, 0, 0]) == 7
    np.testing.assert_array_equal(theirs.images, made.train.images)
    assert mapped_path(manifest, "train").read_bytes() == before


# A process says that it is ready, waits for the word, opens the data set, and says which file it got.
_OPENER = """
import sys
from hssl_ray.data.manifest import parquet_directory, read_manifest
from hssl_ray.data.mapped import ensure_mapped, mapped_path, open_mapped
manifest = read_manifest("mnist-mini", parquet_directory("mnist-mini"))
print("ready", flush=True)
sys.stdin.readline()
ensure_mapped(manifest)
inodes = [mapped_path(manifest, split).stat().st_ino for split in ("train", "test")]
print(inodes, open_mapped(manifest, "train").digest())
"""


def test_processes_that_start_together_share_one_file() -> None:
    """Two writers would leave two inodes, since each puts its own file in the place of the other's."""
    processes = [
        subprocess.Popen([sys.executable, "-c", _OPENER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        outcomes = [process.communicate(timeout=60)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert [process.returncode for process in processes] == [0] * 4
    assert len(set(outcomes)) == 1, outcomes
    assert not list(work_directory("mnist-mini").rglob("*.partial"))


_MAKER_THAT_STALLS = """
import sys
from hssl_ray.data.files import locked
from pathlib import Path
with locked(Path(sys.argv[1]) / ".lock"):
    (Path(sys.argv[1]) / sys.argv[2]).mkdir()
    (Path(sys.argv[1]) / sys.argv[2] / "train.arrow.partial").write_bytes(b"half")
    print("making", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.faults
def test_a_killed_maker_leaves_neither_lock_nor_half_a_file(prepared: Prepared) -> None:
    manifest, made = prepared
    folder = mapped_path(manifest, "train").parent
    arguments = [sys.executable, "-c", _MAKER_THAT_STALLS, str(folder.parent), folder.name]
    maker = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert maker.stdout is not None
    assert maker.stdout.readline() == "making\n"
    maker.kill()
    maker.communicate()
    ensure_mapped(manifest)
    np.testing.assert_array_equal(open_mapped(manifest, "train").images, made.train.images)
    assert sorted(path.name for path in folder.iterdir()) == ["test.arrow", "train.arrow"]


@pytest.mark.parametrize("damage", ["cut short", "empty", "not Arrow", "of other images"])
def test_a_damaged_mapped_file_is_named(prepared: Prepared, damage: str) -> None:
    manifest, _ = prepared
    ensure_mapped(manifest)
    path = mapped_path(manifest, "train")
    data = path.read_bytes()
    match damage:
        case "cut short":
            path.write_bytes(data[: len(data) // 2])
        case "empty":
            path.write_bytes(b"")
        case "not Arrow":
            path.write_bytes(b"x" * len(data))
        case "of other images":
            path.write_bytes(mapped_path(manifest, "test").read_bytes())
    with pytest.raises(DataError, match=r"train.arrow: is not a whole mapped file; delete it and it is made again"):
        open_mapped(manifest, "train")
    path.unlink()
    ensure_mapped(manifest)
    assert open_mapped(manifest, "train").digest() == manifest.train.digest


def test_parquet_that_contradicts_the_manifest_is_never_mapped(prepared: Prepared) -> None:
    manifest, _ = prepared
    wrong = manifest.model_copy(update={"train": manifest.train.model_copy(update={"digest": "0" * 64})})
    with pytest.raises(DataError, match=r"train.parquet: holds other images than its manifest says"):
        ensure_mapped(wrong)
    assert not mapped_path(wrong, "train").exists()


def test_a_home_that_cannot_be_written_to_is_named(prepared: Prepared) -> None:
    manifest, _ = prepared
    mapped_path(manifest, "train").parent.write_text("a file where the folder should be")
    with pytest.raises(DataError, match="the mapped files of mnist cannot be made here"):
        ensure_mapped(manifest)
