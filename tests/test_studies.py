"""Every shipped study parses, plans, and opens with its question, cost and expected result."""

from pathlib import Path

import pytest

from hssl_ray.cli.readers import leading_comment
from hssl_ray.study.spec import load_study

STUDIES = sorted((Path(__file__).parents[1] / "studies").rglob("*.yaml"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_shipped_study_is_valid_and_says_what_it_is(path: Path) -> None:
    study = load_study(path)
    header = leading_comment(path)
    assert study.study == path.stem
    assert header.splitlines()[0].endswith("?")
    assert f"{study.trial_count} trials" in header and "minutes" in header and "Expect" in header
