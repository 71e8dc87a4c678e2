"""Where the files of studies and trials lie under the home."""

from __future__ import annotations

from pathlib import Path


def study_folder(home: Path, study: str) -> Path:
    """The ledger, the lock and the report of a study."""
    return home / "studies" / study


def trial_folder(home: Path, trial_id: str) -> Path:
    """The config, journal, checkpoints and outcome of a trial, shared by all studies that plan it."""
    return home / "trials" / trial_id
