"""Studies as jobs of a Ray cluster that is already there.

Made by `settings.open_jobs`, which sets Ray's environment before this module is imported.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray.job_submission import JobStatus, JobSubmissionClient

from hssl_ray.study.engine import ClusterError

STUDY = "hssl.study"
STOP_SECONDS = 30  # Ray kills a job 3 s after asking it to end; a study needs more to write down what it was doing
_ENDED_BY_SIGTERM = 143


@dataclass(frozen=True)
class StudyJob:
    """What is submitted."""

    study: str
    """The study's name."""
    command: str
    """As for a shell in the working directory."""
    working_directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    """Shown to everyone who may list jobs: no secrets."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Shown on the job's page of the Ray dashboard."""


class Jobs:
    """The jobs of one cluster.

    Args:
        address: of the cluster's dashboard, such as `http://127.0.0.1:8265`.

    Raises:
        ClusterError: nothing answers there, or it refuses us.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        try:
            self._client = JobSubmissionClient(address)
        except (ConnectionError, RuntimeError) as error:
            raise ClusterError(f"--address: no Ray takes jobs at {address} ({_first_line(error)})") from error

    def running(self, study: str) -> str | None:
        """The job that runs a study now or is about to; None where there is none."""
        for job in self._client.list_jobs():
            if job.submission_id and (job.metadata or {}).get(STUDY) == study and not job.status.is_terminal():
                return str(job.submission_id)
        return None

    def submit(self, job: StudyJob) -> str:
        """Start a job.

        Returns:
            Its id, `STUDY-1` for the first of a study on this cluster, and so on.

        Raises:
            ClusterError: the cluster does not take it.
        """
        try:
            return str(
                self._client.submit_job(
                    entrypoint=job.command,
                    submission_id=self._free_id(job.study),
                    metadata={STUDY: job.study, **job.facts},
                    runtime_env={
                        "working_dir": str(job.working_directory),
                        "env_vars": {**job.environment, "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)},
                    },
                )
            )
        except RuntimeError as error:
            raise ClusterError(f"--address: {self.address} does not take the job ({_first_line(error)})") from error

    def follow(self, job_id: str, write: Callable[[str], Any]) -> int:
        """Pass on what a job prints, from its start to its end.

        Returns:
            The exit code of its command: of `hssl-ray run`.
        """

        async def read() -> None:
            lines: AsyncIterator[str] = self._client.tail_job_logs(job_id)
            async for text in lines:
                write(text)

        asyncio.run(read())
        job = self._client.get_job_info(job_id)
        if job.driver_exit_code is not None and job.driver_exit_code >= 0:
            return int(job.driver_exit_code)
        if job.status == JobStatus.STOPPED:
            return _ENDED_BY_SIGTERM
        raise ClusterError(f"job {job_id}: {_first_line(job.message or job.status)}")

    def _free_id(self, study: str) -> str:
        taken = {job.submission_id for job in self._client.list_jobs()}
        return next(name for number in itertools.count(1) if (name := f"{study}-{number}") not in taken)


def _first_line(error: object) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
