"""What lies on this machine, and whether it is whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hssl_ray.data.catalog import CATALOG, DatasetInfo
from hssl_ray.data.errors import DataError, NotPrepared
from hssl_ray.data.files import sha256_of
from hssl_ray.data.manifest import PACKAGED, Manifest, dataset_info, parquet_directory, read_manifest
from hssl_ray.data.mapped import mapped_path, open_mapped, read_checked
from hssl_ray.data.pixels import SPLITS


@dataclass(frozen=True)
class Entry:
    """One line of `data list`. `problem` says why a data set that is there cannot be read."""

    info: DatasetInfo
    state: Literal["packaged", "prepared", "absent", "damaged"]
    directory: Path
    manifest: Manifest | None = None
    problem: str = ""


@dataclass(frozen=True)
class Verification:
    """Outcome of `verify`: whole if there are no problems."""

    name: str
    directory: Path
    problems: tuple[str, ...]

    @property
    def whole(self) -> bool:
        return not self.problems


def inventory() -> list[Entry]:
    """Every data set of the catalog with its state on this machine. Reads manifests only."""
    return [_entry(info) for info in CATALOG.values()]


def verify(name: str) -> Verification:
    """Read every byte of a data set again: file hashes, pixels and labels, and the mapped files where there are some.

    Raises:
        NotPrepared: it is not on this machine.
        DataError: there is no such data set.
    """
    directory = parquet_directory(dataset_info(name).name)
    try:
        manifest = read_manifest(name, directory)
    except NotPrepared:
        raise
    except DataError as error:
        return Verification(name, directory, (str(error),))
    found = [check(manifest, split) for split in SPLITS for check in (_parquet_problem, _mapped_problem)]
    return Verification(name, directory, tuple(problem for problem in found if problem))


def _entry(info: DatasetInfo) -> Entry:
    directory = parquet_directory(info.name)
    try:
        manifest = read_manifest(info.name, directory)
    except NotPrepared:
        return Entry(info, "absent", directory)
    except DataError as error:
        return Entry(info, "damaged", directory, problem=str(error))
    return Entry(info, "packaged" if directory.is_relative_to(PACKAGED) else "prepared", directory, manifest)


def _parquet_problem(manifest: Manifest, split: str) -> str | None:
    record, path = manifest.split(split), parquet_directory(manifest.name) / f"{split}.parquet"
    try:
        if path.stat().st_size != record.bytes:
            return f"{path}: must be {record.bytes} bytes, got {path.stat().st_size}"
        if sha256_of(path) != record.sha256:
            return f"{path}: its SHA-256 is not the manifest's"
        counts = read_checked(manifest, split).class_counts(len(manifest.classes))
    except OSError as error:
        return f"{path}: cannot be read ({error.strerror})"
    except DataError as error:
        return str(error)
    return None if counts == record.class_counts else f"{path}: its images of each class are not the manifest's"


def _mapped_problem(manifest: Manifest, split: str) -> str | None:
    path = mapped_path(manifest, split)
    if not path.exists():
        return None
    try:
        whole = open_mapped(manifest, split).digest() == manifest.split(split).digest
    except DataError as error:
        return str(error)
    return None if whole else f"{path}: holds other images than the manifest says; delete it and it is made again"
