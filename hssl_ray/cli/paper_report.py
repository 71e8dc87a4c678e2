"""The paper's tables and figure from the tracking store, in the format asked for, to the terminal or to a file."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from hssl_ray.cli.programs import program
from hssl_ray.cli.report import Target
from hssl_ray.data.files import replacing
from hssl_ray.machine.adoption import STORE, use_services
from hssl_ray.report.paper.figure3 import figure3
from hssl_ray.report.paper.figure3_drawing import figure_png, figure_svg
from hssl_ray.report.paper.readings import TableError
from hssl_ray.report.paper.selection import Query
from hssl_ray.report.paper.sheet import Sheet, figure_sheet, table_sheet
from hssl_ray.report.paper.tables import paper_table
from hssl_ray.report.paper.where import read_where
from hssl_ray.study.redaction import redact
from hssl_ray.study.tracker.tracked import tracking_uri
from hssl_ray.study.tracking import StoredTrials, read_store

SUFFIXES = {".md": "md", ".csv": "csv", ".tex": "latex", ".html": "html", ".json": "json"}
PICTURES = {".png": "png", ".svg": "svg"}


@dataclass(frozen=True)
class Asked:
    """The command's words: what to make, of which trials, by which metric."""

    target: Target
    studies: tuple[str, ...]
    where: tuple[str, ...]
    metric: str
    margin: float
    confidence: float

    def query(self) -> Query:
        """The same as a question to the store.

        Raises:
            StudyError: a `--where` breaks a field's rule.
            TableError: margin or confidence out of bounds.
        """
        if not self.margin > 0:
            raise TableError(f"--margin: must be above 0, got {self.margin}")
        if not 0.5 < self.confidence < 1:
            raise TableError(f"--confidence: must be above 0.5 and below 1, got {self.confidence}")
        return Query(self.metric, self.margin, self.confidence, self.studies, read_where(self.where))

    def command(self) -> str:
        """What to type to make it again."""
        words = ["report", self.target, "--metric", self.metric, "--margin", str(self.margin)]
        words += ["--confidence", str(self.confidence)]
        words += [word for name in self.studies for word in ("--study", name)]
        words += [word for text in self.where for word in ("--where", text)]
        return f"{program('hssl-ray')} {shlex.join(words)}"


def write_paper(asked: Asked, home: Path, output: Path | None, form: str | None) -> str:
    """Make what is asked for and return what to print: itself, or the path of the file that holds it.

    Raises:
        StudyError, TableError: what is asked for is no question to this store, or has several answers.
        StoreUnavailable: MLflow does not answer.
    """
    query = asked.query()
    form = form or _by_suffix(asked.target, output)
    use_services(os.environ, home, STORE)
    uri = tracking_uri(home)
    stored = read_store(uri, home)
    if form in PICTURES.values():
        figure = figure3(stored.table, query)
        content = figure_png(figure) if form == "png" else figure_svg(figure).encode()
    else:
        content = _written(_sheet(asked, query, stored), form, asked, _source(uri, stored)).encode()
    if output is None:
        return content.decode()
    with replacing(output) as partial:
        partial.write_bytes(content)
    return str(output)


def _sheet(asked: Asked, query: Query, stored: StoredTrials) -> Sheet:
    if asked.target == "figure3":
        sheet = figure_sheet(figure3(stored.table, query))
    else:
        sheet = table_sheet(paper_table(asked.target, stored.table, query))
    return replace(sheet, notes=[*sheet.notes, *_unread(stored)])


def _unread(stored: StoredTrials) -> list[str]:
    match len(stored.unreadable):
        case 0:
            return []
        case 1:
            return ["1 run of the store is not read: its params are no trial of this version"]
        case several:
            return [f"{several} runs of the store are not read: their params are no trials of this version"]


def _written(sheet: Sheet, form: str, asked: Asked, source: str) -> str:
    match form:
        case "csv":
            return sheet.to_csv()
        case "json":
            return sheet.to_json()
        case "latex":
            return sheet.latex()
        case "html":
            return sheet.html(source, {"make it again": asked.command()})
        case _:
            return sheet.markdown()


def _by_suffix(target: Target, output: Path | None) -> str:
    if output is None:
        return "md"
    known = SUFFIXES | (PICTURES if target == "figure3" else {})
    if output.suffix not in known:
        raise TableError(f"--output {output}: must end in {', '.join(known)}, or come with --format")
    return known[output.suffix]


def _source(uri: str, stored: StoredTrials) -> str:
    trials = len(set(stored.table["trial_id"].to_pylist()))
    studies = len(set(stored.table["study"].to_pylist()))
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"{trials} trials of {studies} studies in {redact(uri)}, read {when}."
