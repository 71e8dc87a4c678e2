"""Which exit code an error means to a shell."""

from __future__ import annotations

from hssl_ray.cli.codes import DATA, INCOMPATIBLE, INVALID, SOME_FAILED
from hssl_ray.data.errors import DataError
from hssl_ray.machine.problems import ServiceError
from hssl_ray.report.paper.readings import TableError
from hssl_ray.study.engine import ClusterError
from hssl_ray.study.file.problems import (
    MirrorConflict,
    MirrorUnavailable,
    SamplerUnavailable,
    StoreUnavailable,
    StoreVersionError,
    StudyError,
    WarmStartError,
)
from hssl_ray.study.lease import StudyLocked
from hssl_ray.study.reserve import DiskFull, NoRoom
from hssl_ray.trial.durable import NewerFormat, NoLocks


def exit_code(error: Exception) -> int | None:
    """The code of an error meant for people; None for one that is a fault of the program and deserves its traceback."""
    match error:
        case StudyError() | SamplerUnavailable() | WarmStartError() | ClusterError() | TableError():
            return INVALID
        case DataError() | ServiceError() | StoreUnavailable() | MirrorUnavailable() | NoRoom() | NoLocks():
            return DATA
        case DiskFull():
            return SOME_FAILED
        case StudyLocked() | NewerFormat() | MirrorConflict() | StoreVersionError():
            return INCOMPATIBLE
        case _:
            return None
