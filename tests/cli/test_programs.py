"""What the commands print can be typed: found by the shell, or given with its path."""

import sys
from pathlib import Path

import pytest

from hssl_ray.cli.programs import again, program

BIN = Path(sys.executable).parent


def test_a_program_on_the_path_is_named_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(BIN))
    assert program("hssl-ray") == "hssl-ray"
    assert again("run", Path("a b.yaml"), ["base.epochs=2"]) == "hssl-ray run 'a b.yaml' --set base.epochs=2"


def test_outside_of_the_environment_its_path_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.chdir(BIN.parent.parent)
    assert program("hssl-ray") == f"{BIN.parent.name}/bin/hssl-ray"
    monkeypatch.chdir(tmp_path)
    assert program("hssl-ray") == str(BIN / "hssl-ray")


def test_a_namesake_of_another_environment_is_not_taken_for_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / "mlflow"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert program("mlflow") == str(BIN / "mlflow")
