"""Every fault under one seed by default, under five by `make chaos`, which also prints the table."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.chaos import CHAOS, FIGURES, SEEDS
from tests.faults.mlflow_server import MlflowServer
from tests.faults.table import Table, lines, measured

_FILE = pytest.StashKey[Path]()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(SEEDS))


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """One server for all tests that need one: it takes ten seconds to start."""
    with MlflowServer(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Table:
    """Where a test writes what it measured; see `Table`."""
    file = Path(FIGURES) if FIGURES else tmp_path_factory.mktemp("figures") / "figures.jsonl"
    pytestconfig.stash[_FILE] = file
    return Table(file)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    file = Path(FIGURES) if FIGURES else terminalreporter.config.stash.get(_FILE, None)
    if CHAOS and file is not None:
        for line in ("", *lines(measured(file))):
            terminalreporter.write_line(line)
