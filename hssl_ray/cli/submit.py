"""`hssl-ray submit STUDY`: run a study as a job of a Ray cluster that is already there."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from hssl_ray.cli.compare import SET, STUDY
from hssl_ray.cli.run import YES

USUAL = "http://127.0.0.1:8265"
ADDRESS = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="The cluster's dashboard, which takes its jobs; absent means $RAY_API_SERVER_ADDRESS, else that of `up`, "
        f"else {USUAL}.",
    ),
]
HOME = Annotated[
    str | None,
    typer.Option(
        "--home",
        metavar="DIR",
        help="Home on the cluster, seen by all its nodes; absent means $HSSL_HOME, or on this machine your own.",
    ),
]
NO_WAIT = Annotated[bool, typer.Option("--no-wait", help="Return once the job is taken, instead of following it.")]
_PASSED_ON = ("HSSL_HOME", "HSSL_MIRROR", "MLFLOW_TRACKING_URI", "HSSL_NATIVE")


def submit(
    study: STUDY,
    overrides: SET = None,
    address: ADDRESS = None,
    cluster_home: HOME = None,
    no_wait: NO_WAIT = False,
    yes: YES = False,
) -> None:
    """Send a study and this very code to a cluster, and follow it; where it already runs there, follow that job.

    Ctrl-C stops following and leaves the job alone. Data sets are not sent: the cluster's home has them, or the job
    ends with exit code 3 and says how to prepare them.

    Exit codes: those of `run`; 2 also where no cluster takes the job.
    """
    # Imported here, so that other commands start without Ray.
    from hssl_ray.cli.printed import console
    from hssl_ray.cli.programs import program
    from hssl_ray.data.home import home
    from hssl_ray.machine.adoption import use_services
    from hssl_ray.study.ray.job_package import pack
    from hssl_ray.study.ray.settings import open_jobs
    from hssl_ray.study.spec import load_study

    loaded = load_study(study, overrides or (), large=yes)
    use_services(os.environ, home(), dashboard=address)
    address = address or os.environ.get("RAY_API_SERVER_ADDRESS") or USUAL
    environment = _environment(address, cluster_home)
    to = console()
    jobs = open_jobs(address)
    job_id = jobs.running(loaded.study)
    if job_id is None:
        from hssl_ray.study.ray.jobs import StudyJob

        with tempfile.TemporaryDirectory(prefix="hssl-job-") as folder:
            file = pack(study, Path(folder))
            command = _command(address, file, overrides or (), yes)
            job = StudyJob(loaded.study, command, Path(folder), environment, _facts(study, environment))
            job_id = jobs.submit(job)
        to.print(f"Submitted as job {job_id}: {address}/#/jobs/{job_id}", soft_wrap=True)
    else:
        to.print(f"Job {job_id} runs this study already: {address}/#/jobs/{job_id}", soft_wrap=True)
    ray = f"{_authentication()} {program('ray')} job"
    to.print(f"Follow it: {ray} logs --address {address} --follow {job_id}", soft_wrap=True)
    to.print(f"Stop it: {ray} stop --address {address} {job_id}", soft_wrap=True)
    if no_wait:
        return
    try:
        code = jobs.follow(job_id, sys.stdout.write)
    except KeyboardInterrupt:
        to.print(f"\nJob {job_id} goes on.")
        code = 130
    raise typer.Exit(code)


def _command(address: str, study: str, overrides: Sequence[str], yes: bool) -> str:
    """The job's command line; on this machine with this very Python, elsewhere with the cluster's."""
    python = sys.executable if _is_here(address) else "python"
    changes = [part for item in overrides for part in ("--set", item)]
    return shlex.join([python, "-m", "hssl_ray", "run", study, *changes, *(["--yes"] if yes else [])])


def _environment(address: str, cluster_home: str | None) -> dict[str, str]:
    """What of this process's environment the job gets.

    Raises:
        ClusterError: part of it is secret; Ray shows a job's environment to everyone who may list jobs.
    """
    from hssl_ray.data.home import home
    from hssl_ray.study.engine import ClusterError

    passed = {name: os.environ[name] for name in _PASSED_ON if os.environ.get(name)}
    if cluster_home is not None:
        passed["HSSL_HOME"] = cluster_home
    elif _is_here(address):
        passed["HSSL_HOME"] = str(home())
    for name, value in passed.items():
        if "@" in urlsplit(value).netloc:
            raise ClusterError(
                f"{name}: must hold no user and no password, since Ray shows a job's environment to all who may list "
                "jobs; give them to the processes of the cluster, as MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD or in the variables of its object store"
            )
    return passed


def _facts(study: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """What the job's page shows."""
    from hssl_ray.cli.provenance import GIT_COMMIT, git_commit
    from hssl_ray.cli.readers import leading_comment

    question = leading_comment(study).strip().partition("\n")[0]
    facts = {
        "hssl.question": question,
        "hssl.mlflow": environment.get("MLFLOW_TRACKING_URI", ""),
        GIT_COMMIT: git_commit(),
    }
    return {name: value for name, value in facts.items() if value}


def _authentication() -> str:
    """How Ray's own commands get in, without the token itself."""
    names = [name for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH") if os.environ.get(name)]
    return " ".join(f"{name}={shlex.quote(os.environ[name])}" for name in names)


def _is_here(address: str) -> bool:
    return urlsplit(address).hostname in {"127.0.0.1", "localhost", "::1"}
