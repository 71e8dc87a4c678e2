"""Which tracking databases a run may leave unseen until trials train: none that MLflow might refuse."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from hssl_ray.study.tracker import store_schema
from hssl_ray.study.tracker.store_schema import is_known, note_known


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as made, made:
        made.execute("CREATE TABLE alembic_version (version_num TEXT)")
        made.execute("INSERT INTO alembic_version VALUES ('abc')")
    return path


def uri(path: Path) -> str:
    return f"sqlite:///{path}"


def test_a_database_is_known_once_mlflow_has_worked_with_it(database: Path) -> None:
    assert not is_known(uri(database))
    note_known(uri(database))
    assert is_known(uri(database))


def test_a_changed_schema_or_another_mlflow_is_not_known(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note_known(uri(database))
    with closing(sqlite3.connect(database)) as changed, changed:
        changed.execute("UPDATE alembic_version SET version_num = 'def'")
    assert not is_known(uri(database))
    note_known(uri(database))
    assert is_known(uri(database))
    monkeypatch.setattr(store_schema, "version", lambda name: "99")
    assert not is_known(uri(database))


@pytest.mark.parametrize("content", [b"", b"not a database at all"])
def test_what_is_no_database_of_mlflows_is_not_known(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.write_bytes(content)
    note_known(uri(path))
    assert not is_known(uri(path))


def test_what_is_not_there_will_be_made_and_a_server_looks_after_itself(tmp_path: Path) -> None:
    assert is_known(uri(tmp_path / "mlflow.db"))
    assert is_known("http://127.0.0.1:5000")
    assert not is_known("postgresql://user@host/mlflow"), "others may use it, and MLflow has to be asked"
    note_known("postgresql://user@host/mlflow")
    assert list(tmp_path.iterdir()) == []
