"""Every fault under one seed by default, under five by `make chaos`, which also prints the table."""

from collections.abc import Iterator

import pytest

from tests.faults.chaos import CHAOS, SEEDS
from tests.faults.mlflow_server import MlflowServer
from tests.faults.table import Table

_TABLE = pytest.StashKey[Table]()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(SEEDS))


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """One server for all tests that need one: it takes ten seconds to start."""
    with MlflowServer(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> Table:
    """Where a test writes what it measured; see `Table`."""
    return pytestconfig.stash.setdefault(_TABLE, Table())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    table = terminalreporter.config.stash.get(_TABLE, None)
    if table is not None and CHAOS:
        for line in ("", *table.lines()):
            terminalreporter.write_line(line)
