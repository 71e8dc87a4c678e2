"""A study's expansion to cells and trials, its identity, and what it may be told by hand."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from hssl_ray.study.file.problems import StudyError
from hssl_ray.study.spec import Study, load_study
from hssl_ray.trial.config import METHODS, TrialConfig

BASE: dict[str, Any] = {"epochs": 5, "warmup_epochs": 1, "batch_size": 256}


def study(**sections: Any) -> Study:
    return Study(**{"study": "s", "base": BASE, **sections})


def test_trials_are_the_product_of_cells_and_seeds() -> None:
    found = list(study(grid={"method": ["a_ssl", "h_ssl"], "group": ["rotation", "scale"]}, seeds=[3, 5]).planned())
    assert [trial.name for trial in found] == [
        f"{method}-{group}-s{seed}"
        for method, group, seed in itertools.product(("a_ssl", "h_ssl"), ("rotation", "scale"), (3, 5))
    ]
    for trial in found:
        method, group = trial.cell.split("-")
        assert trial.config == TrialConfig(**{**BASE, "method": method, "group": group, "seed": trial.config.seed})
        assert trial.trial_id == trial.config.trial_id
    assert len({trial.trial_id for trial in found}) == 8


def test_cells_name_what_sets_them_apart() -> None:
    grid = {"base_size": [1, 2], "max_distance": [None, 0.5]}
    assert [cell.name for cell in study(grid=grid).cells()] == [
        "h_ssl-rotation-base_size=1-max_distance=none",
        "h_ssl-rotation-base_size=1-max_distance=0.5",
        "h_ssl-rotation-base_size=2-max_distance=none",
        "h_ssl-rotation-base_size=2-max_distance=0.5",
    ]


def test_the_grid_is_run_in_every_case() -> None:
    """Cases are alternatives with values of their own: a union of grids, which one grid cannot say."""
    whole = study(
        cases=[{"group": "scale", "base_size": [1, 5]}, {"group": "rotation", "max_distance": 1.0}],
        grid={"method": ["a_ssl", "h_ssl"]},
        seeds=2,
    )
    assert [cell.name for cell in whole.cells()] == [
        "a_ssl-scale-base_size=1",
        "h_ssl-scale-base_size=1",
        "a_ssl-scale-base_size=5",
        "h_ssl-scale-base_size=5",
        "a_ssl-rotation-max_distance=1.0",
        "h_ssl-rotation-max_distance=1.0",
    ]
    assert whole.cell_count == 6
    assert whole.trial_count == len(list(whole.planned())) == 12
    assert "base_size" not in whole.cells()[-1].settings
    assert Study.model_validate(whole.model_dump(mode="json")).digest == whole.digest


def test_one_case_is_a_grid_of_its_values() -> None:
    """... and a file without cases keeps the digest it had before there were any."""
    case = study(cases=[{"base_size": [1, 2]}])
    grid = study(grid={"base_size": [1, 2]})
    assert [t.trial_id for t in case.planned()] == [t.trial_id for t in grid.planned()]
    assert study().digest == "ca663e3d3186f3cf11e522bd8c9e028ddeab716a1ad57cfdfc8a6de0f3619f76"


def test_a_study_without_a_grid_is_one_cell() -> None:
    (cell,) = study().cells()
    assert cell.name == "h_ssl-rotation"
    assert cell.settings == BASE


def test_seeds_as_a_number_are_the_first_ones() -> None:
    assert [t.config.seed for t in study(seeds=3).planned()] == [0, 1, 2]
    assert study(seeds=3).digest == study(seeds=[0, 1, 2]).digest
    assert study(seeds=3).digest != study(seeds=[0, 2, 1]).digest


def test_the_digest_is_of_what_matters() -> None:
    """Resources change no result; everything else is part of it."""
    plain = study()
    assert plain.digest == study(resources={"workers": 4}).digest
    assert plain.digest != study(base={**BASE, "width": 0.5}).digest
    assert plain.digest != study(checkpoints={"every_epochs": 1}).digest
    assert plain.digest == Study.model_validate(plain.model_dump(mode="json")).digest


def test_the_resolved_study_survives_json() -> None:
    search = {"trials": 4, "space": {"temperature": {"low": 0.1, "high": 1.0, "log": True}, "base_size": [1, 2]}}
    whole = study(grid={"method": list(METHODS[:1])}, seeds=2, search=search, early_stop={"grace_epochs": 2})
    again = Study.model_validate_json(whole.model_dump_json())
    assert again == whole
    assert again.cells() == whole.cells()


def test_a_searched_study_plans_nothing_before_it_samples() -> None:
    searched = study(seeds=2, search={"trials": 4, "space": {"temperature": [0.1, 0.2]}})
    assert list(searched.planned()) == []
    assert searched.trial_count == 8
    (cell,) = searched.cells()
    trials = searched.sampled(cell, 3, {"temperature": 0.2})
    assert [t.name for t in trials] == ["h_ssl-rotation-n3-s0", "h_ssl-rotation-n3-s1"]
    assert {t.config.temperature for t in trials} == {0.2}
    assert {t.cell for t in trials} == {cell.name}


def test_a_cell_is_not_named_after_a_searched_group() -> None:
    (cell,) = study(search={"trials": 1, "space": {"group": ["scale", "rotation"]}}).cells()
    assert cell.name == "h_ssl"


def test_a_searched_value_needs_to_be_possible_in_one_cell_alone() -> None:
    """max_distance 3 is beyond the rotations' diameter, but not beyond the grid's."""
    search = {"trials": 4, "space": {"max_distance": [1.0, 3.0]}}
    assert study(grid={"group": ["rotation", "translation"]}, search=search).cell_count == 2
    with pytest.raises(ValidationError, match="diameter 2"):
        study(search=search)


def test_values_that_are_possible_only_together_are_accepted() -> None:
    """A base of 4 elements needs translation, a warm-up of 10 more than 5 epochs."""
    space = {"group": ["rotation", "translation"], "base_size": [2, 4], "warmup_epochs": [10, 1], "epochs": [5, 20]}
    assert study(base={}, search={"trials": 4, "space": space}).cell_count == 1
    with pytest.raises(ValidationError, match=r"warmup_epochs\.0: must be at most epochs = 5"):
        study(base={}, search={"trials": 4, "space": {**space, "epochs": [5, 6]}})


def test_a_study_made_in_python_keeps_the_rules_between_sections() -> None:
    with pytest.raises(ValidationError, match=r"base_size: must be from 1 to \|G\| - 1 = 3"):
        study(base={**BASE, "base_size": 4})
    with pytest.raises(ValidationError, match="1,000,000 are not possible"):
        study(search={"trials": 100_000, "space": {"width": [1.0]}}, seeds=100_000)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_numbers_and_words_are_yaml_1_2(tmp_path: Path) -> None:
    path = write(
        tmp_path / "s.yaml",
        "study: no\nbase: {weight_decay: 1e-3, temperature: +.5, epochs: 0x10, batch_size: 0o400, max_distance: ~}\n",
    )
    loaded = load_study(path)
    assert loaded.study == "no"
    assert loaded.base == {
        "weight_decay": 0.001,
        "temperature": 0.5,
        "epochs": 16,
        "batch_size": 256,
        "max_distance": None,
    }


def test_anchors_are_shared_data(tmp_path: Path) -> None:
    path = write(tmp_path / "s.yaml", "study: s\nseeds: &two [1, 2]\ngrid: {base_size: *two}\n")
    assert load_study(path).grid == {"base_size": [1, 2]}


def test_more_than_10000_trials_need_a_word(tmp_path: Path) -> None:
    path = write(tmp_path / "s.yaml", "study: s\nseeds: 10001\n")
    with pytest.raises(StudyError, match="10,001 trials in all; more than 10,000 need --yes"):
        load_study(path)
    assert load_study(path, large=True).trial_count == 10_001
    assert load_study(path, ["seeds=10000"]).trial_count == 10_000


@pytest.mark.parametrize("cells", [1, 100, 10_000])
def test_ten_thousand_trials_plan_in_three_seconds(cells: int, tmp_path: Path) -> None:
    """Of processor time: the machine may be busy with other things."""
    widths = ", ".join(f"{1 + i / 10_000:.4f}" for i in range(cells))
    path = write(tmp_path / "s.yaml", f"study: s\ngrid:\n  width: [{widths}]\nseeds: {10_000 // cells}\n")
    start = time.process_time()
    ids = {trial.trial_id for trial in load_study(path).planned()}
    assert time.process_time() - start < 3
    assert len(ids) == 10_000
