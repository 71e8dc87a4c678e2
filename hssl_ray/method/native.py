"""Compiled kernels for the CPU: built once per machine with its own C++ compiler, kept in the user's cache.

Without a compiler, or with `HSSL_NATIVE=0`, what uses them goes its slower way in plain torch; results differ by
rounding alone.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)

SWITCH = "HSSL_NATIVE"
"""Environment variable; `0` leaves all compiled kernels aside."""
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared")


KERNELS = Path(__file__).with_name("kernels")
"""The sources; `kernels.cpp` includes the others."""
NUMBER_TYPES = {torch.float32: "float32", torch.float64: "float64", torch.bfloat16: "bfloat16"}


class Library:
    """The compiled kernels of a folder."""

    def __init__(self, path: Path) -> None:
        self._functions = ctypes.CDLL(str(path))

    def run(self, kernel: str, kind: torch.dtype, *arguments: Tensor | int | ctypes.Array[Any]) -> None:
        """Call a kernel for one of `NUMBER_TYPES` with as many threads as torch uses.

        Args:
            arguments: tensors, contiguous and on the CPU, whole numbers, and arrays, as its signature has them.
        """
        function = self._functions[f"{kernel}_{NUMBER_TYPES[kind]}"]
        function(*map(_passed, arguments), ctypes.c_int64(torch.get_num_threads()))


def _passed(argument: Tensor | int | ctypes.Array[Any]) -> Any:
    if isinstance(argument, Tensor):
        assert argument.is_contiguous() and argument.device.type == "cpu"
        return ctypes.c_void_p(argument.data_ptr())
    return ctypes.c_int64(argument) if isinstance(argument, int) else argument


def native_library(folder: Path = KERNELS) -> Library | None:
    """The compiled kernels, or None where they are switched off or cannot be built."""
    return None if switched_off() else _load(folder)


def switched_off() -> bool:
    """Whether the user wants no compiled kernels."""
    return os.environ.get(SWITCH) == "0"


@cache
def _load(folder: Path) -> Library | None:
    try:
        return Library(_built(folder, cache_folder()))
    except (OSError, subprocess.CalledProcessError, _NoCompilerError) as error:
        said = error.stderr.strip().partition("\n")[0] if isinstance(error, subprocess.CalledProcessError) else error
        log.warning("training goes the slower way, because %s could not be built: %s", folder.name, said)
        return None


class _NoCompilerError(RuntimeError):
    pass


def cache_folder() -> Path:
    """Where compiled kernels are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hssl_ray"


def _built(sources: Path, folder: Path) -> Path:
    """The library built from a folder's sources; several processes may ask at once, and machines share the cache."""
    library = _library(sources, folder)
    if library.exists():
        return library
    program = compiler()
    if program is None:
        raise _NoCompilerError("there is no C++ compiler")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=folder, prefix="build-") as scratch:
        built = Path(scratch) / library.name
        command = [program, *FLAGS, str(sources / f"{sources.name}.cpp"), "-o", str(built)]
        subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603  fixed arguments
        built.replace(library)  # whole or not at all
    return library


def built_library(sources: Path) -> Path | None:
    """The library of a folder's sources, if it was built on this machine before."""
    library = _library(sources, cache_folder())
    return library if library.exists() else None


def _library(sources: Path, folder: Path) -> Path:
    """Where the library of these very sources, for this very processor, lies or will lie."""
    texts = [path.read_text() for path in sorted(sources.glob("*.?pp"))]
    key = hashlib.sha256("\n".join([*texts, *FLAGS, _processor()]).encode()).hexdigest()[:16]
    return folder / f"{sources.name}-{key}.so"


def compiler() -> str | None:
    """The C++ compiler that would build them; None where there is none."""
    return os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


def _processor() -> str:
    """What `-march=native` depends on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()} {platform.processor()} {flags}"
