"""What travels to a cluster: the code and the study's own files, and nothing else of where they lie."""

import subprocess
import sys
from pathlib import Path

import pytest

import hssl_ray
from hssl_ray.study.engine import ClusterError
from hssl_ray.study.ray.job_package import pack
from hssl_ray.study.spec import load_study

BASE = (
    "study: base\nbase: {dataset: mnist-mini, epochs: 1, warmup_epochs: 0}\ngrid: {method: [a_ssl, h_ssl]}\nseeds: 1\n"
)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study that extends a file of another folder, in a project with a history and data beside it."""
    project = tmp_path / "project"
    for folder in (".git", "data", "studies/mine", "shared"):
        (project / folder).mkdir(parents=True)
    (project / ".git" / "objects").write_bytes(bytes(1000))
    (project / "data" / "images.bin").write_bytes(bytes(1000))
    (project / "shared" / "base.yaml").write_text(BASE)
    file = project / "studies" / "mine" / "own.yaml"
    file.write_text("study: own\nextends: ../../shared/base.yaml\nseeds: 2\n")
    return file


def test_the_packed_study_is_the_same_study(study: Path, tmp_path: Path) -> None:
    folder = tmp_path / "package"
    folder.mkdir()
    name = pack(study, folder)
    assert load_study(folder / name).digest == load_study(study).digest


def test_only_the_package_and_the_layers_travel(study: Path, tmp_path: Path) -> None:
    folder = tmp_path / "package"
    folder.mkdir()
    pack(study, folder)
    packed = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    outside = {name for name in packed if not name.startswith("hssl_ray/")}
    assert outside == {"studies/studies/mine/own.yaml", "studies/shared/base.yaml"}
    assert not any("__pycache__" in name for name in packed)


def test_the_packed_code_runs_by_itself(study: Path, tmp_path: Path) -> None:
    """Compiled kernels' sources and the packaged data set travel too; nothing is read from the original."""
    folder = tmp_path / "package"
    folder.mkdir()
    name = pack(study, folder)
    code = "import hssl_ray, sys; from hssl_ray.cli import main; print(hssl_ray.__file__); main()"
    ran = subprocess.run(
        [sys.executable, "-c", code, "plan", name], cwd=folder, capture_output=True, text=True, check=False, env={}
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(str(folder)) and "4 trials" in ran.stdout
    ours = Path(hssl_ray.__file__).parent
    for file in (path for path in ours.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        assert (folder / "hssl_ray" / file.relative_to(ours)).read_bytes() == file.read_bytes()


def test_too_large_a_package_is_refused_by_name(study: Path, tmp_path: Path) -> None:
    folder = tmp_path / "package"
    folder.mkdir()
    with pytest.raises(ClusterError, match=r"package: must be at most 1 MiB, got .* MiB are hssl_ray/"):
        pack(study, folder, most_bytes=2**20)
