"""What a study needs to run somewhere else: the code of this process, the study file and the files it extends.

Only these are packed, so a checkout's history, environments and data sets never travel.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import hssl_ray
from hssl_ray.study.engine import ClusterError
from hssl_ray.study.file.layers import layer_files

MOST_BYTES = 512 * 2**20  # what Ray's head takes in one message
PACKAGE = "hssl_ray"
STUDIES = "studies"


def pack(study: Path, folder: Path, most_bytes: int = MOST_BYTES) -> str:
    """Lay out the working directory of a job.

    Args:
        study: a study file that reads without faults.
        folder: an empty folder to fill.
        most_bytes: the largest package the cluster takes.

    Returns:
        The study file's path in the folder, for its command line.

    Raises:
        ClusterError: the package is too large; nothing has been sent.
    """
    shutil.copytree(Path(hssl_ray.__file__).parent, folder / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    layers = [Path(os.path.abspath(path)) for path in layer_files(study)]
    above = Path(os.path.commonpath([path.parent for path in layers]))  # so that `extends: ../other.yaml` stays true
    for path in layers:
        target = folder / STUDIES / path.relative_to(above)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    _check_size(folder, most_bytes)
    return (Path(STUDIES) / Path(os.path.abspath(study)).relative_to(above)).as_posix()


def _check_size(folder: Path, most_bytes: int) -> None:
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    total = sum(sizes.values())
    if total > most_bytes:
        largest = max(sizes, key=lambda path: sizes[path])
        raise ClusterError(
            f"package: must be at most {most_bytes / 2**20:.0f} MiB, got {total / 2**20:.1f} MiB, of which "
            f"{sizes[largest] / 2**20:.1f} MiB are {largest.relative_to(folder)}"
        )
