"""Which exit code an error means to a shell."""

from __future__ import annotations

from hssl_ray.cli.codes import DATA, INCOMPATIBLE, INVALID
from hssl_ray.data.errors import DataError
from hssl_ray.report.paper.readings import TableError
from hssl_ray.study.engine import ClusterError
from hssl_ray.study.ledger import LedgerError, StudyLocked
from hssl_ray.study.problems import SamplerUnavailable, StoreUnavailable, StoreVersionError, StudyError, WarmStartError


def exit_code(error: Exception) -> int | None:
    """The code of an error meant for people; None for one that is a fault of the program and deserves its traceback."""
    match error:
        case StudyError() | SamplerUnavailable() | WarmStartError() | ClusterError() | TableError():
            return INVALID
        case DataError() | StoreUnavailable():
            return DATA
        case StudyLocked() | LedgerError() | StoreVersionError():
            return INCOMPATIBLE
        case _:
            return None
