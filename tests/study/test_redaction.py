"""Secrets are taken out of texts, and nothing else is."""

import pytest

from hssl_ray.study.redaction import redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://ann:s3cret@host:5000/x", "http://***@host:5000/x"),
        ("API request to https://ann:p@ss@host/api failed", "API request to https://***@host/api failed"),
        (
            "postgresql://ann:s3cret@db/mlflow?password=s3cret&sslmode=on",
            "postgresql://***@db/mlflow?password=***&sslmode=on",
        ),
        ("MLFLOW_TRACKING_PASSWORD=correct-horse", "MLFLOW_TRACKING_PASSWORD=***"),
        ("api_key: 'sk-0123456789'", "api_key: '***'"),
        ("Authorization: Bearer abc.def-123456", "Authorization: Bearer ***"),
        ("key AKIAIOSFODNN7EXAMPLE is refused", "key *** is refused"),
        ("an environment's v4lue-of-a-secret", "an environment's ***"),
        ("and its v4lue-of-a-secret-with-more", "and its ***"),
    ],
)
def test_a_secret_is_hidden(text: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_TOKEN", "v4lue-of-a-secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "v4lue-of-a-secret-with-more")
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:////home/ann/mlflow.db",
        "http://host:5000 or ann@host",
        "mlflow server --host 127.0.0.1",
        "the commit 68d2a9f0c1e5b7a3d4f6e8a0b2c4d6e8f0a1b3c5",
        "How many tokens has a token? One forward pass: 0.25 s, key = value",
    ],
)
def test_what_is_no_secret_stays(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "mlflow")  # too short to be told from a word
    monkeypatch.setenv("KEYBOARD", "commit 68d2a9f0")
    assert redact(text) == text
