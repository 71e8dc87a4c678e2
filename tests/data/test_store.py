"""Opening by name: the packaged data set, the promise of speed, and what is said when there is nothing to open."""

import time
from importlib.resources import files
from pathlib import Path

import pytest
import torch

from hssl_ray.data.errors import DataError
from hssl_ray.data.manifest import parquet_directory, work_directory
from hssl_ray.data.store import open_dataset

# The images that `hssl-ray data prepare mnist-mini --from MNIST_DIR --to DIR` chooses.
MNIST_MINI = "e1d3d21f9b8f8af45865c76963a60475e14c579272b7504081253c2b43e83208"


def test_mnist_mini_ships_with_the_package() -> None:
    opened = open_dataset("mnist-mini")
    assert opened.digest == MNIST_MINI
    assert opened.source.startswith("LeCun")
    assert opened.info.name == "mnist-mini"
    for image_set, count in ((opened.train, 10_000), (opened.test, 2_000)):
        assert image_set.images.shape == (count, 1, 28, 28)
        assert (image_set.images.dtype, image_set.labels.dtype) == (torch.uint8, torch.int64)
        assert torch.bincount(image_set.labels).tolist() == [count // 10] * 10
        assert len(image_set) == count


def test_its_pixels_are_mnists() -> None:
    """Mean and spread of the published training images are 0.1307 and 0.3081; a choice of a sixth is near them."""
    pixels = open_dataset("mnist-mini").train.images.double() / 255
    assert pixels.mean().item() == pytest.approx(0.1307, abs=2e-3)
    assert pixels.std().item() == pytest.approx(0.3081, abs=2e-3)


def test_the_packaged_files_are_small() -> None:
    folder = files("hssl_ray.data") / "packaged" / "mnist-mini"
    assert sorted(file.name for file in folder.iterdir()) == ["manifest.json", "test.parquet", "train.parquet"]
    assert sum(len(file.read_bytes()) for file in folder.iterdir()) < 4_000_000


def test_opening_again_is_fast_and_writes_nothing() -> None:
    open_dataset("mnist-mini")
    written = {path: path.stat().st_mtime_ns for path in work_directory("mnist-mini").rglob("*")}
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        open_dataset("mnist-mini")
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.3
    assert {path: path.stat().st_mtime_ns for path in work_directory("mnist-mini").rglob("*")} == written


def test_batches_are_slices_and_gathers_of_the_mapped_tensor() -> None:
    images = open_dataset("mnist-mini").train.images
    chosen = torch.tensor([5, 2, 9_999])
    assert torch.equal(images[chosen][2], images[9_999])
    assert images[100:200].data_ptr() == images.data_ptr() + 100 * 28 * 28


def test_an_absent_data_set_says_what_to_fetch_and_where_to_put_it() -> None:
    with pytest.raises(DataError, match="cifar10 is not prepared") as caught:
        open_dataset("cifar10")
    message = str(caught.value)
    for part in (str(parquet_directory("cifar10")), "cifar-10-binary.tar.gz", "data prepare cifar10 --from DIR"):
        assert part in message


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"data set 'cifar' is unknown; there are mnist-mini, mnist, .*cifar10"):
        open_dataset("cifar")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"name": "mnist-mini"', '"name": "mnist"', "describes other images than the published mnist-mini"),
        (MNIST_MINI, "0" * 64, "describes other images"),
        ('"digest": "79', '"digest": "78', "its digests contradict each other"),
        ('"format": 1', '"format": 2', "cannot be read as a manifest"),
        ('"licence"', '"license"', "cannot be read as a manifest"),
        ("{", "", "cannot be read as a manifest"),
    ],
)
def test_a_manifest_that_was_changed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, says: str
) -> None:
    text = (files("hssl_ray.data") / "packaged" / "mnist-mini" / "manifest.json").read_text()
    assert old in text
    monkeypatch.setattr("hssl_ray.data.manifest.PACKAGED", tmp_path)
    (tmp_path / "mnist-mini").mkdir()
    (tmp_path / "mnist-mini" / "manifest.json").write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=says) as caught:
        open_dataset("mnist-mini")
    assert "install the package again" in str(caught.value)
