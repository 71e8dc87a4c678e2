"""What torchvision does for us: downloads with its checksums, and CIFAR-10's Python version."""

from __future__ import annotations

import contextlib
import http.client
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hssl_ray.data.errors import DataError
from hssl_ray.data.pixels import Content, Split
from hssl_ray.data.published import PUBLISHED
from hssl_ray.data.torchvision_ops import torchvision_datasets

CIFAR10_PYTHON = "cifar-10-batches-py"
NETWORK_TIMEOUT = 10.0


def download(name: str, scratch: Path) -> Path:
    """Download a data set's published files into `scratch`; returns the folder that holds them.

    Raises:
        DataError: torchvision has no download for it, or the download failed; the message says what to fetch by hand.
    """
    by_hand, class_name = PUBLISHED[name].how_to(name), PUBLISHED[name].torchvision_class
    if not class_name:
        raise DataError(f"{name} has no download in torchvision\n{by_hand}")
    kind = getattr(torchvision_datasets(), class_name)
    try:
        # torchvision waits for ever on a silent server, and prints.
        with _socket_timeout(NETWORK_TIMEOUT), contextlib.redirect_stdout(sys.stderr):
            kind(scratch, train=True, download=True)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise DataError(f"{name} could not be downloaded: {error}\n{by_hand}") from error
    return scratch if name == "cifar10" else scratch / class_name / "raw"


def read_cifar10_python(folder: Path, classes: tuple[str, ...]) -> Content:
    """CIFAR-10 from the folder `cifar-10-batches-py`, whose pickles torchvision opens only if their md5 is right.

    Raises:
        DataError: a file is absent or its md5 is wrong.
    """
    kind = torchvision_datasets().CIFAR10
    try:
        splits = [kind(folder.parent, train=train) for train in (True, False)]
    except RuntimeError as error:
        raise DataError(f"{folder}: a file is absent or its md5 is wrong; fetch the archive again") from error
    train, test = (
        Split(np.ascontiguousarray(split.data.transpose(0, 3, 1, 2)), np.array(split.targets, np.int64))
        for split in splits
    )
    return Content(train, test, classes)


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
