"""Where a study is started from."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from hssl_ray.cli.programs import again
from hssl_ray.cli.readers import leading_comment
from hssl_ray.study.tracker.tracked import Provenance

GIT_COMMIT = "hssl.git_commit"
"""Among a job's facts."""


def provenance(path: Path, overrides: Sequence[str]) -> Provenance:
    """Where a study is started from, for the tracking store."""
    return Provenance(
        question=leading_comment(path),
        commands={"resume": again("run", path, overrides), "compare": again("compare", path, overrides)},
        git_commit=git_commit(),
        submission_id=_job().get("job_submission_id", ""),
    )


def git_commit() -> str:
    """The commit of the checkout this package runs from, or that a job's package was made in; else empty."""
    if commit := _job().get(GIT_COMMIT):
        return commit
    found = subprocess.run(  # noqa: S603
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() if found.returncode == 0 else ""


def _job() -> dict[str, str]:
    """What is known of the Ray job this process is the entry point of; empty outside of one."""
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")
    return {name: str(value) for name, value in job.get("metadata", {}).items()}
