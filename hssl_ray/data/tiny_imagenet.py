"""Tiny ImageNet's folders: `train/<wnid>/images/*.JPEG`, `val/images/*.JPEG` with `val/val_annotations.txt`.

The published test images have no labels, so the validation images are the test split.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from hssl_ray.data.catalog import DatasetInfo
from hssl_ray.data.errors import DataError
from hssl_ray.data.pixels import Content, Split

_REPORT_EVERY = 10_000


def read_tiny_imagenet(folder: Path, info: DatasetInfo, say: Callable[[str], None]) -> Content:
    """Both splits. A class is a WordNet identifier of `wnids.txt`, numbered in alphabetical order.

    Raises:
        DataError: a class folder or a file is absent, an image is damaged or has another size.
    """
    wnids = sorted(_lines(folder / "wnids.txt"))
    if len(set(wnids)) != info.classes:
        raise DataError(f"{folder / 'wnids.txt'}: must name {info.classes} classes, got {len(set(wnids))}")
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    train: list[tuple[Path, int]] = []
    for wnid, label in label_of.items():
        images = folder / "train" / wnid / "images"
        paths = sorted(images.glob("*.JPEG"))
        if not paths:
            raise DataError(f"{images}: the folder of class {wnid} is absent or has no .JPEG")
        train += [(path, label) for path in paths]
    annotations = folder / "val" / "val_annotations.txt"
    test: list[tuple[Path, int]] = []
    for number, line in enumerate(_lines(annotations), 1):
        name, wnid = [*line.split("\t"), "", ""][:2]
        if wnid not in label_of:
            raise DataError(f"{annotations}:{number}: {wnid!r} is not a class of wnids.txt")
        test.append((folder / "val" / "images" / Path(name).name, label_of[wnid]))
    return Content(_decode(train, info, say), _decode(test, info, say), tuple(wnids))


def _decode(files: list[tuple[Path, int]], info: DatasetInfo, say: Callable[[str], None]) -> Split:
    images = np.empty((len(files), info.channels, info.size, info.size), np.uint8)

    def decode(place: int) -> None:
        images[place] = _read_image(files[place][0], info.size)

    # The decoder lets other threads run.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(files), _REPORT_EVERY):
            stop = min(start + _REPORT_EVERY, len(files))
            for _ in pool.map(decode, range(start, stop)):
                pass
            say(f"decoded {stop:,} of {len(files):,} images")
    return Split(images, np.array([label for _, label in files], np.int64))


def _read_image(path: Path, size: int) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    try:
        with Image.open(path, formats=("JPEG",)) as image:
            if image.size != (size, size):
                raise DataError(f"{path}: must be {size} x {size} pixels, got {image.size[0]} x {image.size[1]}")
            # Some of the published files are gray, a few CMYK.
            return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    except (OSError, SyntaxError) as error:
        raise DataError(f"{path}: is not a whole JPEG image ({error}); fetch it again") from error


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
