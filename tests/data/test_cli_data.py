"""The three commands as a person or a script meets them."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hssl_ray.cli.data import app
from hssl_ray.data.catalog import CATALOG, DatasetInfo
from hssl_ray.data.errors import DataError
from hssl_ray.data.manifest import work_directory
from hssl_ray.data.pixels import Content

Make = Callable[[DatasetInfo], Content]
Write = Callable[[Content], Path]


def run(*arguments: str) -> tuple[int, str]:
    """Exit code and output; an error meant for the program's entry point is raised."""
    result = CliRunner().invoke(app, arguments)
    if isinstance(result.exception, DataError):
        raise result.exception
    return result.exit_code, result.output


def test_prepare_list_and_verify_agree(mnist: DatasetInfo, content: Make, idx_folder: Write) -> None:
    code, output = run("prepare", "mnist", "--from", str(idx_folder(content(mnist))))
    assert code == 0
    assert "mnist: 60 training and 20 test images" in output
    code, output = run("list", "--json")
    rows = {row["name"]: row for row in json.loads(output)}
    assert (code, rows["mnist"]["state"], rows["cifar10"]["state"]) == (0, "prepared", "absent")
    assert rows["mnist"]["digest"] in (work_directory("mnist") / "manifest.json").read_text()
    code, output = run("verify", "--json")
    assert (code, [(row["name"], row["whole"]) for row in json.loads(output)]) == (
        0,
        [("mnist-mini", True), ("mnist", True)],
    )
    path = work_directory("mnist") / "test.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    code, output = run("verify")
    assert code == 3
    assert "mnist-mini: whole" in output and "mnist: damaged" in output and str(path) in output


def test_list_fits_a_terminal() -> None:
    code, output = run("list")
    assert code == 0
    assert all(name in output for name in CATALOG)
    assert "…" not in output


def test_mnist_mini_is_made_again_from_idx(
    mnist: DatasetInfo, content: Make, idx_folder: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        CATALOG, "mnist-mini", replace(CATALOG["mnist-mini"], train_images=30, test_images=10, digest=None)
    )
    source, target = idx_folder(content(mnist)), tmp_path / "made"
    code, output = run("prepare", "mnist-mini", "--from", str(source), "--to", str(target))
    assert code == 0
    assert "30 training and 10 test images" in output
    assert (target / "manifest.json").exists()


def test_mnist_mini_needs_no_preparation() -> None:
    assert run("prepare", "mnist-mini") == (0, "mnist-mini ships with the package: nothing to prepare\n")
    code, output = run("prepare", "mnist-mini", "--from", "somewhere")
    assert code == 2
    assert "--to" in output


def test_an_unknown_name_is_a_usage_error() -> None:
    code, output = run("prepare", "emnist")
    assert code == 2
    assert "tiny-imagenet" in output


def test_an_absent_data_set_says_what_to_fetch() -> None:
    with pytest.raises(DataError, match="fetch from"):
        run("verify", "cifar10")


def test_the_command_line_starts_without_torch_or_arrow() -> None:
    code = "import sys, hssl_ray.cli.data; print({'torch', 'pyarrow', 'numpy', 'ray'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "set()\n"
