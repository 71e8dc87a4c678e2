"""The paper's tables from the tracking store, in the format asked for, to the terminal or to a file."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hssl_ray.cli.programs import program
from hssl_ray.data.files import replacing
from hssl_ray.report import paper_data, paper_wording
from hssl_ray.report.latex import latex
from hssl_ray.report.paper_page import render_table
from hssl_ray.report.paper_tables import TableName, paper_table
from hssl_ray.report.readings import TableError
from hssl_ray.report.selection import Query
from hssl_ray.report.where import read_where
from hssl_ray.study.tracked import redact, tracking_uri
from hssl_ray.study.tracking import StoredTrials, read_store

SUFFIXES = {".md": "md", ".csv": "csv", ".tex": "latex", ".html": "html", ".json": "json"}
PICTURES = {".png": "png", ".svg": "svg"}


@dataclass(frozen=True)
class Asked:
    """The command's words: what to make, of which trials, by which metric."""

    target: str
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
    wanted = form or _by_suffix(asked.target, output)
    uri = tracking_uri(home)
    stored = read_store(uri, home)
    content = _made(asked, query, wanted, stored, _source(uri, stored))
    if output is None:
        return content
    with replacing(output) as partial:
        partial.write_text(content, encoding="utf-8")
    return str(output)


def _made(asked: Asked, query: Query, form: str, stored: StoredTrials, source: str) -> str:
    table = paper_table(_table_name(asked.target), stored.table, query)
    match form:
        case "csv":
            return paper_data.to_csv(table)
        case "json":
            return paper_data.to_json(table)
        case "latex":
            return latex(paper_wording.tables(table), paper_wording.footnotes(table), paper_wording.notes(table))
        case "html":
            return render_table(table, source, {"make it again": asked.command()})
        case _:
            return paper_wording.markdown(table)


def _table_name(target: str) -> TableName:
    return "table2" if target == "table2" else "table1"


def _by_suffix(target: str, output: Path | None) -> str:
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
    said = f"{trials} trials of {studies} studies in {redact(uri)}, read {when}."
    if stored.unreadable:
        said += f" {len(stored.unreadable)} runs are not read, since their params are no trial of this version."
    return said
