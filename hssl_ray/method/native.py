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

log = logging.getLogger(__name__)

SWITCH = "HSSL_NATIVE"
"""Environment variable; `0` leaves all compiled kernels aside."""
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared")


def native_library(source: Path) -> ctypes.CDLL | None:
    """The compiled kernels of a source file, or None where they are switched off or cannot be built."""
    return None if os.environ.get(SWITCH) == "0" else _load(source)


@cache
def _load(source: Path) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(str(_built(source, cache_folder())))
    except (OSError, subprocess.CalledProcessError, _NoCompilerError) as error:
        said = error.stderr.strip().partition("\n")[0] if isinstance(error, subprocess.CalledProcessError) else error
        log.warning("convolutions go the slower way, because %s could not be built: %s", source.name, said)
        return None


class _NoCompilerError(RuntimeError):
    pass


def cache_folder() -> Path:
    """Where compiled kernels are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hssl_ray"


def _built(source: Path, folder: Path) -> Path:
    """The library built from a source; several processes may ask at once, and machines may share the folder."""
    key = hashlib.sha256("\n".join([source.read_text(), *FLAGS, _processor()]).encode()).hexdigest()[:16]
    library = folder / f"{source.stem}-{key}.so"
    if library.exists():
        return library
    compiler = _compiler()
    if compiler is None:
        raise _NoCompilerError("there is no C++ compiler")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=folder, prefix="build-") as scratch:
        built = Path(scratch) / library.name
        command = [compiler, *FLAGS, str(source), "-o", str(built)]
        subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603  fixed arguments
        built.replace(library)  # whole or not at all
    return library


def _compiler() -> str | None:
    return os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


def _processor() -> str:
    """What `-march=native` depends on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()} {platform.processor()} {flags}"
