"""Tiny ImageNet's folders: classes by name, colours in their channels, and every damage named."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hssl_ray.data.catalog import DatasetInfo
from hssl_ray.data.errors import DataError
from hssl_ray.data.pixels import Content
from hssl_ray.data.tiny_imagenet import read_tiny_imagenet


def read(folder: Path, info: DatasetInfo) -> Content:
    return read_tiny_imagenet(folder / "tiny-imagenet-200", info, lambda line: None)


def first_image(folder: Path) -> Path:
    return folder / "tiny-imagenet-200" / "train" / "n01443537" / "images" / "n01443537_0.JPEG"


def test_classes_are_alphabetical_and_val_is_the_test_split(tiny_imagenet: DatasetInfo, tiny_folder: Path) -> None:
    content = read(tiny_folder, tiny_imagenet)
    assert content.classes == ("n01443537", "n01629819", "n01641577")
    assert content.train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert content.test.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_colours_are_in_their_channels(tiny_imagenet: DatasetInfo, tiny_folder: Path) -> None:
    content = read(tiny_folder, tiny_imagenet)
    assert content.train.images.shape == (12, 3, 64, 64)
    means = content.train.images.mean(axis=(2, 3))
    expected = [(10 + 60 * label, 20 * number, 200) for label in range(3) for number in range(4)]
    np.testing.assert_allclose(means, expected, atol=2)


@pytest.mark.parametrize(
    ("mode", "colour", "expected"), [("L", 90, (90, 90, 90)), ("CMYK", (255, 0, 0, 0), (0, 255, 255))]
)
def test_gray_and_cmyk_become_rgb(
    tiny_imagenet: DatasetInfo, tiny_folder: Path, mode: str, colour: int, expected: tuple[int, int, int]
) -> None:
    Image.new(mode, (64, 64), colour).save(first_image(tiny_folder), format="JPEG", quality=100)
    with Image.open(first_image(tiny_folder)) as image:
        assert image.mode == mode
    means = read(tiny_folder, tiny_imagenet).train.images[0].mean(axis=(1, 2))
    np.testing.assert_allclose(means, expected, atol=2)


def test_a_missing_class_folder_is_named(tiny_imagenet: DatasetInfo, tiny_folder: Path) -> None:
    (tiny_folder / "tiny-imagenet-200" / "train" / "n01629819").rename(tiny_folder / "elsewhere")
    with pytest.raises(DataError, match="the folder of class n01629819 is absent"):
        read(tiny_folder, tiny_imagenet)


@pytest.mark.parametrize("damage", ["cut short", "not an image", "another format", "another size"])
def test_a_damaged_image_is_named(tiny_imagenet: DatasetInfo, tiny_folder: Path, damage: str) -> None:
    path = first_image(tiny_folder)
    match damage:
        case "cut short":
            Image.effect_noise((64, 64), 50).convert("RGB").save(path, quality=100)
            path.write_bytes(path.read_bytes()[:1500])
        case "not an image":
            path.write_bytes(b"<html>")
        case "another format":
            Image.new("RGB", (64, 64)).save(path, format="PNG")
        case "another size":
            Image.new("RGB", (64, 32)).save(path)
    with pytest.raises(DataError, match=r"n01443537_0.JPEG: (is not a whole JPEG|must be 64 x 64 pixels, got 64 x 32)"):
        read(tiny_folder, tiny_imagenet)


def test_an_annotation_of_no_class_is_named_by_line(tiny_imagenet: DatasetInfo, tiny_folder: Path) -> None:
    path = tiny_folder / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    path.write_text(path.read_text().replace("val_1.JPEG\tn01443537", "val_1.JPEG\tn99999999"))
    with pytest.raises(DataError, match=r"val_annotations.txt:2: 'n99999999' is not a class"):
        read(tiny_folder, tiny_imagenet)


def test_an_annotation_cannot_leave_its_folder(tiny_imagenet: DatasetInfo, tiny_folder: Path) -> None:
    path = tiny_folder / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    path.write_text(path.read_text().replace("val_0.JPEG", "../../train/n01443537/images/n01443537_0.JPEG"))
    with pytest.raises(DataError, match=r"val/images/n01443537_0.JPEG: is not a whole JPEG"):
        read(tiny_folder, tiny_imagenet)


def test_too_few_classes_are_refused(tiny_imagenet: DatasetInfo, tiny_folder: Path) -> None:
    (tiny_folder / "tiny-imagenet-200" / "wnids.txt").write_text("n01443537\nn01443537\nn01629819\n")
    with pytest.raises(DataError, match=r"wnids.txt: must name 3 classes, got 2"):
        read(tiny_folder, tiny_imagenet)
