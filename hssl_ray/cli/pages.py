"""A study's page, from its file and what its trials have found so far, to a file of its own."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from hssl_ray.cli.programs import again
from hssl_ray.cli.questions import question_of
from hssl_ray.cli.readers import leading_comment, read_study
from hssl_ray.data.errors import DataError
from hssl_ray.data.files import replacing
from hssl_ray.data.manifest import parquet_directory, read_manifest
from hssl_ray.report.compare import compare
from hssl_ray.report.page import StudyInfo, drawn_cells, render
from hssl_ray.study.layout import study_folder
from hssl_ray.study.results import history_table

PACKAGES = ("hssl-ray", "torch", "ray", "mlflow", "optuna", "numpy", "scipy")


def page_path(home: Path, study: str) -> Path:
    """Where a run leaves a study's page."""
    return study_folder(home, study) / "report.html"


def write_page(
    path: Path,
    overrides: Sequence[str],
    home: Path,
    *,
    output: Path | None = None,
    commands: Mapping[str, str] | None = None,
) -> Path:
    """Write the page of a study, whole or not at all, and return where it is.

    Args:
        path: the study file, with the overrides it was run with.
        output: where to; absent means `report.html` in the study's folder under `home`.
        commands: more commands to show, by purpose.

    Raises:
        StudyError: the study file is missing or broken.
    """
    reading = read_study(path, overrides, home)
    name = reading.study.study
    info = StudyInfo(
        name,
        question=leading_comment(path),
        source=str(path),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        commands={
            "run what is missing": again("run", path, overrides),
            "compare again": again("compare", path, overrides),
            **(commands or {}),
        },
        datasets=_digests(reading.results["dataset"].unique().to_pylist()),
        versions={package: version(package) for package in PACKAGES} | {"Python": platform.python_version()},
    )
    comparison = compare(reading.results, question_of(reading.study))
    target = output or page_path(home, name)
    history = history_table(home, name, drawn_cells(comparison))
    with replacing(target) as partial:
        partial.write_text(render(comparison, reading.results, history, info), encoding="utf-8")
    return target


def _digests(names: Iterable[str]) -> dict[str, str]:
    """The identity of each data set's content as it is on this machine."""
    digests = {}
    for name in names:
        try:
            digests[name] = read_manifest(name, parquet_directory(name)).digest
        except DataError:
            digests[name] = "not on this machine"
    return digests
