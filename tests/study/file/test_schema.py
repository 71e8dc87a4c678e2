"""The schema for editors and the table of keys are current, and agree with the loader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from hssl_ray.study.file.schema import study_keys, study_schema
from hssl_ray.study.file.sections import FIELDS
from hssl_ray.study.spec import Study

ROOT = Path(__file__).parents[3]
GOOD: dict[str, Any] = {
    "study": "s",
    "base": {"epochs": 5, "warmup_epochs": 0, "max_distance": None},
    "grid": {"method": ["a_ssl", "h_ssl"], "width": [1, 0.5]},
    "seeds": [1, 2],
    "search": {"trials": 2, "space": {"temperature": {"low": 0.1, "high": 1, "log": True}, "base_size": [1, 2]}},
    "early_stop": {"grace_epochs": 2},
    "resources": {"workers": 2},
    "compare": {"margin": 0.01, "metric": "probe/top1"},
    "checkpoints": {"keep": 3},
    "resilience": {"max_retries": 0},
}


def test_the_committed_schema_is_current() -> None:
    """After a change of the models: `hssl-ray schema > studies/schema.json`."""
    assert json.loads((ROOT / "studies/schema.json").read_text()) == study_schema()


def test_the_committed_keys_are_current() -> None:
    """After a change of the models: `hssl-ray schema --markdown > docs/study-keys.md`."""
    assert (ROOT / "docs/study-keys.md").read_text() == study_keys()


def test_every_field_and_section_is_in_the_table() -> None:
    rows = {line.split("`")[1] for line in study_keys().splitlines() if line.startswith("| `")}
    assert rows >= {*FIELDS, *Study.model_fields, "extends", "margin", "sampler", "workers", "keep", "max_retries"}
    assert all(len(line.replace(r"\|", "").split("|")) == 6 for line in study_keys().splitlines() if line[:1] == "|")


def test_the_schema_is_a_schema_and_takes_a_good_study() -> None:
    Draft202012Validator.check_schema(study_schema())
    validator = Draft202012Validator(study_schema())
    assert list(validator.iter_errors(GOOD)) == []
    assert list(validator.iter_errors({"extends": "other.yaml"})) == []
    assert Study.model_validate(GOOD).cell_count == 4


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("study", "../x"),
        ("base", {"temprature": 1}),
        ("base", {"epochs": "five"}),
        ("base", {"seed": 1}),
        ("grid", {"method": []}),
        ("grid", {"method": ["hssl"]}),
        ("seeds", 0),
        ("seeds", [-1]),
        ("search", {"trials": 2}),
        ("search", {"trials": 2, "space": {"method": ["a_ssl"]}}),
        ("compare", {"margin": 0}),
        ("compare", {"metric": "probe/top"}),
        ("checkpoints", {"keep": 1}),
        ("grids", {}),
        ("extends", "code.py"),
    ],
)
def test_an_editor_marks_what_the_loader_refuses(section: str, value: Any) -> None:
    assert list(Draft202012Validator(study_schema()).iter_errors({**GOOD, section: value}))


VALUES = (
    st.none() | st.booleans() | st.integers(-2, 300) | st.floats(allow_nan=False) | st.sampled_from(["rotation", "x"])
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=3))
def test_what_the_loader_takes_the_schema_takes(base: dict[str, Any]) -> None:
    """The other way round is not so: rules between fields are the loader's alone."""
    try:
        Study.model_validate({"study": "s", "base": base})
    except ValueError:
        return
    assert list(Draft202012Validator(study_schema()).iter_errors({"study": "s", "base": base})) == []
