"""Small data sets in the published formats, and a catalog that says they are small."""

import gzip
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from hssl_ray.data.catalog import CATALOG, DatasetInfo
from hssl_ray.data.pixels import Content, Split

WNIDS = ("n01443537", "n01629819", "n01641577")


def random_split(info: DatasetInfo, count: int, seed: int) -> Split:
    """Noise images; every class occurs, in a mixed order."""
    noise = np.random.default_rng(seed)
    images = noise.integers(0, 256, (count, info.channels, info.size, info.size), np.uint8)
    return Split(images, noise.permutation(np.arange(count) % info.classes).astype(np.int64))


def idx_bytes(values: npt.NDArray[np.uint8]) -> bytes:
    """The format as its authors give it: 0, 0, 8 (unsigned byte), dimensions; sizes; values."""
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


@pytest.fixture
def mnist(monkeypatch: pytest.MonkeyPatch) -> DatasetInfo:
    """The catalog's mnist, of 60 and 20 images."""
    info = replace(CATALOG["mnist"], train_images=60, test_images=20, digest=None)
    monkeypatch.setitem(CATALOG, "mnist", info)
    return info


@pytest.fixture
def cifar10(monkeypatch: pytest.MonkeyPatch) -> DatasetInfo:
    """The catalog's cifar10, of 50 and 10 images."""
    info = replace(CATALOG["cifar10"], train_images=50, test_images=10)
    monkeypatch.setitem(CATALOG, "cifar10", info)
    return info


@pytest.fixture
def tiny_imagenet(monkeypatch: pytest.MonkeyPatch) -> DatasetInfo:
    """The catalog's tiny-imagenet, of 3 classes, 12 and 6 images."""
    info = replace(CATALOG["tiny-imagenet"], classes=3, train_images=12, test_images=6)
    monkeypatch.setitem(CATALOG, "tiny-imagenet", info)
    return info


def random_content(info: DatasetInfo) -> Content:
    classes = tuple(str(label) for label in range(info.classes))
    return Content(random_split(info, info.train_images, 1), random_split(info, info.test_images, 2), classes)


@pytest.fixture
def content() -> Callable[[DatasetInfo], Content]:
    return random_content


@pytest.fixture
def idx_folder(tmp_path: Path) -> Callable[[Content], Path]:
    """Writes the four files of MNIST."""

    def write(content: Content) -> Path:
        folder = tmp_path / "idx"
        folder.mkdir()
        for prefix, split in (("train", content.train), ("t10k", content.test)):
            images, labels = idx_bytes(split.images[:, 0]), idx_bytes(split.labels.astype(np.uint8))
            (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images, 1))
            (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels, 1))
        return folder

    return write


@pytest.fixture
def cifar_folder(tmp_path: Path) -> Callable[[Content], Path]:
    """Writes CIFAR-10's binary version: five training files and one for testing."""

    def write(content: Content) -> Path:
        folder = tmp_path / "cifar" / "cifar-10-batches-bin"
        folder.mkdir(parents=True)
        parts = [(f"data_batch_{place + 1}.bin", content.train, place * 10, place * 10 + 10) for place in range(5)]
        for name, split, start, stop in [*parts, ("test_batch.bin", content.test, 0, 10)]:
            labels, images = split.labels[start:stop, None].astype(np.uint8), split.images[start:stop].reshape(10, -1)
            (folder / name).write_bytes(np.hstack([labels, images]).tobytes())
        return folder.parent

    return write


@pytest.fixture
def tiny_folder(tmp_path: Path) -> Path:
    """Tiny ImageNet's folders with 3 classes; an image is one flat colour, which JPEG keeps."""
    folder = tmp_path / "tiny" / "tiny-imagenet-200"
    (folder / "val" / "images").mkdir(parents=True)
    (folder / "wnids.txt").write_text("\n".join(reversed(WNIDS)) + "\n")
    annotations = []
    for label, wnid in enumerate(WNIDS):
        images = folder / "train" / wnid / "images"
        images.mkdir(parents=True)
        for number in range(4):
            flat_image((10 + 60 * label, 20 * number, 200)).save(images / f"{wnid}_{number}.JPEG", quality=100)
        for number in range(2):
            name = f"val_{2 * label + number}.JPEG"
            flat_image((10 + 60 * label, 100, 0)).save(folder / "val" / "images" / name, quality=100)
            annotations.append(f"{name}\t{wnid}\t0\t32\t44\t62")
    (folder / "val" / "val_annotations.txt").write_text("\n".join(annotations) + "\n")
    return folder.parent


def flat_image(colour: tuple[int, int, int]) -> Image.Image:
    return Image.new("RGB", (64, 64), colour)
