"""A trial as it is when nothing happens to it, outside of Ray and unmeasured: what a struck one is compared with."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from hssl_ray.study.layout import trial_folder
from hssl_ray.trial.checkpoint_files import latest_valid
from hssl_ray.trial.config import TrialConfig
from tests.faults.broken_program import FAULTS, train
from tests.study.ray_cluster import REPOSITORY

RANK = """
import sys
from pathlib import Path
import torch, torch.distributed as dist
from hssl_ray.trial.config import TrialConfig
from tests.faults.broken_program import train
torch.set_num_threads(1)
folder, config = Path(sys.argv[1]), TrialConfig.model_validate_json(sys.argv[2])
rank, ranks = map(int, sys.argv[3:])
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=ranks)
train(config, lambda metrics, checkpoint: None, workdir=folder, checkpoint_every=config.epochs)
dist.destroy_process_group()
"""


def weights_of(folder: Path, config: TrialConfig) -> dict[str, torch.Tensor]:
    """The weights of a trial that has trained its last epoch."""
    checkpoint = latest_valid(folder)
    assert checkpoint is not None
    assert checkpoint.name == f"epoch-{config.epochs:05d}"
    return dict(load_file(checkpoint / "weights.safetensors"))


def weights_in_peace(home: Path, config: TrialConfig, workers: int) -> dict[str, torch.Tensor]:
    """The same of a trial that is trained now, in a home of its own, by so many processes or by this one."""
    folder = trial_folder(home, config.trial_id)
    folder.mkdir(parents=True)
    (home / FAULTS).write_text("{}")
    if workers == 1:
        torch.set_num_threads(1)
        train(config, lambda metrics, checkpoint: None, workdir=folder, checkpoint_every=config.epochs)
        return weights_of(folder, config)
    arguments = [sys.executable, "-c", RANK, str(folder), config.model_dump_json()]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    ranks = [
        subprocess.Popen([*arguments, str(rank), str(workers)], cwd=home, env=environment) for rank in range(workers)
    ]
    assert [rank.wait(240) for rank in ranks] == [0] * workers
    return weights_of(folder, config)


def furthest(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    """The largest difference of a weight; infinite where there are not the same weights."""
    if ours.keys() != theirs.keys():
        return float("inf")
    return max((ours[name].double() - theirs[name].double()).abs().max().item() for name in theirs)
