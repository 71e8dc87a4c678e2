"""Published archives, unpacked for as long as they are read."""

from __future__ import annotations

import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hssl_ray.data.errors import DataError
from hssl_ray.data.publication import Publication


@contextmanager
def unpacked(folder: Path, publication: Publication, scratch: Path) -> Iterator[Path]:
    """The folder with the published files themselves: unpacked already, or from an archive into `scratch` for now.

    Raises:
        DataError: the archive is damaged.
    """
    for name in publication.folders:
        if (folder / name).is_dir():
            yield folder / name
            return
    archive = next((folder / name for name in publication.archives if (folder / name).is_file()), None)
    if archive is None:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="unpacked-", dir=scratch) as inside:
        _unpack(archive, Path(inside))
        with unpacked(Path(inside), publication, scratch) as files:
            yield files


def _unpack(archive: Path, target: Path) -> None:
    try:
        if archive.suffix == ".zip":
            with zipfile.ZipFile(archive) as file:
                file.extractall(target)  # noqa: S202  (zipfile keeps every name inside the target)
        else:
            with tarfile.open(archive) as file:
                file.extractall(target, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise DataError(f"{archive}: cannot be unpacked ({error}); fetch it again") from error
