"""manifest.json: what a prepared data set holds, where it came from, and how to tell that it is whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hssl_ray.data.catalog import CATALOG, DatasetInfo
from hssl_ray.data.errors import DataError, NotPrepared
from hssl_ray.data.files import replacing
from hssl_ray.data.home import home
from hssl_ray.data.pixels import SPLITS, content_digest
from hssl_ray.data.published import PUBLISHED

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
PACKAGED = Path(__file__).parent / "packaged"


class SplitRecord(BaseModel):
    """One Parquet file: `<split>.parquet` beside the manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    sha256: Digest = Field(description="Of the file's bytes.")
    bytes: int = Field(description="Size of the file.")
    images: int = Field(description="Number of images.")
    class_counts: tuple[int, ...] = Field(description="Images of each class.")
    digest: Digest = Field(description="Of pixels and labels, whatever their encoding.")


class Manifest(BaseModel):
    """What `manifest.json` says. Written last, so a folder without one is not a data set."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1] = 1
    name: str
    digest: Digest = Field(description="Identity of the content; `Dataset.digest`.")
    source: str = Field(description="Who published the images, and how they came here.")
    licence: str
    channels: int
    size: int
    classes: tuple[str, ...] = Field(description="Name of each class, in the order of the labels.")
    train: SplitRecord
    test: SplitRecord

    def split(self, name: str) -> SplitRecord:
        return {"train": self.train, "test": self.test}[name]


def dataset_info(name: str) -> DatasetInfo:
    """Published facts of a data set.

    Raises:
        DataError: no data set has this name.
    """
    if name not in CATALOG:
        raise DataError(f"data set {name!r} is unknown; there are {', '.join(CATALOG)}")
    return CATALOG[name]


def work_directory(name: str) -> Path:
    """Where a data set's lock and mapped files lie, and its Parquet files unless it ships with the package."""
    return home() / "data" / name


def parquet_directory(name: str) -> Path:
    """Where a data set's Parquet files and manifest lie, or would lie."""
    packaged = PACKAGED / name
    return packaged if packaged.is_dir() else work_directory(name)


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write `manifest.json`, whole or not at all."""
    with replacing(directory / "manifest.json") as partial:
        partial.write_text(json.dumps(manifest.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")


def read_manifest(name: str, directory: Path) -> Manifest:
    """The manifest of data set `name` in `directory`.

    Raises:
        NotPrepared: there is none; the message says how to get the data.
        DataError: no such data set, or it is damaged, or describes other images than the published ones.
    """
    info, path = dataset_info(name), directory / "manifest.json"
    try:
        manifest = Manifest.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        how = PUBLISHED[name].how_to(name)
        raise NotPrepared(f"{name} is not prepared: {directory} has no manifest.json\n{how}") from None
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a manifest; {remedy(name)}\n{error}") from error
    facts = (name, info.train_images, info.test_images, info.channels, info.size, info.classes)
    found = (
        manifest.name,
        manifest.train.images,
        manifest.test.images,
        manifest.channels,
        manifest.size,
        len(manifest.classes),
    )
    if found != facts or manifest.digest != (info.digest or manifest.digest):
        raise DataError(f"{path}: describes other images than the published {name}; {remedy(name)}")
    if manifest.digest != content_digest({split: manifest.split(split).digest for split in SPLITS}):
        raise DataError(f"{path}: its digests contradict each other; {remedy(name)}")
    return manifest


def remedy(name: str) -> str:
    """What to do about damaged files of data set `name`."""
    if (PACKAGED / name).is_dir():
        return "install the package again"
    return f"make it again: hssl-ray data prepare {name} --force"
