"""Checkpoints as files: folders that are committed or absent, each proved by a manifest; nothing here needs torch.

A folder `checkpoints/epoch-00005` holds `weights.safetensors` (the network), `optimizer.safetensors`, `config.json`
(the trial), `state.json` (where training stands, with float16's loss scale) and `manifest.json`: the others' sizes and
hashes, the epoch's metrics, and the manifest's own hash. It is built under another name and renamed when every byte is
on disk. Names that begin with a dot are being built or removed; `*.corrupt` was set aside.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hssl_ray.data.files import flush, make_folder, sha256_of
from hssl_ray.trial.durable import NewerFormat, check_format

log = logging.getLogger(__name__)

FORMAT = 2
"""1 had no hash of the manifest itself and no metrics."""
MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
OPTIMIZER = "optimizer.safetensors"
CONFIG = "config.json"
STATE = "state.json"
FILES = frozenset({WEIGHTS, OPTIMIZER, CONFIG, STATE})
LARGEST_JSON = 1 << 20  # bytes; ours have a few thousand


class CheckpointError(ValueError):
    """A checkpoint that is not what its manifest says, or belongs to another trial."""


@dataclass(frozen=True)
class Best:
    """Which checkpoint is a trial's best."""

    metric: str
    goal: Literal["maximize", "minimize"]

    def rank(self, metrics: Mapping[str, float]) -> float | None:
        """More is better; None for a checkpoint without the metric."""
        value = metrics.get(self.metric)
        return None if value is None else value if self.goal == "maximize" else -value


@dataclass(frozen=True)
class Retention:
    """Which checkpoints stay: the newest `keep`, and the best one whatever its age."""

    keep: int = 2
    best: Best | None = None


KEEP_NEWEST = Retention()


def folder(workdir: Path) -> Path:
    """Where a trial's checkpoints lie."""
    return workdir / "checkpoints"


def of_epoch(workdir: Path, epoch: int) -> Path:
    """The folder of the checkpoint after an epoch, counted from 1, whether it is there or not."""
    return folder(workdir) / f"epoch-{epoch:05d}"


def committed(workdir: Path) -> list[Path]:
    """Checkpoint folders of a trial, oldest first, valid or not."""
    return sorted(folder(workdir).glob("epoch-[0-9][0-9][0-9][0-9][0-9]"))


# ---- writing


def begin(workdir: Path, epoch: int) -> Path:
    """An empty folder in which to build a checkpoint. What an attempt that was killed left half built is removed."""
    make_folder(folder(workdir))
    for left in folder(workdir).glob(".epoch-*"):
        shutil.rmtree(left, ignore_errors=True)
    building = folder(workdir) / f".epoch-{epoch:05d}.{os.getpid()}"
    building.mkdir()
    return building


def write_json(path: Path, value: dict[str, Any]) -> None:
    """A JSON file in a folder that is being built."""
    path.write_text(json.dumps(value, sort_keys=True, indent=1, allow_nan=False), encoding="utf-8")


def publish(building: Path, target: Path, trial_id: str, epoch: int, metrics: Mapping[str, float]) -> None:
    """Make a folder with all of `FILES` the checkpoint of an epoch; an older one of the same epoch gives way."""
    for name in sorted(FILES):
        flush(building / name)
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "trial_id": trial_id,
        "epoch": epoch,
        "metrics": {name: value for name, value in metrics.items() if math.isfinite(value)},
        "files": {
            name: {"bytes": (building / name).stat().st_size, "sha256": sha256_of(building / name)}
            for name in sorted(FILES)
        },
    }
    write_json(building / MANIFEST, manifest | {"sha256": _digest(manifest)})
    flush(building / MANIFEST)
    flush(building)
    _remove(target)  # left by an attempt that went further than the one now running
    building.rename(target)
    flush(target.parent)


def _remove(path: Path) -> None:
    """Take a checkpoint away at once, then its files: a kill in between leaves no half of one."""
    if path.exists():
        going = path.with_name(f".{path.name}.gone")
        shutil.rmtree(going, ignore_errors=True)
        path.rename(going)
        shutil.rmtree(going)


def retain(workdir: Path, retention: Retention) -> None:
    """Remove all checkpoints but those that `retention` names."""
    paths = committed(workdir)
    kept = {*paths[-retention.keep :], None if retention.best is None else best_of(workdir, retention.best)}
    for path in paths:
        if path not in kept:
            _remove(path)


def best_of(workdir: Path, best: Best) -> Path | None:
    """A trial's best checkpoint, of equally good ones the newest; None where none has the metric."""
    ranked = [(rank, path) for path in committed(workdir) if (rank := best.rank(metrics_of(path))) is not None]
    return max(ranked)[1] if ranked else None


def metrics_of(path: Path) -> dict[str, float]:
    """The metrics of a checkpoint's epoch; none where its manifest has none or cannot be read."""
    try:
        return dict(read_manifest(path).get("metrics", {}))
    except (CheckpointError, NewerFormat):
        return {}


# ---- reading


def _digest(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_small_json(path: Path) -> dict[str, Any]:
    """A JSON object of at most a megabyte, in a plain file.

    Raises:
        CheckpointError: it is anything else.
    """
    try:
        _must_be_a_plain_file(path)
        with path.open("rb") as file:
            content = file.read(LARGEST_JSON + 1)
        if len(content) > LARGEST_JSON:
            raise CheckpointError(f"{path}: must have at most {LARGEST_JSON} bytes, got {path.stat().st_size}")
        value = json.loads(content)
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path}: cannot be read ({error})") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: must be an object, got {type(value).__name__}")
    return value


def _must_be_a_plain_file(path: Path) -> None:
    if not stat.S_ISREG(path.lstat().st_mode):
        raise CheckpointError(f"{path}: must be a plain file, not a link, folder or device")


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint, itself undamaged; the other files are not looked at.

    Raises:
        CheckpointError: it is missing, damaged, or not a manifest.
        NewerFormat: a newer version wrote it.
    """
    if path.is_symlink():
        raise CheckpointError(f"{path}: must be a folder, not a link")
    manifest = read_small_json(path / MANIFEST)
    digest = manifest.pop("sha256", None)
    if manifest.get("format") != 1 and digest != _digest(manifest):
        raise CheckpointError(f"{path}: the manifest is damaged")
    check_format(path, manifest["format"], FORMAT)
    files, epoch = manifest.get("files"), manifest.get("epoch")
    if not isinstance(files, dict) or set(files) != FILES:
        raise CheckpointError(f"{path}: must have the files {', '.join(sorted(FILES))}")
    if not isinstance(epoch, int) or not isinstance(manifest.get("trial_id"), str):
        raise CheckpointError(f"{path}: must have an epoch and a trial")
    if not isinstance(manifest.get("metrics", {}), dict):
        raise CheckpointError(f"{path}: metrics must be an object")
    return manifest


def verify(path: Path, trial_id: str | None = None) -> dict[str, Any]:
    """The manifest of a checkpoint whose every file is what it says.

    Args:
        trial_id: the trial that it must be of.

    Raises:
        CheckpointError: a file is missing, cut short, changed, or the manifest itself cannot be read.
        NewerFormat: a newer version wrote it.
    """
    manifest = read_manifest(path)
    try:
        for name, expected in manifest["files"].items():
            file = path / name
            _must_be_a_plain_file(file)
            if file.stat().st_size != expected["bytes"] or sha256_of(file) != expected["sha256"]:
                raise CheckpointError(f"{file}: differs from its manifest")
    except (OSError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: no valid manifest ({error})") from error
    state = read_small_json(path / STATE)  # hashed, where the manifest of format 1 is not
    if [state.get("epoch"), state.get("trial_id")] != [manifest["epoch"], manifest["trial_id"]]:
        raise CheckpointError(f"{path}: manifest and state differ in epoch or trial")
    if path.name != f"epoch-{manifest['epoch']:05d}":
        raise CheckpointError(f"{path}: must be of the epoch in its name, got {manifest['epoch']}")
    if trial_id is not None and manifest["trial_id"] != trial_id:
        raise CheckpointError(f"{path}: must be of trial {trial_id}, got {manifest['trial_id']}")
    return manifest


def latest_valid(workdir: Path, trial_id: str | None = None) -> Path | None:
    """The newest checkpoint that passes `verify`; a broken one is set aside as `*.corrupt` and the search goes on.

    Raises:
        NewerFormat: a newer version wrote the newest one; it is no damage, and stays.
    """
    for path in reversed(committed(workdir)):
        try:
            verify(path, trial_id)
        except CheckpointError as error:
            log.warning("checkpoint set aside: %s", error)
            aside = path.with_name(path.name + ".corrupt")
            if aside.is_symlink():
                aside.unlink()
            shutil.rmtree(aside, ignore_errors=True)  # the same epoch's, set aside before
            path.rename(aside)
        else:
            return path
    return None


def size_of(workdir: Path) -> int:
    """Bytes of a trial's committed checkpoints."""
    total = 0
    for path in committed(workdir):
        with contextlib.suppress(OSError):  # being removed
            total += sum(file.lstat().st_size for file in path.iterdir())
    return total


def check_formats(workdir: Path) -> None:
    """Look at the manifests' formats alone.

    Raises:
        NewerFormat: a newer version wrote one.
    """
    for path in committed(workdir):
        with contextlib.suppress(CheckpointError):  # damage is for `latest_valid`
            read_manifest(path)
