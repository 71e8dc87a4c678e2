"""What the commands that only read have in common: a study file joined with what its trials have found so far."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from hssl_ray.study.ledger import read_history
from hssl_ray.study.redaction import redact
from hssl_ray.study.results import table_of
from hssl_ray.study.spec import Study, load_study

EDITOR = "# yaml-language-server:"  # a line for editors, not for people
LIST_ITEMS = ("- ", "* ")


@dataclass(frozen=True)
class Reading:
    """A study and one row per trial that its file plans now; `stale` trials of an earlier file are left out."""

    study: Study
    results: pa.Table
    stale: int
    stopped: str | None = None
    """What of its budget is used up, if that ended its last run."""

    def notes(self) -> list[str]:
        """What a reader of the results must know about how they were read."""
        notes = [f"{self.stale} trials of an earlier version of the study file are left out"] if self.stale else []
        return notes + ([f"stopped by {self.stopped}"] if self.stopped else [])


def read_study(
    path: Path,
    overrides: Sequence[str],
    home: Path,
    metrics: Callable[[Study], Collection[str]] | None = None,
) -> Reading:
    """The study file and its results; trials that were never started have the state `planned`.

    Args:
        metrics: the only metrics that are wanted of a study; None for all.

    Raises:
        StudyError: the file is missing or broken.
    """
    study = load_study(path, overrides, large=True)  # reading costs nothing, whatever the number of trials
    history = read_history(home, study.study, None if metrics is None else metrics(study))
    found = table_of(history, home, study.study)
    if history.digest == study.digest and study.search is None:
        # The ledger's plan is the file's; it need not be made again.
        return Reading(study, found, stale=0, stopped=history.notes.get("stopped"))
    return replace(join(study, found), stopped=history.notes.get("stopped"))


def compared_metrics(study: Study) -> set[str]:
    """What a comparison reads."""
    return {study.compare.metric} | ({study.search.metric} if study.search else set())


def join(study: Study, found: pa.Table) -> Reading:
    """The ledger's rows that the file still plans, and the file's trials that the ledger does not know.

    A search decides its trials as it goes, so that all of its rows are the study's.
    """
    planned = {trial.trial_id: trial for trial in study.planned()}
    possible = {trial.trial_id for trial in study.raced()} | planned.keys()
    known = set(found["trial_id"].to_pylist())
    kept = found
    if study.search is None:
        # Imported here: a finished study needs none of it.
        import pyarrow.compute as pc

        kept = found.filter(pc.is_in(found["trial_id"], pa.array(list(possible), pa.string())))
    missing = [
        trial.config.model_dump(mode="json")
        | {"trial_id": trial_id, "name": trial.name, "study": study.study, "cell": trial.cell}
        | {"state": "planned", "attempt": 0}
        for trial_id, trial in planned.items()
        if trial_id not in known
    ]
    added = pa.Table.from_pylist(
        [{name: row.get(name) for name in found.column_names} for row in missing], found.schema
    )
    return Reading(study, pa.concat_tables([kept, added]), stale=found.num_rows - kept.num_rows)


def leading_comment(path: Path) -> str:
    """The comment that a study file opens with: its question, its cost, what it reproduces. Empty if there is none.

    Lines of a paragraph are joined, because where it is shown has a width of its own; items of a list are not.
    """
    paragraphs: list[str] = [""]
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if line.startswith(EDITOR):
            continue
        text = line.lstrip("#").strip()
        if not text:
            paragraphs.append("")
        elif paragraphs[-1] and not text.startswith(LIST_ITEMS):
            paragraphs[-1] += f" {text}"
        else:
            paragraphs[-1] += f"\n{text}" if paragraphs[-1] else text
    return redact("\n\n".join(filter(None, paragraphs)))
