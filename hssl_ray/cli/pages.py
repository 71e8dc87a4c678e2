"""A study's page, from its file and what its trials have found so far, to a file of its own."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from hssl_ray.cli.programs import again
from hssl_ray.cli.provenance import git_commit
from hssl_ray.cli.questions import question_of
from hssl_ray.cli.readers import leading_comment, read_study
from hssl_ray.data.errors import DataError
from hssl_ray.data.files import replacing
from hssl_ray.data.manifest import parquet_directory, read_manifest
from hssl_ray.report.compare import compare
from hssl_ray.report.drawing import Drawing
from hssl_ray.report.page import StudyInfo, drawn_cells, render
from hssl_ray.study.layout import study_folder
from hssl_ray.study.results import history_table
from hssl_ray.study.spec import Study

PACKAGES = ("hssl-ray", "torch", "ray", "mlflow", "optuna", "numpy", "scipy")


MOST_BASES = 6
"""Pictures of bases on a page; `hssl-ray basis report STUDY` has them all."""


def page_path(home: Path, study: str) -> Path:
    """Where a run leaves a study's page."""
    return study_folder(home, study) / "report.html"


def pictures_folder(page: Path) -> Path:
    """Where the figures of a page lie as PNG files: `report-figures` beside `report.html`."""
    return page.with_name(f"{page.stem}-figures")


def page_files(page: Path) -> dict[str, bytes]:
    """A page and its pictures, by their names beside each other; nothing where there is no page."""
    if not page.is_file():
        return {}
    folder = pictures_folder(page)
    pictures = {f"{folder.name}/{path.name}": path.read_bytes() for path in sorted(folder.glob("*.png"))}
    return {page.name: page.read_bytes(), **pictures}


def write_page(
    path: Path,
    overrides: Sequence[str],
    home: Path,
    *,
    output: Path | None = None,
    commands: Mapping[str, str] | None = None,
    bases: Sequence[Drawing] | None = None,
) -> Path:
    """Write the page of a study, whole or not at all, and its figures beside it as PNG files; return where it is.

    Args:
        path: the study file, with the overrides it was run with.
        output: where to; absent means `report.html` in the study's folder under `home`.
        commands: more commands to show, by purpose.
        bases: see `page_bases`, where they are there already.

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
        digest=reading.study.digest,
        commit=git_commit(),
    )
    comparison = compare(reading.results, question_of(reading.study))
    target = output or page_path(home, name)
    history = history_table(home, name, drawn_cells(comparison))
    pictures = page_bases(reading.study) if bases is None else bases
    page = render(comparison, reading.results, history, info, search=reading.study.search, bases=pictures)
    with replacing(target) as partial:
        partial.write_text(page.html, encoding="utf-8")
    _write_pictures(pictures_folder(target), page.pictures())
    return target


def _write_pictures(folder: Path, pictures: Mapping[str, bytes]) -> None:
    """These pictures and no older ones; what else lies in the folder stays."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in pictures.items():
        with replacing(folder / name) as partial:
            partial.write_bytes(content)
    for old in folder.glob("*.png"):
        if old.name not in pictures:
            old.unlink()


def page_bases(study: Study) -> list[Drawing]:
    """Pictures of the bases of a study's networks, those with the most scales first."""
    # Imported here: nothing else of a page needs torch.
    from hssl_ray.method.basis_report import basis_report
    from hssl_ray.report.basis.pictures import mosaic_drawing
    from hssl_ray.report.basis.uses import in_words, study_bases

    uses = study_bases(study)
    chosen = sorted(uses, key=lambda spec: (-len(spec.scales), spec))[:MOST_BASES]
    return [mosaic_drawing(basis_report(spec), in_words(uses[spec])) for spec in chosen]


def _digests(names: Iterable[str]) -> dict[str, str]:
    """The identity of each data set's content as it is on this machine."""
    digests = {}
    for name in names:
        try:
            digests[name] = read_manifest(name, parquet_directory(name)).digest
        except DataError:
            digests[name] = "not on this machine"
    return digests
