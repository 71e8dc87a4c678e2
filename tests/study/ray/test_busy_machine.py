"""A machine too busy for Ray to start on is told in one sentence, and nothing else is."""

import pytest
import ray

from hssl_ray.study.engine import ClusterError
from hssl_ray.study.ray_engine import _connect

RAY_2_60 = "The current node timed out during startup. This could happen because some of the raylet failed to startup"


@pytest.mark.parametrize(("raised", "expected"), [(RAY_2_60, ClusterError), ("something else", RuntimeError)])
def test_a_head_that_does_not_start_in_time(
    raised: str, expected: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**arguments: object) -> None:
        raise RuntimeError(raised)

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(expected) as caught:
        _connect(address="local")
    assert (caught.type is ClusterError) == ("--engine inline" in str(caught.value))


def test_ray_still_says_so() -> None:
    """Ray has no type for it, so that its words are all there is to go by."""
    from ray._private import node

    assert node.__file__ is not None
    with open(node.__file__, encoding="utf-8") as source:
        assert "timed out during startup" in source.read()
