"""What a driver imports before its first trial: torch belongs to the workers, MLflow to the outbox's thread."""

import gc
import json
import os
import subprocess
import sys

import pytest

from hssl_ray.study.engine import TrialProgram
from hssl_ray.study.program import PROGRAM
from hssl_ray.study.ray.garbage import OFTEN_ENOUGH
from hssl_ray.study.ray.settings import FIRST_IMPORT, preloading


def imported(statement: str) -> set[str]:
    """Top-level packages loaded by a statement, in a process of its own."""
    code = f"{statement}; import sys, json; print(json.dumps(sorted({{n.split('.')[0] for n in sys.modules}})))"
    environment = os.environ | {"RAY_AUTH_MODE": "token"}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return set(json.loads(out.stdout))


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("hssl_ray.study.run", {"torch", "ray", "mlflow", "optuna", "scipy"}),
        ("hssl_ray.study.program", {"torch", "ray", "mlflow"}),
        ("hssl_ray.study.tracking", {"torch", "ray", "mlflow"}),
        ("hssl_ray.study.ray_engine", {"torch", "mlflow"}),
        ("hssl_ray.study.ray.tune_loop", {"torch", "mlflow"}),
        ("hssl_ray.study.ray.rank_group", {"torch", "mlflow"}),
    ],
)
def test_a_driver_starts_without_what_it_can_do_without(module: str, absent: set[str]) -> None:
    assert not absent & imported(f"import {module}")


def test_the_check_above_can_fail() -> None:
    assert "torch" in imported("import hssl_ray.trial.train")


def test_what_workers_import_ahead_exists_and_holds_the_program() -> None:
    """A name that is wrong would be logged by Ray and cost every first trial seconds."""
    code = f"import importlib; [importlib.import_module(name) for name in {PROGRAM.modules!r}]"
    assert "torch" in imported(code)
    assert "hssl_ray.trial.train" in PROGRAM.modules
    assert TrialProgram(PROGRAM.train, PROGRAM.latest_checkpoint).modules == ()


def test_what_is_imported_first_has_garbage_collected_seldom() -> None:
    code = f"import gc, {FIRST_IMPORT}; print(gc.get_threshold()[0])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(out) == OFTEN_ENOUGH[0] > gc.get_threshold()[0], "the tests' own is Python's"


def test_tunes_telemetry_imports_no_tracker() -> None:
    """Tune would import MLflow and others, on the way to the first trial, to count the callbacks that are theirs."""
    asked = "from ray import tune; from ray.air._internal import usage; from hssl_ray.study.ray import tune_loop"
    told = "usage.tag_callbacks([tune.Callback()])"
    assert "mlflow" in imported(f"{asked}; {told}")
    assert "mlflow" not in imported(f"{asked}; tune_loop.without_telemetry(); {told}")


def test_workers_import_ahead_only_while_their_head_starts_and_not_against_the_user() -> None:
    variables: dict[str, str] = {}
    with preloading(variables, ["a", "b.c"]):
        assert variables == {"RAY_preload_python_modules": f"{FIRST_IMPORT},a,b.c"}
    assert variables == {}
    variables = {"RAY_preload_python_modules": "mine"}
    with preloading(variables, ["a"]):
        assert variables == {"RAY_preload_python_modules": "mine"}
    assert variables == {"RAY_preload_python_modules": "mine"}
