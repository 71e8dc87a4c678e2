"""Do Ray, MLflow and what the environment says about them answer?"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path

from hssl_ray.machine.findings import Finding, problem, warning, well
from hssl_ray.machine.ports import is_free
from hssl_ray.machine.record import read
from hssl_ray.machine.services import answers, takes_jobs
from hssl_ray.study.engine import ClusterError
from hssl_ray.study.file.problems import StoreUnavailable
from hssl_ray.study.ray.settings import check_address
from hssl_ray.study.redaction import HIDDEN, is_secret, redact
from hssl_ray.study.tracker.store_schema import sqlite_file
from hssl_ray.study.tracker.tracked import is_server

USUAL_PORTS = {6379: "Ray", 8265: "Ray's dashboard", 5000: "MLflow", 9090: "Prometheus"}
KNOWN = ("HSSL_HOME", "HSSL_MIRROR", "HSSL_NATIVE", "HSSL_SERVICE_MARK")
SHOWN = ("HSSL_", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_", "MLFLOW_TRACKING_")


def connections(home: Path, environment: Mapping[str, str], uri: str) -> Iterator[Finding]:
    """Services of `up`, ports, Ray, MLflow, variables.

    Args:
        home: see `hssl_ray.data.home`.
        environment: with what leads to the services of `up`.
        uri: MLflow's.
    """
    ours = {int(one.url.rpartition(":")[2]) for one in read(home)}
    yield from services(home)
    taken = [f"{port} ({of})" for port, of in USUAL_PORTS.items() if port not in ours and not is_free(port)]
    yield well(
        "ports", f"in use: {', '.join(taken)}; `up` takes others" if taken else "the usual ones are free or ours"
    )
    yield ray(environment)
    yield mlflow(home, uri)
    yield from variables(environment)


def services(home: Path) -> Iterator[Finding]:
    """What `up` started."""
    for one in read(home):
        if one.runs:
            yield well(one.name, f"started by `up`, {one.url}")
        else:
            yield problem(one.name, f"started by `up`, and has ended; its log: {one.log}", "hssl-ray up")


def ray(environment: Mapping[str, str]) -> Finding:
    """Whether the cluster that studies would use answers, and lets us in."""
    address, dashboard = environment.get("RAY_ADDRESS"), environment.get("RAY_API_SERVER_ADDRESS")
    if environment.get("RAY_AUTH_MODE", "token") != "token":
        mend = "set RAY_AUTH_MODE=token for the cluster and for yourself: who reaches it runs code as its user"
        return warning(
            "Ray's address", f"RAY_AUTH_MODE={environment['RAY_AUTH_MODE']}: it asks nobody for a token", mend
        )
    if not address and not dashboard:
        return well("Ray's address", "none; a study starts a Ray of its own")
    mend = "hssl-ray up, or unset it"
    try:
        if address:
            check_address(address)
    except ClusterError as error:
        return problem("Ray's address", str(error), mend)
    if dashboard:
        token = environment.get("RAY_AUTH_TOKEN") or _read(environment.get("RAY_AUTH_TOKEN_PATH"))
        if not takes_jobs(dashboard, token):
            return problem(
                "Ray's address", f"RAY_API_SERVER_ADDRESS: no Ray takes our jobs at {redact(dashboard)}", mend
            )
    return well("Ray's address", redact(address or dashboard or ""))


def mlflow(home: Path, uri: str) -> Finding:
    """Whether the tracking store answers, and whether its schema is the installed MLflow's."""
    from hssl_ray.study.tracker.mlflow_store import schema  # MLflow takes two seconds to import

    shown, mend = (
        redact(uri),
        "start it, or unset MLFLOW_TRACKING_URI; a study runs without it and `sync` sends the rest",
    )
    if is_server(uri):
        if answers(f"{uri.rstrip('/')}/health"):
            return well("MLflow's store", f"{shown} answers")
        return problem("MLflow's store", f"no MLflow answers at {shown}", mend)
    file = sqlite_file(uri)
    if file is not None and not file.exists():
        return well("MLflow's store", f"{shown}, which the first run makes")
    try:
        here, wanted = schema(uri)
    except StoreUnavailable as error:
        return problem("MLflow's store", str(error), mend)
    if here == wanted:
        return well("MLflow's store", f"{shown}, schema {here}")
    if file is not None:
        return warning("MLflow's store", f"{shown}, schema {here}", f"the next run copies it, then makes it {wanted}")
    return problem("MLflow's store", f"{shown}: schema {here}, must be {wanted}", "back it up, then mlflow db upgrade")


def variables(environment: Mapping[str, str]) -> Iterator[Finding]:
    """What is set, without secrets; a name that nothing reads is probably a slip."""
    names = sorted(name for name in environment if name.startswith(SHOWN) and name != KNOWN[-1])
    shown = [f"{name}={HIDDEN if is_secret(name) else redact(environment[name])}" for name in names]
    yield well("variables", ", ".join(shown) or "none set")
    for name in names:
        if name.startswith("HSSL_") and name not in KNOWN:
            near = difflib.get_close_matches(name, KNOWN[:-1], 1)
            yield warning(
                "variables", f"{name}: nothing reads it", f"unset it, or set {near[0]}" if near else "unset it"
            )


def _read(path: str | None) -> str:
    try:
        return Path(path).read_text() if path else ""
    except OSError:
        return ""
