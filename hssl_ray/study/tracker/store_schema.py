"""Whether a tracking database needs a look before a study: without MLflow, whose import takes two seconds.

What MLflow itself would have to be asked is noted beside a SQLite file once it was: that this version of MLflow works
with the schema that the file has.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

from hssl_ray.study.tracker.tracked import is_server

SQLITE = "sqlite:///"


def is_known(uri: str) -> bool:
    """Whether a store can be opened by the installed MLflow as it is, or made: no database of another version."""
    if is_server(uri):
        return True
    path = sqlite_file(uri)
    if path is None:
        return False
    if not path.exists():
        return True
    schema = _schema(path)
    note = _note(path)
    return schema is not None and note.is_file() and note.read_text() == _known(schema)


def note_known(uri: str) -> None:
    """Note that the installed MLflow works with the schema of a database as it is now."""
    path = sqlite_file(uri)
    schema = None if path is None else _schema(path)
    if path is not None and schema is not None:
        _note(path).write_text(_known(schema))


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite database; None for all others."""
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None


def _known(schema: str) -> str:
    return f"MLflow {version('mlflow')} works with {schema}\n"


def _note(path: Path) -> Path:
    return path.with_suffix(".known")


def _schema(path: Path) -> str | None:
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            found = database.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error:
        return None
    return None if found is None else str(found[0])
