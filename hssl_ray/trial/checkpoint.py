"""Checkpoints that are committed or absent: safetensors and JSON in a folder, a manifest with hashes written last.

A checkpoint folder `checkpoints/epoch-00005` holds `weights.safetensors` (the network), `optimizer.safetensors`,
`config.json` (the trial), `state.json` (where training stands, with float16's loss scale) and `manifest.json`. It is
built under another name and renamed when every byte is on disk, so a crash leaves the old checkpoints and no half of a
new one.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from hssl_ray.data.files import flush, sha256_of
from hssl_ray.method.networks import Network, build_network
from hssl_ray.trial.config import TrialConfig

log = logging.getLogger(__name__)

FORMAT = 1
MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
CONFIG = "config.json"
STATE = "state.json"


class CheckpointError(ValueError):
    """A checkpoint that is not what its manifest says, or belongs to another trial."""


def folder(workdir: Path) -> Path:
    """Where a trial's checkpoints lie."""
    return workdir / "checkpoints"


def of_epoch(workdir: Path, epoch: int) -> Path:
    """The folder of the checkpoint after an epoch, counted from 1, whether it is there or not."""
    return folder(workdir) / f"epoch-{epoch:05d}"


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, sort_keys=True, indent=1, allow_nan=False), encoding="utf-8")


def _optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{index}/{name}": value.contiguous() for index, values in state.items() for name, value in values.items()}


def _load_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split("/", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def commit(
    workdir: Path,
    config: TrialConfig,
    network: nn.Module,
    optimizer: Optimizer,
    scaler: GradScaler,
    *,
    epoch: int,
    keep: int,
) -> Path:
    """Write the checkpoint of a finished epoch and drop all but the newest `keep`.

    Returns:
        The committed folder.
    """
    target = of_epoch(workdir, epoch)
    building = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(weights, building / WEIGHTS)
    save_file(_optimizer_tensors(optimizer), building / "optimizer.safetensors")
    _write_json(building / CONFIG, config.model_dump(mode="json"))
    state = {"epoch": epoch, "trial_id": config.trial_id, "loss_scale": scaler.state_dict()}
    _write_json(building / STATE, state)
    files = sorted(building.iterdir())
    for path in files:
        flush(path)
    manifest = {path.name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)} for path in files}
    _write_json(building / MANIFEST, {"format": FORMAT, "trial_id": config.trial_id, "epoch": epoch, "files": manifest})
    flush(building / MANIFEST)
    flush(building)
    shutil.rmtree(target, ignore_errors=True)  # left by an attempt that went further than the one now running
    building.rename(target)
    flush(target.parent)
    for old in committed(workdir)[:-keep]:
        shutil.rmtree(old)
    return target


def committed(workdir: Path) -> list[Path]:
    """Checkpoint folders of a trial, oldest first, valid or not."""
    return sorted(folder(workdir).glob("epoch-[0-9][0-9][0-9][0-9][0-9]"))


def verify(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint whose every file is what it says.

    Raises:
        CheckpointError: a file is missing, cut short, changed, or the manifest itself cannot be read.
    """
    try:
        manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        files = manifest["files"]
        if manifest["format"] != FORMAT:
            raise CheckpointError(f"{path}: must have format {FORMAT}, got {manifest['format']}")
        for name, expected in files.items():
            file = path / name
            if file.stat().st_size != expected["bytes"] or sha256_of(file) != expected["sha256"]:
                raise CheckpointError(f"{file}: differs from its manifest")
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: no valid manifest ({error})") from error
    return manifest


def latest_valid(workdir: Path) -> Path | None:
    """The newest checkpoint that passes `verify`; a broken one is set aside as `*.corrupt` and the search goes on."""
    for path in reversed(committed(workdir)):
        try:
            verify(path)
        except CheckpointError as error:
            log.warning("checkpoint set aside: %s", error)
            path.rename(path.with_name(path.name + ".corrupt"))
        else:
            return path
    return None


def restore(path: Path, config: TrialConfig, network: nn.Module, optimizer: Optimizer, scaler: GradScaler) -> int:
    """Load a checkpoint into network, optimiser and loss scaler.

    Returns:
        The number of epochs done.

    Raises:
        CheckpointError: it is damaged, or of another trial.
    """
    manifest = verify(path)
    if manifest["trial_id"] != config.trial_id:
        raise CheckpointError(f"{path}: must be of trial {config.trial_id}, got {manifest['trial_id']}")
    try:
        network.load_state_dict(load_file(path / WEIGHTS))
        _load_optimizer(optimizer, load_file(path / "optimizer.safetensors"))
        scaler.load_state_dict(json.loads((path / STATE).read_text(encoding="utf-8")).get("loss_scale", {}))
    except (SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{path}: does not fit the network ({error})") from error
    return int(manifest["epoch"])


def load_network(path: Path) -> tuple[TrialConfig, Network]:
    """The trial and its network, in evaluation mode, from a folder with `weights.safetensors` and `config.json`.

    Raises:
        OSError: a file is missing.
        pydantic.ValidationError: the config is not one of a trial.
        RuntimeError: the weights do not fit the config's network.
    """
    config = TrialConfig.model_validate_json((path / CONFIG).read_text(encoding="utf-8"))
    network = build_network(config)
    network.load_state_dict(load_file(path / WEIGHTS))
    return config, network.eval()
