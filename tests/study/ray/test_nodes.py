"""What a node says of a home: `tests/faults/test_nodes.py` has it on two nodes."""

from pathlib import Path

import pytest

from hssl_ray.study.file.sections import Resources
from hssl_ray.study.ray import nodes
from hssl_ray.study.ray.nodes import _look
from hssl_ray.study.ray.placement import HEAD, holds_a_part


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "LOOK_SECONDS", 0.0)


def test_a_node_that_reads_the_marker_answers_beside_it(tmp_path: Path) -> None:
    (tmp_path / "seen").write_text("token")
    assert _look(str(tmp_path / "seen"), "token", str(tmp_path / "seen-node")) == ""
    assert (tmp_path / "seen-node").read_text() == "seen-node"


@pytest.mark.parametrize(("content", "reason"), [(None, "No such file or directory"), ("older", "other content")])
def test_a_folder_of_its_own_is_told_from_the_shared_one(tmp_path: Path, content: str | None, reason: str) -> None:
    """Also where it is an older copy of it."""
    if content is not None:
        (tmp_path / "seen").write_text(content)
    assert _look(str(tmp_path / "seen"), "token", str(tmp_path / "answer")) == f"another folder (seen: {reason})"
    assert not (tmp_path / "answer").exists()


def test_a_home_that_a_node_may_only_read_is_no_home(tmp_path: Path) -> None:
    (tmp_path / "seen").write_text("token")
    (tmp_path / "answer").mkdir()  # root may write anywhere else
    assert _look(str(tmp_path / "seen"), "token", str(tmp_path / "answer")) == "cannot be written to (Is a directory)"


@pytest.mark.parametrize(
    ("node", "asked", "holds"),
    [
        ({"CPU": 2.0}, {}, True),
        ({"CPU": 0.0}, {}, False),
        ({"CPU": 2.0}, {"gpus_per_worker": 1}, False),
        ({"CPU": 1.0}, {"workers": 2}, True),  # one of the two
        ({HEAD: 1.0}, {}, False),
        ({HEAD: 1.0}, {"workers": 2}, True),  # it watches over the trial
    ],
)
def test_only_nodes_that_may_run_a_part_of_a_trial_are_asked(
    node: dict[str, float], asked: dict[str, float], holds: bool
) -> None:
    assert holds_a_part(node, Resources.model_validate(asked)) is holds
