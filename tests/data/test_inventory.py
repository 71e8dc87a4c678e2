"""`list` and `verify` say what is there and find what is damaged."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hssl_ray.data.catalog import DatasetInfo
from hssl_ray.data.errors import DataError, NotPrepared
from hssl_ray.data.inventory import inventory, verify
from hssl_ray.data.manifest import Manifest, work_directory
from hssl_ray.data.mapped import ensure_mapped, mapped_path
from hssl_ray.data.pixels import Content
from hssl_ray.data.prepare import prepare


@pytest.fixture
def prepared(
    mnist: DatasetInfo, content: Callable[[DatasetInfo], Content], idx_folder: Callable[[Content], Path]
) -> Manifest:
    manifest = prepare(mnist, idx_folder(content(mnist)))
    ensure_mapped(manifest)
    return manifest


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def states() -> dict[str, str]:
    return {entry.info.name: entry.state for entry in inventory()}


def test_the_packaged_data_set_is_whole_and_the_others_absent() -> None:
    absent = dict.fromkeys(("mnist", "fashion-mnist", "cifar10", "tiny-imagenet"), "absent")
    assert states() == {"mnist-mini": "packaged", **absent}
    assert verify("mnist-mini").whole


def test_a_prepared_data_set_is_listed_and_whole(prepared: Manifest) -> None:
    assert states()["mnist"] == "prepared"
    outcome = verify("mnist")
    assert (outcome.whole, outcome.problems) == (True, ())


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("place", [0, 1000, -1])
def test_a_flipped_byte_of_parquet_is_found(prepared: Manifest, split: str, place: int) -> None:
    path = work_directory("mnist") / f"{split}.parquet"
    flip(path, place)
    assert verify("mnist").problems == (f"{path}: its SHA-256 is not the manifest's",)


def test_a_flipped_pixel_of_a_mapped_file_is_found(prepared: Manifest) -> None:
    path = mapped_path(prepared, "train")
    flip(path, path.stat().st_size // 2)
    (problem,) = verify("mnist").problems
    assert problem.startswith(f"{path}: holds other images")


def test_a_cut_and_an_absent_file_are_found_together(prepared: Manifest) -> None:
    train, test = (work_directory("mnist") / f"{split}.parquet" for split in ("train", "test"))
    train.write_bytes(train.read_bytes()[:-1])
    test.unlink()
    first, second = verify("mnist").problems
    assert first.startswith(f"{train}: must be {prepared.train.bytes} bytes")
    assert second.startswith(f"{test}: cannot be read (No such file")


def test_a_damaged_manifest_is_listed_and_reported(prepared: Manifest) -> None:
    path = work_directory("mnist") / "manifest.json"
    path.write_text(path.read_text()[:-20])
    (entry,) = [entry for entry in inventory() if entry.info.name == "mnist"]
    assert entry.state == "damaged"
    assert verify("mnist").problems == (entry.problem,)
    assert "data prepare mnist --force" in entry.problem


def test_wrong_class_counts_are_found(prepared: Manifest) -> None:
    path = work_directory("mnist") / "manifest.json"
    text = path.read_text()
    assert "   6,\n" in text
    path.write_text(text.replace("   6,\n", "   7,\n", 1))
    (problem,) = verify("mnist").problems
    assert "its images of each class are not the manifest's" in problem


def test_an_absent_data_set_is_no_outcome_but_an_error() -> None:
    with pytest.raises(NotPrepared, match="cifar10 is not prepared"):
        verify("cifar10")
    with pytest.raises(DataError, match="'nope' is unknown"):
        verify("nope")
