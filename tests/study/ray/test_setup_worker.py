"""How worker processes of our own Ray begin: with their variables, and by Ray's own way wherever there is more."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hssl_ray.study.ray import setup_worker

RAYS = "import sys; print('rays', len(sys.argv))"
WORKER = "import os, sys; print('worker', os.environ.get('SEEN'), sys.argv[1:], 'ray' in sys.modules)"


@pytest.fixture
def workers(tmp_path: Path) -> Path:
    """The folder of Ray's two programs, stand-ins in a package of that name."""
    folder = tmp_path / "ray" / "_private" / "workers"
    folder.mkdir(parents=True)
    (tmp_path / "ray" / "__init__.py").touch()
    (folder / "setup_worker.py").write_text(RAYS)
    (folder / "default_worker.py").write_text(WORKER)
    return folder


def started(workers: Path, context: dict[str, Any], language: str = "PYTHON") -> str:
    own = [f"--language={language}", f"--serialized-runtime-env-context={json.dumps(context)}"]
    return run(workers, [str(workers / "default_worker.py"), "--node=here", *own])


def run(workers: Path, arguments: list[str]) -> str:
    kept = {name: value for name, value in os.environ.items() if name != "SEEN"}
    command = [sys.executable, setup_worker.__file__, *arguments]
    environment = kept | {"PYTHONPATH": str(workers.parents[2])}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def test_a_worker_has_its_variables(workers: Path) -> None:
    context = {"command_prefix": [], "env_vars": {"SEEN": "a b'c"}, "py_executable": sys.executable, "java_jars": []}
    assert started(workers, context) == "worker a b'c ['--node=here'] False"


@pytest.mark.parametrize(
    "context",
    [
        {"command_prefix": ["nice"]},
        {"py_executable": "python-of-a-container"},
        {"env_vars": {"SEEN": "${HOME}/more"}},
        {"of_a_later_ray": True},
    ],
    ids=["prefix", "other interpreter", "variable in a variable", "unknown"],
)
def test_what_needs_more_goes_rays_own_way(workers: Path, context: dict[str, Any]) -> None:
    """With all four arguments as they came: the worker, its node, the language and the context."""
    assert started(workers, context) == "rays 5"


def test_another_language_goes_rays_own_way(workers: Path) -> None:
    assert started(workers, {}, language="CPP") == "rays 5"


def test_the_server_of_clients_goes_rays_own_way(workers: Path) -> None:
    """`ray start` starts it by the same file, and it is no worker."""
    assert run(workers, ["-m", "ray.util.client.server", "--port=1"]) == "rays 4"


def test_ray_knows_it_by_its_name() -> None:
    """The raylet leaves it out of workers without variables only where its path has this in it."""
    from ray._private import ray_constants

    assert ray_constants.SETUP_WORKER_FILENAME in setup_worker.__file__
