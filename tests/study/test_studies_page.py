"""docs/studies.md says what is so: its studies load, its mistakes are the loader's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hssl_ray.study.file.problems import StudyError
from hssl_ray.study.file.rules import FREE_TRIALS, MOST_TRIALS
from hssl_ray.study.file.yaml_source import MAX_BYTES, MAX_DEPTH, MAX_NODES
from hssl_ray.study.spec import load_study

PAGE = (Path(__file__).parents[2] / "docs/studies.md").read_text()
FILES = dict(re.findall(r"^```yaml\n(?=# (\S+\.yaml)\n)(.*?)^```", PAGE, re.M | re.S))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(text)


def test_all_examples_are_found() -> None:
    assert len(FILES) == PAGE.count("```yaml") == 7


@pytest.mark.parametrize(
    ("name", "trials"),
    {
        "rotations.yaml": 9,
        "base_sizes.yaml": 48,
        "tuned.yaml": 60,
        "bounded.yaml": 60,
        "raced.yaml": 27,
        "distances.yaml": 27,
    }.items(),
)
@pytest.mark.usefixtures("here")
def test_an_example_is_a_study_of_the_size_it_states(name: str, trials: int) -> None:
    assert load_study(name).trial_count == trials
    stated = re.findall(r"(\d+) trials", FILES[name])
    assert stated in ([], [str(trials)])


@pytest.mark.usefixtures("here")
def test_the_broken_example_is_broken_as_shown() -> None:
    (shown,) = re.findall(r"^```text\n(broken\.yaml:.*?)\n```", PAGE, re.M | re.S)
    with pytest.raises(StudyError) as raised:
        load_study("broken.yaml")
    assert str(raised.value) == shown


@pytest.mark.usefixtures("here")
def test_the_override_example_is_broken_as_shown() -> None:
    with pytest.raises(StudyError) as raised:
        load_study("rotations.yaml", ["base.epochs=x"])
    assert f"`{raised.value}`" in PAGE


def test_the_limits_are_those_of_the_code() -> None:
    words = " ".join(PAGE.split())
    assert f"at most {MAX_BYTES // 2**20} MiB, {MAX_DEPTH} levels and {MAX_NODES:,} values" in words
    assert f"at most {FREE_TRIALS:,} trials, or {MOST_TRIALS:,} with `--yes`" in words
