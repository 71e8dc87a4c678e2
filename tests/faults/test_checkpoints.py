"""Checkpoints: killed while they are written, damaged afterwards, written by other versions or by an enemy."""

import json
import os
import pickle
import random
import resource
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from hssl_ray.cli.codes import INCOMPATIBLE
from hssl_ray.cli.errors import exit_code
from hssl_ray.study.engine import Report, TrialProgram
from hssl_ray.study.inline_engine import InlineEngine
from hssl_ray.study.layout import trial_folder
from hssl_ray.study.ledger import Ledger
from hssl_ray.study.run import run_study
from hssl_ray.trial.checkpoint import commit, restore
from hssl_ray.trial.checkpoint_files import (
    FILES,
    FORMAT,
    KEEP_NEWEST,
    MANIFEST,
    OPTIMIZER,
    STATE,
    WEIGHTS,
    Best,
    CheckpointError,
    Retention,
    _digest,
    committed,
    folder,
    latest_valid,
    read_small_json,
    retain,
)
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.durable import NewerFormat
from hssl_ray.trial.journal import JOURNAL, read_records
from tests.faults.children import Acknowledge, child
from tests.faults.table import Table
from tests.study.engine_programs import PROGRAM, study, trial

pytestmark = pytest.mark.faults
CONFIG, OTHER = TrialConfig(epochs=400), TrialConfig(epochs=400, seed=1)
SCALER = GradScaler("cpu", enabled=False)
ROUNDS = 50
FIXTURES = Path(__file__).parent / "formats"


def model(width: int = 60, seed: int = 0) -> tuple[nn.Module, Optimizer]:
    torch.manual_seed(seed)
    network = nn.Linear(width, width)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    network(torch.ones(1, width)).sum().backward()
    optimizer.step()
    return network, optimizer


def save(workdir: Path, epoch: int, config: TrialConfig = CONFIG, **metrics: float) -> Path:
    network, optimizer = model()
    return commit(workdir, config, network, optimizer, SCALER, epoch=epoch, metrics=metrics)


def load(path: Path) -> int:
    network, optimizer = model(seed=1)
    return restore(path, CONFIG, network, optimizer, SCALER)


# ---- killed while it is written


def test_f10_a_commit_killed_at_every_step_leaves_a_newest_checkpoint_that_loads(
    tmp_path: Path, seed: int, figures: Table
) -> None:
    """Fifty kills of one trial's commits: at each call in turn, and by the kernel in the middle of a file."""
    network, optimizer = model()
    draw = random.Random(seed)
    save(tmp_path, 1)

    def train(acknowledge: Acknowledge) -> None:
        newest = latest_valid(tmp_path, CONFIG.trial_id)
        assert newest is not None
        for epoch in range(load(newest) + 1, load(newest) + 3):
            commit(tmp_path, CONFIG, network, optimizer, SCALER, epoch=epoch, metrics={})
            acknowledge(epoch)
            retain(tmp_path, KEEP_NEWEST)

    unreadable, kills, last, step = 0, 0, 1, 0
    for number in range(ROUNDS):
        if number % 5 == 4:
            ended = child(train, longest_file=draw.randrange(1, 20_000))
        else:
            step += 1
            ended = child(train, die_at=step)
        kills += ended.killed
        last = max([last, *ended.acknowledged])
        newest = latest_valid(tmp_path, CONFIG.trial_id)
        unreadable += newest is None or load(newest) < last
    assert kills >= 40
    figures.bad("F10", "kills that left no readable state", unreadable, ROUNDS)
    assert unreadable == 0
    assert not list(folder(tmp_path).glob("*.corrupt"))
    save(tmp_path, last + 5)
    assert not list(folder(tmp_path).glob(".*")), "the next commit removes what kills left half built"


def test_a_commit_without_the_last_rename_would_be_found_out(tmp_path: Path) -> None:
    """The count above can fail: a folder filled in place, under its own name, is no checkpoint until it is whole."""
    path = save(tmp_path, 1)
    (path / MANIFEST).unlink()
    assert latest_valid(tmp_path, CONFIG.trial_id) is None


# ---- damaged afterwards


def cut(path: Path, draw: random.Random) -> None:
    os.truncate(path, draw.randrange(path.stat().st_size))


def flip(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(bytes(content))


def empty(path: Path, draw: random.Random) -> None:
    path.write_bytes(b"")


def remove(path: Path, draw: random.Random) -> None:
    path.unlink()


def take_another_trials(path: Path, draw: random.Random) -> None:
    shutil.copy(save(path.parents[2] / "other", int(path.parent.name[-5:]), OTHER, loss=2.0) / path.name, path)


def whole_folder_of_another_trial(path: Path, draw: random.Random) -> None:
    other = save(path.parents[2] / "other", int(path.parent.name[-5:]), OTHER)
    shutil.rmtree(path.parent)
    shutil.copytree(other, path.parent)


def test_f9_a_damaged_newest_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, seed: int, figures: Table, caplog: pytest.LogCaptureFixture
) -> None:
    draw = random.Random(seed)
    names = [*sorted(FILES), MANIFEST]
    damages: list[tuple[Callable[[Path, random.Random], None], str]] = [
        *((damage, name) for damage in (cut, flip, empty, remove) for name in names),
        *((flip, MANIFEST) for _ in range(20)),
        *((take_another_trials, name) for name in ("config.json", STATE, MANIFEST)),
        (whole_folder_of_another_trial, MANIFEST),
    ]
    good = 0
    for number, (damage, name) in enumerate(damages):
        workdir = tmp_path / str(number)
        older, newest = save(workdir, 2, loss=1.0), save(workdir, 4, loss=0.5)
        damage(newest / name, draw)
        caplog.clear()
        found = latest_valid(workdir, CONFIG.trial_id)
        warned = caplog.text.count("checkpoint set aside")
        aside = newest.with_name(newest.name + ".corrupt").exists()
        good += found == older and load(older) == 2 and warned == 1 and aside
        assert latest_valid(workdir, CONFIG.trial_id) == older
    figures.bad("F9", "damages without a fall-back", len(damages) - good, len(damages))
    assert good == len(damages)


def test_f9_a_checkpoint_damaged_after_it_was_chosen_costs_an_attempt_and_not_the_trial(tmp_path: Path) -> None:
    """A bit flips between the look that finds it whole and its reading, after a first attempt was lost."""
    attempts: list[Path | None] = []

    def train(config: TrialConfig, report: Report, resume: Path | None = None, **settings: Any) -> None:
        attempts.append(resume)
        if resume is None:
            for epoch in (1, 2):
                report({"epoch": float(epoch), "probe/top1": 0.0}, save(settings["workdir"], epoch, config))
            raise ConnectionError("Connection reset by peer")
        if len(attempts) == 2:
            flip(resume / WEIGHTS, random.Random(0))
        network, optimizer = model()
        done = restore(resume, config, network, optimizer, SCALER)
        for epoch in range(done + 1, config.epochs + 1):
            report({"epoch": float(epoch), "probe/top1": 0.0}, save(settings["workdir"], epoch, config))

    program = TrialProgram(train, lambda workdir: latest_valid(workdir, workdir.name))
    asked = study(epochs=3, checkpoints={"every_epochs": 1, "keep": 2})
    summary = run_study(asked, home=tmp_path, engine=InlineEngine(program))
    assert summary.counts == {"finished": 1}, attempts
    assert [None if one is None else one.name for one in attempts] == [None, "epoch-00002", "epoch-00001"]
    (one,) = asked.planned()
    records = read_records(trial_folder(tmp_path, one.trial_id) / JOURNAL)
    assert [record.epoch for record in records] == [1, 2, 3]


def test_an_epoch_set_aside_twice_keeps_the_later_one(tmp_path: Path) -> None:
    for loss in (1.0, 2.0):
        save(tmp_path, 2)
        (save(tmp_path, 4, loss=loss) / WEIGHTS).unlink()
        found = latest_valid(tmp_path, CONFIG.trial_id)
        assert found is not None and found.name == "epoch-00002"
    aside = read_small_json(folder(tmp_path) / "epoch-00004.corrupt" / MANIFEST)
    assert aside["metrics"] == {"loss": 2.0}


# ---- retention


@pytest.mark.parametrize(
    ("goal", "kept"), [("maximize", [2, 5, 6]), ("minimize", [4, 5, 6]), (None, [5, 6])], ids=["most", "least", "none"]
)
def test_the_best_checkpoint_is_never_removed(tmp_path: Path, goal: Any, kept: list[int]) -> None:
    """Values 1, 9, 2, 0, 3, NaN at epochs 1 to 6; the newest two stay whatever they are worth."""
    best = None if goal is None else Best("probe/top1", goal)
    for epoch, value in enumerate([1.0, 9.0, 2.0, 0.0, 3.0, float("nan")], start=1):
        save(tmp_path, epoch, CONFIG, **{"probe/top1": value})
        retain(tmp_path, Retention(2, best))
    assert [int(path.name[-5:]) for path in committed(tmp_path)] == kept


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ({}, [5, 6]),
        ({"keep": 3}, [4, 5, 6]),
        ({"keep_best": {}}, [2, 5, 6]),
        ({"keep_best": {"metric": "probe/top1", "goal": "minimize"}}, [4, 5, 6]),
    ],
)
def test_a_study_says_what_is_kept(tmp_path: Path, asked: dict[str, Any], kept: list[int]) -> None:
    def train(config: TrialConfig, report: Report, resume: Path | None = None, **settings: Any) -> None:
        for epoch, value in enumerate([1.0, 9.0, 2.0, 0.0, 3.0, 4.0], start=1):
            metrics = {"probe/top1": value}
            report({"epoch": float(epoch)} | metrics, save(settings["workdir"], epoch, config, **metrics))

    asked_for = study(seeds=1, epochs=6, checkpoints=asked)
    program = TrialProgram(train, latest_valid)
    assert run_study(asked_for, home=tmp_path, engine=InlineEngine(program)).counts == {"finished": 1}
    (one,) = asked_for.planned()
    assert [int(path.name[-5:]) for path in committed(trial_folder(tmp_path, one.trial_id))] == kept


def test_a_checkpoint_without_its_record_pushes_out_none(tmp_path: Path) -> None:
    """Killed between the third commit and its record, and the second one damaged: the first is still there."""
    attempts: list[Path | None] = []

    def train(config: TrialConfig, report: Report, resume: Path | None = None, **settings: Any) -> None:
        attempts.append(resume)
        for epoch in range(1 if resume is None else int(resume.name[-5:]) + 1, config.epochs + 1):
            saved = save(settings["workdir"], epoch, config)
            if resume is None and epoch == 3:
                flip(saved.with_name("epoch-00002") / WEIGHTS, random.Random(0))
                raise ConnectionError("Connection reset by peer")
            report({"epoch": float(epoch), "probe/top1": 0.0}, saved)

    program = TrialProgram(train, lambda workdir: latest_valid(workdir, workdir.name))
    asked = study(seeds=1, epochs=4, checkpoints={"every_epochs": 1, "keep": 2})
    assert run_study(asked, home=tmp_path, engine=InlineEngine(program)).counts == {"finished": 1}
    assert [None if one is None else one.name for one in attempts] == [None, "epoch-00001"]


# ---- other versions


def test_f27_checkpoints_of_every_past_format_load(figures: Table) -> None:
    misread = 0
    found = sorted(FIXTURES.glob("checkpoint-*"))
    for one in found:
        meant = json.loads((one / "meant.json").read_text())
        network, optimizer = nn.Linear(2, 2), None
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
        config = TrialConfig.model_validate(meant["config"])
        done = restore(one / "epoch-00002", config, network, optimizer, SCALER)
        misread += [done, network.weight.tolist()] != [meant["epoch"], meant["weight"]]
    figures.bad("F27", "checkpoints of past formats misread", misread, len(found))
    assert misread == 0
    assert len(found) == FORMAT


def test_f27_a_newer_checkpoint_is_no_damage(tmp_path: Path, figures: Table) -> None:
    """It is not set aside: the study is refused with exit 6, and the files stay for the version that wrote them."""
    one = trial()
    workdir = trial_folder(tmp_path, one.trial_id)
    with Ledger.open(tmp_path, "fake") as ledger:
        ledger.started(one, 1)
    path = save(workdir, 2, one.config)
    forge(path, format=FORMAT + 1)
    with pytest.raises(NewerFormat, match=f"format {FORMAT + 1} was written by a newer hssl-ray") as caught:
        run_study(study(seeds=1), home=tmp_path, engine=InlineEngine(PROGRAM))
    with pytest.raises(NewerFormat):
        latest_valid(workdir, one.trial_id)
    bad = exit_code(caught.value) != INCOMPATIBLE or not path.exists()
    figures.bad("F27", "newer checkpoints set aside or not refused with exit 6", bad, 1)
    assert not bad


# ---- an enemy's


def forge(path: Path, **changes: Any) -> None:
    """Make a manifest that fits whatever lies in a checkpoint now, as one who knows the format can."""
    from hssl_ray.data.files import sha256_of

    manifest = read_small_json(path / MANIFEST) if (path / MANIFEST).exists() else {}
    manifest.pop("sha256", None)
    manifest["files"] = {
        name: {"bytes": (path / name).stat().st_size, "sha256": sha256_of(path / name)}
        for name in sorted(FILES)
        if (path / name).is_file()
    }
    manifest |= changes
    (path / MANIFEST).write_text(json.dumps(manifest | {"sha256": _digest(manifest)}))


class Canary:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def tensors(header: dict[str, Any], data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def weights(dtype: str = "F32", shape: tuple[int, ...] = (60, 60), size: int = 4) -> bytes:
    count = 60 * shape[-1]
    return tensors(
        {
            "weight": {"dtype": dtype, "shape": list(shape), "data_offsets": [0, count * size]},
            "bias": {"dtype": dtype, "shape": [60], "data_offsets": [count * size, (count + 60) * size]},
        },
        bytes((count + 60) * size),
    )


def hostile(path: Path, canary: Path) -> dict[str, Callable[[], None]]:
    """Ways to make of a good checkpoint one that should not be loaded; each ends with a manifest that fits."""

    def file(name: str, content: bytes) -> Callable[[], None]:
        def write() -> None:
            (path / name).write_bytes(content)
            forge(path)

        return write

    def manifest(content: bytes) -> Callable[[], None]:
        def write() -> None:
            (path / MANIFEST).write_bytes(content)

        return write

    def torch_file() -> None:
        torch.save({"weight": Canary(canary)}, path / WEIGHTS)
        forge(path)

    def link(name: str, target: Path) -> Callable[[], None]:
        def make() -> None:
            (path / name).unlink()
            (path / name).symlink_to(target)
            forge(path)

        return make

    def outside() -> None:
        shutil.copytree(path, path.parents[2] / "outside")
        shutil.rmtree(path)
        path.symlink_to(path.parents[2] / "outside")

    def pipe() -> None:
        (path / STATE).unlink()
        os.mkfifo(path / STATE)

    one = {"dtype": "F32", "shape": [60, 60], "data_offsets": [0, 14400]}
    bias = {"dtype": "F32", "shape": [60], "data_offsets": [14400, 14640]}
    names = {"../" * 6 + "etc/hostname": {"bytes": 1, "sha256": ""}}
    return {
        "pickle for weights": file(WEIGHTS, pickle.dumps(Canary(canary))),
        "torch.save for weights": torch_file,
        "pickle for state": file(STATE, pickle.dumps(Canary(canary))),
        "pickle for manifest": manifest(pickle.dumps(Canary(canary))),
        "header of 100 GB": file(WEIGHTS, struct.pack("<Q", 100 << 30) + b"{}"),
        "header longer than the file": file(WEIGHTS, struct.pack("<Q", 5000) + b"{}"),
        "overlapping tensors": file(
            WEIGHTS, tensors({"weight": one, "bias": {**bias, "data_offsets": [14000, 14240]}}, bytes(14640))
        ),
        "tensors beyond the file": file(WEIGHTS, tensors({"weight": one, "bias": bias}, bytes(100))),
        "negative shape": file(WEIGHTS, tensors({"weight": {**one, "shape": [-60, -60]}, "bias": bias}, bytes(14640))),
        "shape that overflows": file(
            WEIGHTS, tensors({"weight": {**one, "shape": [2**40, 2**40]}, "bias": bias}, bytes(14640))
        ),
        "wrong type": file(WEIGHTS, weights("F64", size=8)),
        "wrong shape": file(WEIGHTS, weights(shape=(60, 61))),
        "missing tensor": file(WEIGHTS, tensors({"weight": one}, bytes(14400))),
        "another tensor of 2 GB": file(
            WEIGHTS,
            tensors({"weight": one, "bias": bias, "x": {**one, "shape": [1 << 29], "data_offsets": [14640, 2 << 30]}}),
        ),
        "optimiser of another network": file(OPTIMIZER, tensors({"0/exp_avg": {**one, "shape": [3600]}}, bytes(14400))),
        "optimiser of a 99th parameter": file(OPTIMIZER, tensors({"99/exp_avg": one}, bytes(14400))),
        "link to a file elsewhere": link(WEIGHTS, Path("/etc/hostname")),
        "link to an endless device": link(WEIGHTS, Path("/dev/zero")),
        "folder that is a link": outside,
        "pipe that nobody fills": pipe,
        "names that leave the folder": lambda: forge(path, files=names),
        "no files at all": lambda: forge(path, files={}),
        "manifest of 64 MB": manifest(b'{"format": 2, "x": "' + b"x" * (64 << 20) + b'"}'),
        "manifest without end": manifest(b"[" * 100_000),
        "manifest that is a list": manifest(b"[]"),
        "epoch of another folder": lambda: forge(path, epoch=3),
    }


CASES = tuple(hostile(Path("a/b/c/d"), Path("x")))


def test_f22_a_hostile_checkpoint_is_refused_in_bounded_memory(tmp_path: Path, figures: Table) -> None:
    """Nothing in it runs, no more is read than a network of this size can need, and the one before it is used."""
    canary, refused, executed = tmp_path / "canary", 0, 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number, case in enumerate(CASES):
        workdir = tmp_path / str(number)
        older, path = save(workdir, 2), save(workdir, 4)
        hostile(path, canary)[case]()
        try:
            load(path)
        except CheckpointError:
            refused += 1
        executed += canary.exists()
        assert load(older) == 2
        assert older.exists()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    figures.bad("F22", "hostile checkpoints executed", executed, len(CASES))
    figures.bad("F22", "hostile checkpoints loaded", len(CASES) - refused, len(CASES))
    figures.share("F22", "memory they took", grown, "<= 200 MB", "MB")
    assert (executed, refused) == (0, len(CASES))
    assert grown < 200


def test_f22_the_canary_sings_when_it_is_unpickled(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Canary(tmp_path / "canary")))
    assert (tmp_path / "canary").exists()
