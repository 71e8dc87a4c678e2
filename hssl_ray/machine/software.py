"""Is what a study needs installed, in versions that are known to work?"""

from __future__ import annotations

import platform
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import hssl_ray
from hssl_ray.machine.findings import Finding, problem, warning, well

MAIN = ("torch", "ray", "mlflow")
"""Each on a line of its own; the others share one."""
LEAST_PYTHON = (3, 11)
TESTED = Path(hssl_ray.__file__).parents[1] / "constraints.txt"
"""Exact versions that the tests ran with; only a checkout has them."""
_FLOOR = re.compile(r"^([\w-]+)(?:\[[\w,-]+\])?>=([0-9.]+)$")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def software() -> Iterator[Finding]:
    """Python, packages, compiled kernels and the programs beside them."""
    found = platform.python_version()
    if sys.version_info < LEAST_PYTHON:
        yield problem("python", f"{found}, older than 3.11", "install Python 3.11 or newer")
    else:
        yield well("python", found)
    yield from packages(_installed(), _floors(), _tested())
    yield from kernels()
    yield _program("prometheus", ("prometheus",), "without it nobody keeps a study's metrics; Debian's package does")
    yield _program("chromium", BROWSERS, "only screenshots need it")


def packages(installed: Mapping[str, str], floors: Mapping[str, str], tested: Mapping[str, str]) -> list[Finding]:
    """Versions that are there against those that must be, and those that were tested.

    Args:
        installed: versions by name; what is missing is not in it.
        floors: the least versions.
        tested: exact ones, of those that have been tested.
    """
    found, others = [], 0
    for name, floor in floors.items():
        here, exact = installed.get(name), tested.get(name)
        if here is None or _number(here) < _number(floor):
            said = "not installed" if here is None else f"{here}, older than {floor}"
            found.append(
                problem(name, said, f"pip install '{name}=={exact}'" if exact else f"pip install '{name}>={floor}'")
            )
        elif exact is not None and _number(here) != _number(exact):
            found.append(warning(name, f"{here}; tested with {exact}", f"pip install '{name}=={exact}'"))
        elif name in MAIN:
            found.append(well(name, f"{here}, as tested" if exact else f"{here}, at least {floor}"))
        else:
            others += 1
    return [*found, well("packages", f"{others} others as they should be")]


def kernels() -> Iterator[Finding]:
    """Whether training is compiled."""
    from hssl_ray.method.native import KERNELS, SWITCH, built_library, compiler, switched_off

    ours = compiler()
    if switched_off():
        yield warning(
            "kernels", f"left aside, because {SWITCH}=0", f"unset {SWITCH}: training is several times as fast"
        )
    elif (library := built_library(KERNELS)) is not None:
        yield well("kernels", f"built, {library}")
    elif ours is None:
        yield warning(
            "kernels",
            "not built, and there is no C++ compiler",
            "install g++ or clang++: training is several times as fast",
        )
    else:
        yield well("kernels", f"not built yet; the first trial does, with {ours}")


def _program(subject: str, names: tuple[str, ...], without: str) -> Finding:
    found = next((path for name in names if (path := shutil.which(name))), None)
    return well(subject, found or f"not installed; {without}")


def _installed() -> dict[str, str]:
    found = {}
    for name in _floors():
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _floors() -> dict[str, str]:
    """What pyproject.toml asks for, extras left out."""
    try:
        asked = requires("hssl-ray") or []
    except PackageNotFoundError:  # run from a copy of its files, as a job is
        return {}
    return {match[1].lower(): match[2] for line in asked if (match := _FLOOR.match(line.replace(" ", "")))}


def _tested() -> dict[str, str]:
    lines = TESTED.read_text(encoding="utf-8").splitlines() if TESTED.exists() else []
    pairs = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {name.lower(): exact.strip() for name, exact in pairs}


def _number(text: str) -> tuple[int, ...]:
    """`2.13.0+cpu` as (2, 13): a build's name and zeros at the end say nothing."""
    numbers = [int(part) for part in re.findall(r"\d+", text.partition("+")[0])]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
