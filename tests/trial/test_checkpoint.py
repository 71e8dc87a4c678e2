"""A checkpoint is committed or absent, and says so itself."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from hssl_ray.trial import checkpoint
from hssl_ray.trial.checkpoint import commit, restore
from hssl_ray.trial.checkpoint_files import (
    KEEP_NEWEST,
    CheckpointError,
    committed,
    folder,
    latest_valid,
    retain,
    verify,
)
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.optim import Lars

CONFIG = TrialConfig(epochs=20)
SCALER = GradScaler("cpu", enabled=False)


def network_and_optimizer(kind: str = "adamw", seed: int = 0) -> tuple[nn.Module, Optimizer]:
    """A small network two steps into training."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer: Optimizer = (
        Lars(network.parameters(), lr=0.1) if kind == "lars" else torch.optim.AdamW(network.parameters(), lr=0.1)
    )
    for _ in range(2):
        network(torch.randn(5, 3)).square().sum().backward()
        optimizer.step()
    return network, optimizer


@pytest.mark.parametrize("kind", ["adamw", "lars"])
def test_restored_training_takes_the_same_next_step(kind: str, tmp_path: Path) -> None:
    network, optimizer = network_and_optimizer(kind)
    path = commit(tmp_path, CONFIG, network, optimizer, SCALER, epoch=3, metrics={})
    twin, twin_optimizer = network_and_optimizer(kind, seed=9)
    assert restore(path, CONFIG, twin, twin_optimizer, SCALER) == 3
    batch = torch.randn(5, 3)
    for net, opt in ((network, optimizer), (twin, twin_optimizer)):
        opt.zero_grad()
        net(batch).square().sum().backward()
        opt.step()
    for ours, theirs in zip(network.state_dict().values(), twin.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_only_the_newest_are_kept_and_nothing_else_is_left(tmp_path: Path) -> None:
    network, optimizer = network_and_optimizer()
    for epoch in (1, 2, 3, 4):
        commit(tmp_path, CONFIG, network, optimizer, SCALER, epoch=epoch, metrics={})
        retain(tmp_path, KEEP_NEWEST)
    assert [path.name for path in committed(tmp_path)] == ["epoch-00003", "epoch-00004"]
    assert len(list(folder(tmp_path).iterdir())) == 2


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("file", ["weights.safetensors", "optimizer.safetensors", "config.json", "manifest.json"])
@pytest.mark.parametrize("damage", [cut, flip, empty, remove])
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(file: str, damage, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    network, optimizer = network_and_optimizer()
    good = commit(tmp_path, CONFIG, network, optimizer, SCALER, epoch=1, metrics={})
    bad = commit(tmp_path, CONFIG, network, optimizer, SCALER, epoch=2, metrics={})
    damage(bad / file)
    with pytest.raises(CheckpointError):
        verify(bad)
    assert latest_valid(tmp_path) == good
    assert bad.with_name("epoch-00002.corrupt").exists()


def test_another_trial_s_checkpoint_is_refused(tmp_path: Path) -> None:
    network, optimizer = network_and_optimizer()
    path = commit(tmp_path, CONFIG, network, optimizer, SCALER, epoch=1, metrics={})
    with pytest.raises(CheckpointError, match="must be of trial"):
        restore(path, TrialConfig(epochs=21), network, optimizer, SCALER)


def test_a_half_written_checkpoint_is_not_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, optimizer = network_and_optimizer()
    good = commit(tmp_path, CONFIG, network, optimizer, SCALER, epoch=1, metrics={})

    def crash(path: Path, value: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint, "write_json", crash)
    with pytest.raises(OSError, match="disk full"):
        commit(tmp_path, CONFIG, network, optimizer, SCALER, epoch=2, metrics={})
    assert latest_valid(tmp_path) == good


def test_nothing_in_a_checkpoint_is_pickled(tmp_path: Path) -> None:
    network, optimizer = network_and_optimizer()
    path = commit(tmp_path, CONFIG, network, optimizer, SCALER, epoch=1, metrics={})
    names = {file.name for file in path.iterdir()}
    assert names == {"weights.safetensors", "optimizer.safetensors", "config.json", "state.json", "manifest.json"}
    assert TrialConfig.model_validate(json.loads((path / "config.json").read_text())) == CONFIG
    for file in path.glob("*.safetensors"):
        header = int.from_bytes(file.read_bytes()[:8], "little")
        json.loads(file.read_bytes()[8 : 8 + header])


def test_float16s_loss_scale_is_restored(tmp_path: Path) -> None:
    network, optimizer = network_and_optimizer()
    scaler = GradScaler("cpu", init_scale=1024.0, growth_interval=3)
    for _ in range(4):
        scaler.scale(network(torch.randn(5, 3)).square().sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    path = commit(tmp_path, CONFIG, network, optimizer, scaler, epoch=1, metrics={})
    twin = GradScaler("cpu")
    restore(path, CONFIG, network, optimizer, twin)
    assert twin.state_dict() == scaler.state_dict()
    assert (twin.get_scale(), twin.state_dict()["_growth_tracker"]) == (2048.0, 1)
