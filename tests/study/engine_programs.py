"""A stand-in for `train_trial`, and studies of it, for the tests of sweep and engines. A cluster imports it."""

import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hssl_ray.data.home import home as data_home
from hssl_ray.study.engine import Report, TrialProgram
from hssl_ray.study.spec import PlannedTrial, Study
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.endings import TrialDiverged

SECONDS = "HSSL_TEST_EPOCH_SECONDS"
HOLD = "hold"
"""While a home has this file, no epoch of its trials goes on."""


def latest_checkpoint(workdir: Path) -> Path | None:
    """The newest folder that `train` committed."""
    return max((workdir / "checkpoints").glob("epoch-*"), default=None)


def train(
    config: TrialConfig,
    report: Report,
    resume: Path | None = None,
    *,
    workdir: Path,
    checkpoint_every: int,
    **settings: Any,
) -> None:
    """Epochs without work: `train/loss` is 1 / epoch, plus the seed; checkpoints hold the epoch.

    Every epoch is written to `trained.txt`, so that a test can count what was done twice. The temperature chooses what
    goes wrong at epoch 2: 0.5 raises, 0.6 diverges, 0.7 kills the process the first time, 0.8 fills the disk.
    """
    done = 0 if resume is None else json.loads((resume / "state.json").read_text())["epoch"]
    for epoch in range(done + 1, config.epochs + 1):
        time.sleep(float(os.environ.get(SECONDS, "0")))
        while (workdir.parents[1] / HOLD).exists():
            time.sleep(0.05)
        if epoch == 2:
            _go_wrong(config, workdir)
        with (workdir / "trained.txt").open("a") as file:
            file.write(f"{epoch} {os.getpid()}\n")
        committed = None
        if epoch == config.epochs or epoch % checkpoint_every == 0:
            committed = workdir / "checkpoints" / f"epoch-{epoch:05d}"
            committed.mkdir(parents=True, exist_ok=True)
            (committed / "state.json").write_text(json.dumps({"epoch": epoch}))
        report({"epoch": float(epoch), "train/loss": 1.0 / epoch + config.seed, "probe/top1": 0.0}, committed)


def _go_wrong(config: TrialConfig, workdir: Path) -> None:
    match config.temperature:
        case 0.5:
            raise RuntimeError("broken on purpose\nsecond line")
        case 0.6:
            raise TrialDiverged("epoch 2: train/loss must stay finite, got nan")
        case 0.7 if not (workdir / "died").exists():
            (workdir / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        case 0.8:
            raise OSError(28, "No space left on device")


PROGRAM = TrialProgram(train, latest_checkpoint)


def train_and_tell(config: TrialConfig, report: Report, *arguments: Any, workdir: Path, **settings: Any) -> None:
    """`train`, and where this process would look for data and whether it may use compiled kernels."""
    (workdir / "told.txt").write_text(f"{data_home()} {os.environ.get('HSSL_NATIVE')}")
    train(config, report, *arguments, workdir=workdir, **settings)


TELLING = TrialProgram(train_and_tell, latest_checkpoint)


def epochs_trained(home: Path, trial_id: str) -> list[int]:
    """Epochs in the order they were trained, repeated ones included."""
    path = home / "trials" / trial_id / "trained.txt"
    return [int(line.split()[0]) for line in path.read_text().splitlines()] if path.exists() else []


def trial(seed: int = 0, temperature: float = 0.1, epochs: int = 3) -> PlannedTrial:
    """A trial as `study` plans it."""
    config = TrialConfig(seed=seed, temperature=temperature, epochs=epochs, warmup_epochs=0)
    cell = f"h_ssl-rotation-temperature={temperature}"
    return PlannedTrial(config.trial_id, config, cell, f"{cell}-s{seed}")


def study(
    seeds: int | list[int] = 1,
    temperatures: Sequence[float] = (0.1,),
    epochs: int = 3,
    name: str = "fake",
    **sections: Any,
) -> Study:
    """A study of short trials with a checkpoint every second epoch; see `train` for the temperatures."""
    return Study.model_validate(
        {
            "study": name,
            "base": {"epochs": epochs, "warmup_epochs": 0},
            "grid": {"temperature": list(temperatures)},
            "seeds": seeds,
            "checkpoints": {"every_epochs": 2, "keep": 2},
            "resilience": {"backoff": {"first_seconds": 0}},
            **sections,
        }
    )
