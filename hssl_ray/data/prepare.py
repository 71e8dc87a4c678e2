"""From published files to Parquet and a manifest."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from hssl_ray.data.archives import unpacked
from hssl_ray.data.catalog import CATALOG, DatasetInfo
from hssl_ray.data.errors import DataError
from hssl_ray.data.files import locked, sha256_of
from hssl_ray.data.formats import read_published
from hssl_ray.data.manifest import Manifest, SplitRecord, read_manifest, work_directory, write_manifest
from hssl_ray.data.parquet import write_parquet
from hssl_ray.data.pixels import SPLITS, Content, Split, check_split, content_digest
from hssl_ray.data.published import PUBLISHED
from hssl_ray.data.subset import spread_subset
from hssl_ray.data.torchvision_sets import download


def prepare(
    info: DatasetInfo,
    source: Path | None = None,
    target: Path | None = None,
    *,
    force: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Manifest:
    """Make a data set's Parquet files and manifest in `target`; absent, in its folder under the home.

    `source` is a folder with the published files; absent, torchvision downloads them. A data set that is there already
    stays, unless `force`. `say` gets a line about each step.

    Raises:
        DataError: no network, a file is absent or damaged, or the images are not the published ones.
    """
    directory = target or work_directory(info.name)
    try:
        with locked(directory / ".lock"):
            if (directory / "manifest.json").exists() and not force:
                say(f"{info.name} is in {directory} already")
                return read_manifest(info.name, directory)
            if source is not None:
                content, how = _read(info, source, directory, say), "read from local files"
            else:
                with tempfile.TemporaryDirectory(prefix="download-", dir=directory) as scratch:
                    say(f"downloading {info.name} from {PUBLISHED[info.name].address}")
                    files = download(info.name, Path(scratch))
                    content, how = _read(info, files, directory, say), "downloaded by torchvision"
            return _write(info, content, how, directory, say)
    except OSError as error:
        raise DataError(f"{directory}: {info.name} cannot be prepared: {error}") from error


def prepare_mini(
    info: DatasetInfo,
    whole: DatasetInfo,
    source: Path,
    target: Path,
    say: Callable[[str], None] = lambda line: None,
) -> Manifest:
    """Make `info`, a class-balanced choice of the data set `whole`, in `target`, from the published files of `whole`.

    This makes what ships with the package; one process at a time.

    Raises:
        DataError: a file is absent or damaged, or the images are not the published ones.
    """
    target.mkdir(parents=True, exist_ok=True)
    content = _read(whole, source, target, say)
    chosen = Content(
        _spread(content.train, info.train_images), _spread(content.test, info.test_images), content.classes
    )
    return _write(info, chosen, f"class-balanced choice from {whole.name}", target, say)


def _spread(split: Split, count: int) -> Split:
    return split.take(spread_subset(torch.from_numpy(split.labels), count).numpy())


def _read(info: DatasetInfo, folder: Path, scratch: Path, say: Callable[[str], None]) -> Content:
    say(f"reading {folder}")
    if not folder.is_dir():
        raise DataError(f"{folder}: is not a folder\n{PUBLISHED[info.name].how_to(info.name)}")
    with unpacked(folder, PUBLISHED[info.name], scratch) as files:
        content = read_published(info, files, say)
    for name in SPLITS:
        check_split(content.split(name), info, name, folder)
    return content


def _write(info: DatasetInfo, content: Content, how: str, directory: Path, say: Callable[[str], None]) -> Manifest:
    digests = {name: content.split(name).digest() for name in SPLITS}
    digest = content_digest(digests)
    if info.digest is not None and digest != info.digest:
        known = {other.digest: other.name for other in CATALOG.values() if other.digest}
        found = f"those of {known[digest]}" if digest in known else "others"
        raise DataError(
            f"{info.name}: the images are not the published ones, but {found} (digest {digest[:16]})\n"
            f"{PUBLISHED[info.name].how_to(info.name)}"
        )
    # Without its manifest a half-written folder is not a data set, whatever stops the writing.
    (directory / "manifest.json").unlink(missing_ok=True)
    records = {}
    for name in SPLITS:
        path = directory / f"{name}.parquet"
        say(f"writing {path}")
        write_parquet(path, content.split(name))
        records[name] = SplitRecord(
            sha256=sha256_of(path),
            bytes=path.stat().st_size,
            images=len(content.split(name)),
            class_counts=content.split(name).class_counts(info.classes),
            digest=digests[name],
        )
    manifest = Manifest(
        name=info.name,
        digest=digest,
        source=f"{PUBLISHED[info.name].origin}; {how}",
        licence=info.licence,
        channels=info.channels,
        size=info.size,
        classes=content.classes,
        train=records["train"],
        test=records["test"],
    )
    write_manifest(directory, manifest)
    for stale in directory.glob("mapped-*"):
        if stale.name != f"mapped-{digest[:16]}":
            shutil.rmtree(stale)
    return manifest
