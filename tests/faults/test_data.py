"""F19: data files missing, cut, flipped or of another content, before a study starts and while it runs."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hssl_ray.cli import app
from hssl_ray.cli.errors import exit_code
from hssl_ray.data import manifest as manifests
from hssl_ray.data.manifest import read_manifest
from hssl_ray.data.mapped import ensure_mapped, mapped_path
from hssl_ray.data.store import open_dataset
from hssl_ray.study.engine import Report, TrialProgram
from hssl_ray.study.inline_engine import InlineEngine
from hssl_ray.study.ledger import read_history
from hssl_ray.study.run import run_study
from hssl_ray.study.spec import load_study
from hssl_ray.trial.config import TrialConfig
from tests.faults.table import Table
from tests.study import engine_programs as programs

pytestmark = pytest.mark.faults
NAME = "mnist-mini"
Damage = Callable[[Path, random.Random], None]


def flip(path: Path, chance: random.Random) -> None:
    """One bit of a pixel, in the middle half of the file."""
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content) // 4, 3 * len(content) // 4)] ^= 1 << chance.randrange(8)
    _replace(path, bytes(content))


def cut(path: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    _replace(path, content[: chance.randrange(1, len(content))])


def empty(path: Path, chance: random.Random) -> None:
    _replace(path, b"")


def swap(path: Path, chance: random.Random) -> None:
    """The other split, under this one's name."""
    other = path.with_name(("test" if path.stem == "train" else "train") + path.suffix)
    _replace(path, other.read_bytes())


def remove(path: Path, chance: random.Random) -> None:
    path.unlink()


def _replace(path: Path, content: bytes) -> None:
    """A new file, so that whoever has the old one mapped keeps it."""
    path.unlink()
    path.write_bytes(content)


def other_hash(path: Path, chance: random.Random) -> None:
    """A manifest whose digest is of something else."""
    described = json.loads(path.read_text())
    described["train"]["digest"] = f"{chance.getrandbits(256):064x}"
    _replace(path, json.dumps(described).encode())


MAPPED: dict[str, Damage] = {"flip": flip, "cut": cut, "empty": empty, "swap": swap}
PARQUET: dict[str, Damage] = {**MAPPED, "remove": remove}
MANIFEST: dict[str, Damage] = {"cut": cut, "empty": empty, "remove": remove, "other hash": other_hash}


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The packaged data set, copied to where it may be broken."""
    copy = tmp_path / "packaged"
    shutil.copytree(manifests.PACKAGED, copy)
    monkeypatch.setattr(manifests, "PACKAGED", copy)
    return copy / NAME


def restored(packaged: Path) -> None:
    shutil.rmtree(packaged)
    shutil.copytree(manifests.__file__.replace("manifest.py", "packaged") + f"/{NAME}", packaged)


def mapped(split: str) -> Path:
    found = read_manifest(NAME, manifests.parquet_directory(NAME))
    ensure_mapped(found)
    return mapped_path(found, split)


def test_damaged_data_stops_a_study_before_its_first_trial(
    packaged: Path, tmp_path: Path, seed: int, figures: Table
) -> None:
    chance, study = random.Random(seed), tmp_path / "s.yaml"
    study.write_text(f"study: data\nbase: {{dataset: {NAME}, epochs: 2, warmup_epochs: 0}}\n")
    missed = []
    cases = [("mapped", "arrow", name, damage) for name, damage in MAPPED.items()]
    cases += [("packaged", "parquet", name, damage) for name, damage in PARQUET.items()]
    cases += [("packaged", "json", name, damage) for name, damage in MANIFEST.items()]
    for kind, suffix, name, damage in cases:
        path = mapped(chance.choice(["train", "test"]))
        if kind == "packaged":
            shutil.rmtree(path.parent)  # what is mapped already needs no Parquet
            path = packaged / ("manifest.json" if suffix == "json" else f"{path.stem}.parquet")
        damage(path, chance)
        told = CliRunner().invoke(app, ["run", str(study), "--engine", "inline"])
        code = exit_code(told.exception) if isinstance(told.exception, Exception) else told.exit_code
        where = path.parent if name == "remove" else path
        if code != 3 or str(where) not in str(told.exception):
            missed.append((kind, suffix, name, code, str(told.exception)))
        shutil.rmtree(mapped_path_folder(), ignore_errors=True)
        restored(packaged)
    trials = list((tmp_path / "home").glob("trials/*"))
    figures.bad("F19", "damaged files that were not named before the start", len(missed), len(cases))
    figures.bad("F19", "trials started on them", len(trials), len(cases))
    assert not missed and not trials


def mapped_path_folder() -> Path:
    return manifests.work_directory(NAME)


def test_data_damaged_while_a_study_runs_fails_the_trial_and_names_the_file(
    packaged: Path, tmp_path: Path, seed: int, figures: Table
) -> None:
    """Each trial opens its data; before all but the first one, the file is damaged in another way and then mended."""
    chance, home, damages = random.Random(seed), tmp_path / "home", list(MAPPED.items())
    broken: dict[int, Path] = {}

    def train(config: TrialConfig, report: Report, resume: Path | None = None, **options: object) -> None:
        if config.seed:
            broken[config.seed] = mapped(chance.choice(["train", "test"]))
            damages[config.seed - 1][1](broken[config.seed], chance)
        try:
            open_dataset(config.dataset)
        finally:
            if config.seed:
                shutil.rmtree(broken[config.seed].parent)
        programs.train(config, report, resume, **options)  # type: ignore[arg-type]

    file = tmp_path / "s.yaml"
    file.write_text(f"study: data\nbase: {{dataset: {NAME}, epochs: 2, warmup_epochs: 0}}\nseeds: {len(damages) + 1}\n")
    study = load_study(file)
    engine = InlineEngine(TrialProgram(train, programs.latest_checkpoint))
    summary = run_study(study, home=home, engine=engine)
    assert summary.counts == {"finished": 1, "failed": len(damages)}
    outcomes = read_history(home, "data").outcomes
    unnamed = [
        (trial.config.seed, outcomes[trial.trial_id].reason)
        for trial in study.planned()
        if trial.config.seed and str(broken[trial.config.seed]) not in outcomes[trial.trial_id].reason
    ]
    figures.bad("F19", "trials on damaged data that did not name the file", len(unnamed), len(damages))
    assert not unnamed
    assert {outcomes[trial.trial_id].attempt for trial in study.planned()} == {1}, "nothing is tried again"
