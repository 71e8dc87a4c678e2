"""Whether a failed attempt is tried again, and how soon: pure policy."""

from __future__ import annotations

from hssl_ray.study.file.sections import Resilience
from hssl_ray.study.ledger import Outcome

LOST: frozenset[str] = frozenset({"worker_lost", "node_lost", "preempted", "hung", "damaged_checkpoint"})
"""Causes that are no shortage: a first retry need not wait for anything to pass."""
NO_RETRIES = Resilience(max_retries=0)


def seconds_to_retry(policy: Resilience, outcome: Outcome, retried: int) -> float | None:
    """How long to wait before another attempt at the same trial; None if there is to be none.

    Args:
        outcome: of the attempt that has just ended.
        retried: retries of the trial in this run of the study, before this one.
    """
    if outcome.state != "failed" or outcome.cause not in policy.retry_on or retried >= policy.max_retries:
        return None
    waits = retried - (outcome.cause in LOST)  # waits before this one
    if waits < 0:
        return 0.0
    return min(policy.backoff.longest_seconds, policy.backoff.first_seconds * 2.0**waits)
