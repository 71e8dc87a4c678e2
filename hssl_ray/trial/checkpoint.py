"""What a checkpoint holds: network, optimiser and loss scale, as safetensors and JSON. See `checkpoint_files`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from hssl_ray.method.networks import Network, build_network
from hssl_ray.trial.checkpoint_files import (
    CONFIG,
    OPTIMIZER,
    STATE,
    WEIGHTS,
    CheckpointError,
    begin,
    of_epoch,
    publish,
    read_small_json,
    verify,
    write_json,
)
from hssl_ray.trial.config import TrialConfig

_WORDS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_WORDS |= {"I64": torch.int64, "I32": torch.int32, "U8": torch.uint8, "BOOL": torch.bool}


def _optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{index}/{name}": value.contiguous() for index, values in state.items() for name, value in values.items()}


def _load_optimizer(optimizer: Optimizer, path: Path) -> None:
    """Refuses, before it reads any, tensors that are not of this optimiser's parameters."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for key, (dtype, shape) in _header(path).items():
        index = key.partition("/")[0]
        if not index.isdecimal() or int(index) >= len(parameters):
            raise CheckpointError(f"{path}: {key}: must be of one of {len(parameters)} parameters")
        parameter = parameters[int(index)]
        scalar = torch.Size(shape).numel() == 1
        if not scalar and (shape != tuple(parameter.shape) or dtype != parameter.dtype):
            raise CheckpointError(
                f"{path}: {key}: must be {parameter.dtype} {tuple(parameter.shape)}, got {dtype} {shape}"
            )
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in load_file(path).items():
        index, name = key.split("/", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _load_network(network: nn.Module, path: Path) -> None:
    """Refuses, before it reads any, tensors that are not this network's: none is cast, none stays as it was."""
    expected = {name: (value.dtype, tuple(value.shape)) for name, value in network.state_dict().items()}
    found = _header(path)
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise CheckpointError(
                f"{path}: {name}: must be {_described(expected.get(name))}, got {_described(found.get(name))}"
            )
    network.load_state_dict(load_file(path))


def _header(path: Path) -> Mapping[str, tuple[torch.dtype | str, tuple[int, ...]]]:
    """Type and shape of the tensors in a file, none of them read."""
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  it is no mapping
            return {
                name: (_WORDS.get(one.get_dtype(), one.get_dtype()), tuple(one.get_shape()))
                for name, one in slices.items()
            }
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: is no file of tensors ({error})") from error


def _described(tensor: tuple[torch.dtype | str, tuple[int, ...]] | None) -> str:
    return "absent" if tensor is None else f"{tensor[0]} {tensor[1]}"


def commit(
    workdir: Path,
    config: TrialConfig,
    network: nn.Module,
    optimizer: Optimizer,
    scaler: GradScaler,
    *,
    epoch: int,
    metrics: Mapping[str, float],
) -> Path:
    """Write the checkpoint of a finished epoch; the older ones stay, see `retain`.

    Returns:
        The committed folder.

    Raises:
        OSError: the disk is full or gone; what was written of the checkpoint is removed.
    """
    building = begin(workdir, epoch)
    target = of_epoch(workdir, epoch)
    try:
        weights = {name: value.contiguous() for name, value in network.state_dict().items()}
        save_file(weights, building / WEIGHTS)
        save_file(_optimizer_tensors(optimizer), building / OPTIMIZER)
        write_json(building / CONFIG, config.model_dump(mode="json"))
        state = {"epoch": epoch, "trial_id": config.trial_id, "loss_scale": scaler.state_dict()}
        write_json(building / STATE, state)
        publish(building, target, config.trial_id, epoch, metrics)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return target


def restore(path: Path, config: TrialConfig, network: nn.Module, optimizer: Optimizer, scaler: GradScaler) -> int:
    """Load a checkpoint into network, optimiser and loss scaler.

    Returns:
        The number of epochs done.

    Raises:
        CheckpointError: it is damaged, or of another trial.
        NewerFormat: a newer version wrote it.
    """
    manifest = verify(path, config.trial_id)
    try:
        _load_network(network, path / WEIGHTS)
        _load_optimizer(optimizer, path / OPTIMIZER)
        scaler.load_state_dict(read_small_json(path / STATE).get("loss_scale", {}))
    except (SafetensorError, RuntimeError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path}: does not fit the network ({error})") from error
    return int(manifest["epoch"])


def load_network(path: Path) -> tuple[TrialConfig, Network]:
    """The trial and its network, in evaluation mode, from a folder with `weights.safetensors` and `config.json`.

    Raises:
        CheckpointError: a file is missing, or the weights do not fit the config's network.
        pydantic.ValidationError: the config is not one of a trial.
    """
    config = TrialConfig.model_validate(read_small_json(path / CONFIG))
    network = build_network(config)
    _load_network(network, path / WEIGHTS)
    return config, network.eval()
