"""Commands as a person can type them where they are."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path


def program(name: str) -> str:
    """`name` if the shell finds this environment's program of that name, else the path to it."""
    ours = Path(sys.executable).with_name(name)
    found = shutil.which(name)
    if found is not None and (not ours.exists() or Path(found).samefile(ours)):
        return name
    here = Path.cwd()
    return shlex.quote(os.path.relpath(ours, here) if ours.is_relative_to(here) else str(ours))


def again(command: str, path: Path, overrides: Sequence[str]) -> str:
    """The command line that does `command` to this study."""
    arguments = [command, str(path), *(part for item in overrides for part in ("--set", item))]
    return f"{program('hssl-ray')} {shlex.join(arguments)}"
