"""Groups, objectives and data sets that are added to the package, a file each; docs/extending.md shows one of each.

A file's name is its name in a study. The names are those of the files in three folders of this package and come from
nowhere else: a study's word is held against them first, and a file is imported only if it has the word as its name.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TypeVar

Declared = TypeVar("Declared")


def added_names(folder: Iterable[str], taken: Collection[str] = ()) -> tuple[str, ...]:
    """The names of the files in a package's `__path__`, ascending.

    Raises:
        ValueError: a name is `taken` by something that is not added.
    """
    files = sorted(path for place in folder for path in Path(place).glob("*.py") if not path.name.startswith("_"))
    for path in files:
        if path.stem in taken:
            raise ValueError(f"{path}: {path.stem} is there already; give the file another name")
    return tuple(path.stem for path in files)


def declared(package: str, name: str, variable: str, kind: type[Declared]) -> Declared:
    """What the file `name` of a package declares as `variable`.

    Raises:
        ValueError: it does not declare it, or as something else.
    """
    module = importlib.import_module(f"{package}.{name}")
    found = getattr(module, variable, None)
    if not isinstance(found, kind):
        raise ValueError(f"{module.__file__}: must set {variable} to one {kind.__name__}, got {found!r}")
    return found
