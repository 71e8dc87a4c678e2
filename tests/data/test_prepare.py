"""From published files to Parquet and a manifest, for every data set; whatever goes wrong leaves no data set behind."""

import hashlib
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hssl_ray.data.catalog import CATALOG, DatasetInfo
from hssl_ray.data.errors import DataError
from hssl_ray.data.manifest import work_directory
from hssl_ray.data.pixels import SPLITS, Content, Split, content_digest
from hssl_ray.data.prepare import prepare, prepare_mini
from hssl_ray.data.store import open_dataset
from hssl_ray.data.subset import spread_subset

Make = Callable[[DatasetInfo], Content]
Write = Callable[[Content], Path]


def assert_opens_as(name: str, content: Content) -> None:
    opened = open_dataset(name)
    for image_set, split in ((opened.train, content.train), (opened.test, content.test)):
        np.testing.assert_array_equal(image_set.images.numpy(), split.images)
        np.testing.assert_array_equal(image_set.labels.numpy(), split.labels)


def test_idx_to_parquet_to_mapped_keeps_every_pixel(mnist: DatasetInfo, content: Make, idx_folder: Write) -> None:
    made = content(mnist)
    prepare(mnist, idx_folder(made))
    assert_opens_as("mnist", made)


def test_cifar10_binary_keeps_every_pixel(cifar10: DatasetInfo, content: Make, cifar_folder: Write) -> None:
    made = content(cifar10)
    prepare(cifar10, cifar_folder(made))
    assert_opens_as("cifar10", made)


def test_an_archive_is_read_where_it_lies(
    cifar10: DatasetInfo, content: Make, cifar_folder: Write, tmp_path: Path
) -> None:
    made, downloads = content(cifar10), tmp_path / "downloads"
    folder = cifar_folder(made) / "cifar-10-batches-bin"
    downloads.mkdir()
    with tarfile.open(downloads / "cifar-10-binary.tar.gz", "w:gz") as archive:
        archive.add(folder, arcname="cifar-10-batches-bin")
    prepare(cifar10, downloads)
    assert_opens_as("cifar10", made)
    assert [path.name for path in downloads.iterdir()] == ["cifar-10-binary.tar.gz"]
    assert not list(work_directory("cifar10").glob("unpacked-*"))


def test_a_zip_of_tiny_imagenet_equals_its_folder(
    tiny_imagenet: DatasetInfo, tiny_folder: Path, tmp_path: Path
) -> None:
    from_folder = prepare(tiny_imagenet, tiny_folder)
    shutil.make_archive(str(tmp_path / "zip" / "tiny-imagenet-200"), "zip", tiny_folder)
    from_zip = prepare(tiny_imagenet, tmp_path / "zip", force=True)
    assert from_zip == from_folder


@pytest.mark.parametrize("name", ["cifar-10-binary.tar.gz", "tiny-imagenet-200.zip"])
def test_a_damaged_archive_is_named(
    cifar10: DatasetInfo, tiny_imagenet: DatasetInfo, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(b"<html>not found</html>")
    with pytest.raises(DataError, match=f"{name}: cannot be unpacked"):
        prepare(cifar10 if "cifar" in name else tiny_imagenet, tmp_path)


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_an_archive_cannot_write_outside_its_folder(
    cifar10: DatasetInfo, tiny_imagenet: DatasetInfo, tmp_path: Path, kind: str
) -> None:
    downloads, canary = tmp_path / "downloads", tmp_path / "canary"
    downloads.mkdir()
    canary.write_text("bird")
    if kind == "tar":
        with tarfile.open(downloads / "cifar-10-binary.tar.gz", "w:gz") as archive:
            archive.add(canary, arcname="../escaped")
    else:
        with zipfile.ZipFile(downloads / "tiny-imagenet-200.zip", "w") as archive_:
            archive_.write(canary, "../escaped")
    with pytest.raises(DataError):
        prepare(cifar10 if kind == "tar" else tiny_imagenet, downloads)
    assert not list(tmp_path.rglob("escaped"))


def test_the_manifest_says_what_the_files_hold(mnist: DatasetInfo, content: Make, idx_folder: Write) -> None:
    made = content(mnist)
    prepare(mnist, idx_folder(made))
    folder = work_directory("mnist")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["licence"] == "CC BY-SA 3.0"
    assert manifest["source"].startswith("LeCun") and manifest["source"].endswith("read from local files")
    assert manifest["digest"] == content_digest({name: made.split(name).digest() for name in SPLITS})
    for name in SPLITS:
        file = (folder / f"{name}.parquet").read_bytes()
        record = manifest[name]
        assert record["sha256"] == hashlib.sha256(file).hexdigest()
        assert record["bytes"] == len(file)
        assert record["images"] == len(made.split(name))
        assert record["class_counts"] == np.bincount(made.split(name).labels, minlength=10).tolist()


def test_a_prepared_data_set_stays_unless_forced(mnist: DatasetInfo, content: Make, idx_folder: Write) -> None:
    folder, said = idx_folder(content(mnist)), list[str]()
    prepare(mnist, folder)
    written = (work_directory("mnist") / "train.parquet").stat().st_mtime_ns
    prepare(mnist, Path("no such folder"), say=said.append)
    assert said == [f"mnist is in {work_directory('mnist')} already"]
    assert (work_directory("mnist") / "train.parquet").stat().st_mtime_ns == written
    prepare(mnist, folder, force=True)
    assert (work_directory("mnist") / "train.parquet").stat().st_mtime_ns > written


def test_other_images_replace_the_mapped_files_too(mnist: DatasetInfo, content: Make, idx_folder: Write) -> None:
    made = content(mnist)
    folder = idx_folder(made)
    prepare(mnist, folder)
    before = open_dataset("mnist")
    shutil.rmtree(folder)
    other = Content(Split(255 - made.train.images, made.train.labels), made.test, made.classes)
    prepare(mnist, idx_folder(other), force=True)
    assert_opens_as("mnist", other)
    assert before.digest != open_dataset("mnist").digest
    assert len(list(work_directory("mnist").glob("mapped-*"))) == 1
    np.testing.assert_array_equal(before.train.images.numpy(), made.train.images)


def _fewer_labels(made: Content) -> Content:
    return replace(made, train=Split(made.train.images, made.train.labels[:-1]))


def _fewer_images(made: Content) -> Content:
    return replace(made, train=Split(made.train.images[:-1], made.train.labels[:-1]))


def _smaller_images(made: Content) -> Content:
    return replace(made, test=Split(made.test.images[:, :, :20], made.test.labels))


def _eleventh_class(made: Content) -> Content:
    return replace(made, test=Split(made.test.images, np.where(made.test.labels == 9, 10, made.test.labels)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_fewer_labels, "train has 60 images but 59 labels"),
        (_fewer_images, "train of mnist has 60 images, got 59"),
        (_smaller_images, r"images of mnist have shape \(1, 28, 28\), got \(1, 20, 28\)"),
        (_eleventh_class, r"labels of mnist lie in 0..9, got 0..10"),
    ],
)
def test_files_that_are_not_the_published_ones_are_refused(
    mnist: DatasetInfo, content: Make, idx_folder: Write, change: Callable[[Content], Content], says: str
) -> None:
    folder = idx_folder(change(content(mnist)))
    with pytest.raises(DataError, match=says) as caught:
        prepare(mnist, folder)
    assert str(caught.value).startswith(str(folder))
    assert not (work_directory("mnist") / "manifest.json").exists()


def test_fashion_mnist_in_mnists_clothes_is_recognised(
    mnist: DatasetInfo, content: Make, idx_folder: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have the same file names, counts and shapes; only the content tells them apart."""
    made = content(mnist)
    digest = content_digest({name: made.split(name).digest() for name in SPLITS})
    fashion = replace(CATALOG["fashion-mnist"], train_images=60, test_images=20, digest=digest)
    monkeypatch.setitem(CATALOG, "fashion-mnist", fashion)
    folder = idx_folder(made)
    prepare(fashion, folder)
    with pytest.raises(DataError, match="mnist: the images are not the published ones, but those of fashion-mnist"):
        prepare(replace(mnist, digest="0" * 64), folder)
    monkeypatch.setitem(CATALOG, "fashion-mnist", replace(fashion, digest=None))
    with pytest.raises(DataError, match="mnist: the images are not the published ones, but others"):
        prepare(replace(mnist, digest="0" * 64), folder)


def test_a_full_disk_leaves_no_data_set(
    mnist: DatasetInfo, content: Make, idx_folder: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = idx_folder(content(mnist))
    prepare(mnist, folder)

    def full(path: Path, split: Split) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("hssl_ray.data.prepare.write_parquet", full)
    with pytest.raises(DataError, match=r"mnist cannot be prepared: .*No space left on device"):
        prepare(mnist, folder, force=True)
    with pytest.raises(DataError, match="mnist is not prepared"):
        open_dataset("mnist")


def test_no_folder_says_what_to_fetch(mnist: DatasetInfo, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder") as caught:
        prepare(mnist, tmp_path / "nowhere")
    assert "train-images-idx3-ubyte.gz" in str(caught.value)
    assert "hssl-ray data prepare mnist --from DIR" in str(caught.value)


def test_mini_is_the_spread_choice_of_the_whole(
    mnist: DatasetInfo, content: Make, idx_folder: Write, tmp_path: Path
) -> None:
    made = content(mnist)
    info = replace(CATALOG["mnist-mini"], train_images=30, test_images=10, digest=None)
    manifest = prepare_mini(info, mnist, idx_folder(made), tmp_path / "mini")
    assert manifest.train.class_counts == (3,) * 10
    assert manifest.test.class_counts == (1,) * 10
    rows = spread_subset(torch.from_numpy(made.train.labels), 30).numpy()
    assert manifest.train.digest == made.train.take(rows).digest()
    assert sorted(path.name for path in (tmp_path / "mini").iterdir()) == [
        "manifest.json",
        "test.parquet",
        "train.parquet",
    ]
