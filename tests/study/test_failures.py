"""What a process that died is put down to, and what of Ray's words about it is kept."""

import pytest

from hssl_ray.study.failures import lost


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ("The actor died unexpectedly before finishing this task.", "worker_lost"),
        ("1 worker(s) were killed due to the node running low on memory.", "oom"),
        ("The actor died because its node has died. Node Id: 12ab", "node_lost"),
        ("The actor died because its node was preempted.", "preempted"),
        ("", "worker_lost"),
    ],
)
def test_a_lost_process_has_a_cause(message: str, cause: str) -> None:
    assert lost(message) == f"{cause}: {message}"


def test_the_line_that_tells_is_kept_and_no_more() -> None:
    said = (
        "ray.exceptions.ActorDiedError\n  class_name: Train\n  The actor died: exit code 9.\n  see the log" + "x" * 900
    )
    assert lost(said) == "worker_lost: The actor died: exit code 9."
    assert len(lost("The worker died " + "x" * 900)) == 300


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        (
            "The worker died: could not reach http://ann:hunter2@tracking:5000",
            "The worker died: could not reach http://***@tracking:5000",
        ),
        ("killed: python train.py --token=hunter2-hunter2", "killed: python train.py --token=***"),
        ("it died with v4lue-of-a-secret on its lips", "it died with *** on its lips"),
        ("The worker died " + "x" * 260 + " token=hunter2-hunter2", "The worker died " + "x" * 260 + " token=***"),
    ],
)
def test_what_ray_quotes_of_a_lost_process_is_kept_without_its_secrets(
    message: str, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger, MLflow and the page have this line."""
    monkeypatch.setenv("TRACKING_PASSWORD", "v4lue-of-a-secret")
    assert lost(message) == f"worker_lost: {kept}"
