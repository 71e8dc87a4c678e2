"""The mirror: a home lost in the middle of a study, a mirror that is away, damaged, or somebody else's."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

from hssl_ray.cli.codes import DATA, INCOMPATIBLE
from hssl_ray.cli.errors import exit_code
from hssl_ray.study.engine import Report, TrialProgram
from hssl_ray.study.file.problems import MirrorConflict, MirrorUnavailable
from hssl_ray.study.inline_engine import InlineEngine
from hssl_ray.study.layout import trial_folder
from hssl_ray.study.ledger import LEDGER, Ledger, read_history
from hssl_ray.study.mirror import Mirror
from hssl_ray.study.mirroring import Mirroring, restore_study
from hssl_ray.study.run import run_study
from hssl_ray.study.spec import Study
from hssl_ray.trial.checkpoint_files import STATE, begin, latest_valid, of_epoch, publish, write_json
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.journal import JOURNAL, read_records
from tests.faults.chaos import only_in_chaos
from tests.faults.flaky_files import Flaky
from tests.study.engine_programs import epochs_trained, study, trial

pytestmark = pytest.mark.faults


def train(config: TrialConfig, report: Report, resume: Path | None = None, **options: Any) -> None:
    """Epochs without work, with real checkpoints after each."""
    workdir, done = options["workdir"], 0 if resume is None else int(resume.name[-5:])
    for epoch in range(done + 1, config.epochs + 1):
        with (workdir / "trained.txt").open("a") as file:
            file.write(f"{epoch} 0\n")
        building = begin(workdir, epoch)
        for name in ("weights.safetensors", "optimizer.safetensors", "config.json"):
            (building / name).write_bytes(f"{config.seed}/{epoch}".encode() * 1000)
        write_json(building / STATE, {"epoch": epoch, "trial_id": config.trial_id})
        publish(building, of_epoch(workdir, epoch), config.trial_id, epoch, {})
        report({"epoch": float(epoch), "train/loss": 1.0 / epoch + config.seed}, of_epoch(workdir, epoch))


def newest(workdir: Path) -> Path | None:
    return latest_valid(workdir, workdir.name)


PROGRAM = TrialProgram(train, newest)


def dies_at(seed: int, epoch: int) -> TrialProgram:
    """The driver dies with a trial in the middle."""

    def dying(config: TrialConfig, report: Report, resume: Path | None = None, **options: Any) -> None:
        def told(metrics: dict[str, float], checkpoint: Path | None) -> None:
            report(metrics, checkpoint)
            if (config.seed, metrics["epoch"]) == (seed, epoch):
                raise KeyboardInterrupt

        train(config, told, resume, **options)

    return TrialProgram(dying, newest)


def run(asked: Study, home: Path, mirror: Mirror, program: TrialProgram = PROGRAM, patience: float = 30.0) -> bool:
    """A run with a mirror, as `hssl-ray run` has it; whether the mirror has everything in the end."""
    restore_study(mirror, home, asked.study)
    mirroring = Mirroring(mirror, home, asked.study, every=0.02)
    with contextlib.suppress(KeyboardInterrupt):
        run_study(asked, home=home, engine=InlineEngine(program), observers=[mirroring])
    return mirroring.close(patience)


def results(home: Path, asked: Study) -> dict[str, Any]:
    outcomes = read_history(home, asked.study).outcomes
    return {
        one.trial_id: (
            outcomes[one.trial_id].state,
            outcomes[one.trial_id].metrics,
            [(record.epoch, record.metrics) for record in read_records(trial_folder(home, one.trial_id) / JOURNAL)],
        )
        for one in asked.planned()
    }


def local(root: Path) -> Mirror:
    root.mkdir(exist_ok=True)
    return Mirror(SubTreeFileSystem(str(root), LocalFileSystem()), "some/prefix")


def by_address(root: Path) -> Mirror:
    return Mirror.at(f"file://{root}/of-a-mirror")


@pytest.mark.parametrize("kind", [local, by_address])
def test_a_home_deleted_in_the_middle_of_a_study_comes_back(tmp_path: Path, kind: Callable[[Path], Mirror]) -> None:
    """One trial done, one at epoch 3 of 5, one not begun; the next machine has nothing but the mirror."""
    asked = study(seeds=3, epochs=5)
    run_study(asked, home=tmp_path / "undisturbed", engine=InlineEngine(PROGRAM))
    home = tmp_path / "home"
    assert run(asked, home, kind(tmp_path / "far"), dies_at(1, 3))
    shutil.rmtree(home)
    assert run(asked, home, kind(tmp_path / "far"))
    assert results(home, asked) == results(tmp_path / "undisturbed", asked)
    assert [epochs_trained(home, trial(seed, epochs=5).trial_id) for seed in range(3)] == [[], [4, 5], [1, 2, 3, 4, 5]]
    for seed in range(3):
        workdir = trial_folder(home, trial(seed, epochs=5).trial_id)
        assert newest(workdir) == of_epoch(workdir, 5)


def test_what_is_gone_here_is_removed_there(tmp_path: Path) -> None:
    """The mirror holds the checkpoints that are kept, not all that ever were, and one index of each unit."""
    asked = study(seeds=1, epochs=12)
    assert run(asked, tmp_path / "home", local(tmp_path / "far"))
    unit = tmp_path / "far/some/prefix/trials" / trial(0, epochs=12).trial_id
    index = local(tmp_path / "far").index(f"trials/{unit.name}")
    kept = {name.split("/")[1] for name in index.files if name.startswith("checkpoints/")}
    assert kept == {"epoch-00011", "epoch-00012"}
    assert {path.name for path in (unit / "blocks").iterdir()} == index.blocks
    assert len(list(unit.glob("index-*"))) == 1


@pytest.mark.parametrize("gone", [JOURNAL, "outcome.json", "checkpoints", "."])
def test_a_home_that_is_being_deleted_does_not_take_its_copy_along(tmp_path: Path, gone: str) -> None:
    """The driver still runs and mirrors while somebody removes the trial, file by file."""
    asked, home, far = study(seeds=1), tmp_path / "home", tmp_path / "far"
    assert run(asked, home, local(far))
    known = results(home, asked)
    workdir = trial_folder(home, trial().trial_id)
    mirroring = Mirroring(local(far), home, asked.study, every=0.01)
    shutil.rmtree(workdir) if gone == "." else None
    if (workdir / gone).is_dir():
        shutil.rmtree(workdir / gone)
    elif workdir.exists():
        (workdir / gone).unlink()
    mirroring._note(f"trials/{workdir.name}", "studies/fake")
    assert mirroring.close(10)
    shutil.rmtree(home)
    assert restore_study(local(far), home, asked.study) == 1
    assert results(home, asked) == known
    assert newest(workdir) == of_epoch(workdir, 3)
    assert (workdir / "outcome.json").exists()


def test_a_fault_of_the_mirrors_code_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> None:
        raise ValueError("a fault of ours")

    monkeypatch.setattr(Mirror, "write", broken)
    assert not run(study(seeds=1), tmp_path / "home", local(tmp_path / "far"))


def test_a_second_run_with_nothing_new_writes_nothing(tmp_path: Path) -> None:
    asked, home, far = study(seeds=2), tmp_path / "home", tmp_path / "far"
    assert run(asked, home, local(far))
    before = {path: path.stat().st_mtime_ns for path in far.rglob("*") if path.is_file()}
    assert run(asked, home, local(far))
    assert {path: path.stat().st_mtime_ns for path in far.rglob("*") if path.is_file()} == before


def test_a_mirror_that_fails_at_times_has_everything_in_the_end(tmp_path: Path, seed: int) -> None:
    """One call in seven fails, some having written half a file; a home restored from it is the one that was lost."""
    asked, home, far = study(seeds=3, epochs=4), tmp_path / "home", tmp_path / "far"
    far.mkdir()
    flaky = Flaky(SubTreeFileSystem(str(far), LocalFileSystem()), failing=0.15, seed=seed)
    mirroring = Mirroring(Mirror(flaky.file_system(), "m"), home, asked.study, every=0.01)
    run_study(asked, home=home, engine=InlineEngine(PROGRAM), observers=[mirroring])
    assert mirroring.close(60)
    known = results(home, asked)
    shutil.rmtree(home)
    flaky.failing = 0.0
    assert restore_study(Mirror(flaky.file_system(), "m"), home, asked.study) == 3
    assert results(home, asked) == known


def test_training_never_waits_for_a_mirror_and_the_next_run_catches_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked, home, far = study(seeds=2), tmp_path / "home", tmp_path / "far"
    far.mkdir()
    flaky = Flaky(SubTreeFileSystem(str(far), LocalFileSystem()))
    with Ledger.open(home, asked.study):
        pass  # the study has begun here, so there is nothing to ask the mirror for
    asked_for = threading.Event()
    release = threading.Event()

    def hang() -> None:
        asked_for.set()
        release.wait(60)
        raise OSError("the mirror does not answer, on purpose")

    flaky._call = hang  # type: ignore[method-assign]
    mirroring = Mirroring(Mirror(flaky.file_system(), "m"), home, asked.study, every=0.01)
    summary = run_study(asked, home=home, engine=InlineEngine(PROGRAM), observers=[mirroring])
    assert summary.counts == {"finished": 2}
    assert asked_for.wait(10)
    since = time.monotonic()
    assert not mirroring.close(0.2)
    assert time.monotonic() - since < 5
    release.set()
    mirroring._thread.join(10)
    assert caplog.text.count("the mirror does not answer and is caught up with later") == 1
    assert mirroring.unsynced == 3

    del flaky._call
    assert run(asked, home, Mirror(flaky.file_system(), "m"))
    known = results(home, asked)
    shutil.rmtree(home)
    restore_study(Mirror(flaky.file_system(), "m"), home, asked.study)
    assert results(home, asked) == known


def test_an_empty_home_and_no_answer_is_no_new_study(tmp_path: Path) -> None:
    """Training it all anew could be a repetition; a home that has the study goes on from what it has."""
    (tmp_path / "far").mkdir()
    flaky = Flaky(SubTreeFileSystem(str(tmp_path / "far"), LocalFileSystem()))
    flaky.away = True
    mirror = Mirror(flaky.file_system(), "m")
    with pytest.raises(MirrorUnavailable, match="cannot be known whether study fake has begun elsewhere") as caught:
        restore_study(mirror, tmp_path / "home", "fake")
    assert exit_code(caught.value) == DATA
    Ledger.open(tmp_path / "home", "fake").close()
    assert restore_study(mirror, tmp_path / "home", "fake") == 0


def test_an_address_without_a_file_system_is_refused() -> None:
    with pytest.raises(MirrorUnavailable, match=r"^HSSL_MIRROR: gopher://[*]+@there"):
        Mirror.at("gopher://me:secret@there/x")


def test_a_damaged_checkpoint_on_the_mirror_gives_way_to_the_one_before(tmp_path: Path, seed: int) -> None:
    asked, home, far = study(seeds=1, epochs=5), tmp_path / "home", tmp_path / "far"
    one = trial(0, epochs=5)
    assert run(asked, home, local(far), dies_at(0, 4))
    index = local(far).index(f"trials/{one.trial_id}")
    block = index.files["checkpoints/epoch-00004/weights.safetensors"].blocks[0]
    path = far / "some/prefix/trials" / one.trial_id / "blocks" / block
    content = bytearray(path.read_bytes())
    content[random.Random(seed).randrange(len(content))] ^= 1
    path.write_bytes(bytes(content))
    shutil.rmtree(home)
    assert run(asked, home, local(far))
    assert epochs_trained(home, one.trial_id) == [4, 5]


def test_a_damaged_ledger_on_the_mirror_is_no_empty_study(tmp_path: Path) -> None:
    asked, home, far = study(seeds=1), tmp_path / "home", tmp_path / "far"
    assert run(asked, home, local(far))
    for block in (far / "some/prefix/studies/fake/blocks").iterdir():
        block.write_bytes(b"")
    shutil.rmtree(home)
    with pytest.raises(MirrorUnavailable, match="the ledger of study fake is damaged"):
        restore_study(local(far), home, "fake")


def test_an_older_home_is_brought_up_and_one_that_went_its_own_way_is_refused(tmp_path: Path) -> None:
    asked, far = study(seeds=2, epochs=4), tmp_path / "far"
    first, second, third = tmp_path / "first", tmp_path / "second", tmp_path / "third"
    assert run(asked, first, local(far), dies_at(0, 2))
    shutil.copytree(first, third)
    assert run(asked, second, local(far))  # goes on elsewhere
    assert run(asked, first, local(far))
    assert results(first, asked) == results(second, asked)
    assert epochs_trained(first, trial(0, epochs=4).trial_id) == [1, 2]
    with Ledger.open(third, "fake") as ledger:
        ledger.started(trial(1, epochs=4), 1)
    with pytest.raises(MirrorConflict, match="have both gone on since they were last equal") as caught:
        restore_study(local(far), third, "fake")
    assert exit_code(caught.value) == INCOMPATIBLE


def test_a_mirror_that_another_home_writes_to_is_left_to_it(tmp_path: Path) -> None:
    """Two drivers, each on a disk of its own: the second one to write notices, and says so."""
    far = tmp_path / "far"
    with Ledger.open(tmp_path / "a", "fake") as here, Ledger.open(tmp_path / "b", "fake") as there:
        ours = Mirroring(local(far), tmp_path / "a", "fake", every=0.01)
        ours._note("studies/fake")
        while ours.unsynced or not (far / "some/prefix/studies/fake").exists():
            time.sleep(0.01)
        there.started(trial(1), 1)
        theirs = Mirroring(local(far), tmp_path / "b", "fake", every=0.01)
        theirs._note("studies/fake")
        assert theirs.close(10)
        here.started(trial(0), 1)
        ours._note("studies/fake")
        assert not ours.close(10)
    assert ours.refused is not None and "written from another home too" in ours.refused


def test_a_hostile_mirror_chooses_no_folder_of_ours(tmp_path: Path) -> None:
    """Trials and files are named by whoever wrote the mirror; only names that are ours are followed."""
    far, home = tmp_path / "far", tmp_path / "home"
    mirror = local(far)
    with Ledger.open(tmp_path / "evil", "fake") as ledger:
        one = trial()
        ledger._log.append({"event": "started", "trial_id": "../../elsewhere", "attempt": 1, "time": 0.0})
        ledger.started(one, 1)
    content = (tmp_path / "evil/studies/fake" / LEDGER).read_bytes()
    mirror.write("studies/fake", {LEDGER: iter([content])}, mirror.index("studies/fake"))
    record = b""
    unit = f"trials/{one.trial_id}"
    names = ["../../../escaped", "checkpoints/../../../escaped/x", "checkpoints/epoch-00001/../../../../escaped", "x/y"]
    mirror.write(unit, {name: iter([b"x"]) for name in names} | {JOURNAL: iter([record or b"\n"])}, mirror.index(unit))
    restore_study(mirror, home, "fake")
    assert {path.name for path in tmp_path.iterdir()} == {"far", "evil", "home"}
    assert {path.name for path in (home / "trials").iterdir()} == {one.trial_id}
    assert {path.name for path in (home / unit).iterdir()} == {JOURNAL}


STUDY = """\
study: moved
base: {dataset: mnist-mini, train_images: 100, batch_size: 50, width: 0.125, epochs: 3, warmup_epochs: 1}
grid: {method: [a_ssl, h_ssl]}
seeds: 2
checkpoints: {every_epochs: 1}
"""


@only_in_chaos
@pytest.mark.slow
def test_a_study_goes_on_from_the_mirror_on_a_machine_without_a_home(tmp_path: Path) -> None:
    """As a user has it: SIGTERM after the first trial, the home deleted, `hssl-ray run` again; real training."""
    file, far = tmp_path / "moved.yaml", tmp_path / "far"
    file.write_text(STUDY)
    command = [sys.executable, "-m", "hssl_ray", "run", str(file), "--engine", "inline"]

    def environment(name: str, **more: str) -> dict[str, str]:
        return {**os.environ, "HSSL_HOME": str(tmp_path / name), **more}

    mirrored = {"HSSL_MIRROR": far.as_uri()}
    with subprocess.Popen(command, env=environment("first", **mirrored), stdout=subprocess.DEVNULL) as driver:
        try:
            while not list((tmp_path / "first/trials").glob("*/outcome.json")):
                assert driver.poll() is None
                time.sleep(0.05)
            driver.terminate()
            assert driver.wait(60) == 128 + signal.SIGTERM
        finally:
            driver.kill()
    shutil.rmtree(tmp_path / "first")
    again = subprocess.run(command, env=environment("second", **mirrored), capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "trials from the mirror" in again.stdout
    whole = subprocess.run(command, env=environment("undisturbed"), capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr

    def measured(name: str) -> dict[str, Any]:
        journals = (tmp_path / name / "trials").glob(f"*/{JOURNAL}")
        return {
            path.parent.name: [
                (record.epoch, {k: v for k, v in record.metrics.items() if not k.startswith("perf/")})
                for record in read_records(path)
            ]
            for path in journals
        }

    assert measured("second") == measured("undisturbed")
    assert len(measured("second")) == 4
