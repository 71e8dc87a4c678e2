"""What design.md's picture of the rooms promises, read off the code's own imports."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "hssl_ray"
# A room may import itself and the rooms right of it: cli -> report, machine -> study -> trial -> method, data.
BELOW = {
    "cli": {"report", "machine", "study", "trial", "method", "data"},
    "report": {"study", "trial", "method", "data"},
    "machine": {"study", "trial", "method", "data"},
    "study": {"trial", "method", "data"},
    "trial": {"method", "data"},
    "method": set[str](),
    "data": set[str](),
}
ONLY = {
    "ray": {"study/ray_engine.py", "study/ray/"},
    "mlflow": {"study/tracker/mlflow_store.py"},
    "optuna": {"study/search/"},
    "torchvision": {"data/torchvision_ops.py", "data/torchvision_sets.py"},
}
"""The files, or the rooms with all their files, that import a platform."""
FORBIDDEN_CALLS = {"eval", "exec", "print", "breakpoint", "__import__", "compile"}
FORBIDDEN_CALLS |= {"yaml.load", "torch.load", "os.system", "os.popen", "importlib.import_module", "runpy.run_path"}
IMPORTS_WHAT_IS_ADDED = "added.py"
"""The one file that imports by a name it was not written with: that of a file in one of the package's own folders."""
EVERYWHERE = {"added"}  # what every room may import besides
UNPICKLERS = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
FORBIDDEN_ARGUMENTS = {("shell", "True"), ("weights_only", "False"), ("allow_pickle", "True")}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Dotted names imported anywhere in a file, type-checking blocks included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


def misplaced(path: Path, room: str) -> list[str]:
    allowed = BELOW[room] | {room} | EVERYWHERE
    return [name for name in imports(path) if name.startswith("hssl_ray.") and name.split(".")[1] not in allowed]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    parts = path.relative_to(PACKAGE).parts
    if len(parts) > 1:
        assert misplaced(path, parts[0]) == []


def test_the_check_above_can_fail(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("from hssl_ray.study.spec import Study\n")
    assert misplaced(bad, "trial") == ["hssl_ray.study.spec"]


@pytest.mark.parametrize("library", ONLY)
def test_a_platform_is_imported_in_one_place(library: str) -> None:
    found = {
        str(path.relative_to(PACKAGE))
        for path in modules()
        if any(name == library or name.startswith(library + ".") for name in imports(path))
    }
    assert [path for path in found if not path.startswith(tuple(ONLY[library]))] == []


def test_method_needs_torch_and_numpy_alone() -> None:
    known = set(sys.stdlib_module_names) | {"torch", "numpy", "hssl_ray"}
    found = {name.split(".")[0] for path in (PACKAGE / "method").rglob("*.py") for name in imports(path)}
    assert found <= known


def runs_what_it_reads(path: Path) -> list[str]:
    """What in a file could run data: libraries that unpickle, calls, and keyword arguments."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    found = sorted(UNPICKLERS & ({name.split(".")[-1] for name in imports(path)} | named))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        written_out = called == "importlib.import_module" and isinstance(node.args[0], ast.Constant)
        if called in FORBIDDEN_CALLS and not written_out:
            found.append(called)
        found += [
            f"{keyword.arg}={ast.unparse(keyword.value)}"
            for keyword in node.keywords
            if (keyword.arg, ast.unparse(keyword.value)) in FORBIDDEN_ARGUMENTS
        ]
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_runs_what_it_reads(path: Path) -> None:
    added = path == PACKAGE / IMPORTS_WHAT_IS_ADDED
    assert runs_what_it_reads(path) == (["importlib.import_module"] if added else [])


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from ray import cloudpickle",
        "import ray.cloudpickle",
        "eval(text)",
        "yaml.load(text)",
        "torch.load(path)",
        "load(path, weights_only=False)",
        "subprocess.run(text, shell=True)",
        "np.load(path, allow_pickle=True)",
        "os.system(text)",
        "importlib.import_module(name)",
    ],
)
def test_the_check_for_running_data_can_fail(line: str, tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text(line + "\n")
    assert len(runs_what_it_reads(bad)) == 1


FLOORS = {"ray": "2.59", "mlflow": "3.17.2", "torch": "2.10.1", "pyarrow": "14.0.1"}
"""Versions below these run or serve what a stranger sends them; docs/operate.md, "Who may do what"."""


@pytest.mark.parametrize("name", FLOORS)
def test_what_has_known_holes_is_too_old_to_install(name: str) -> None:
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (floor,) = (re.search(r">=([0-9.]+)", line) for line in project["dependencies"] if re.match(rf"{name}(\[|>)", line))
    assert floor is not None
    assert tuple(map(int, floor[1].split("."))) >= tuple(map(int, FLOORS[name].split(".")))


def test_reading_commands_start_without_the_heavy_libraries() -> None:
    """Importing the command line loads neither torch, Ray, MLflow nor Optuna."""
    code = "import sys, json, hssl_ray.cli; print(json.dumps(sorted({n.split('.')[0] for n in sys.modules})))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"torch", "ray", "mlflow", "optuna", "scipy", "matplotlib"} & set(json.loads(out))


def test_help_starts_without_the_studys_models() -> None:
    """`--help` loads no pydantic and no YAML; a plan does, so the check can fail."""
    code = (
        "import sys, json, hssl_ray.cli as c\n"
        "sys.argv = ['hssl-ray', *sys.argv[1:]]\n"
        "try:\n    c.main()\nexcept SystemExit:\n    pass\n"
        "sys.stderr.write(json.dumps(sorted({n.split('.')[0] for n in sys.modules})))"
    )
    loaded = {}
    for command in ("--help", "schema"):
        done = subprocess.run([sys.executable, "-c", code, command], capture_output=True, text=True, check=True)
        loaded[command] = {"pydantic", "ruamel"} & set(json.loads(done.stderr))
    assert loaded == {"--help": set(), "schema": {"pydantic", "ruamel"}}
