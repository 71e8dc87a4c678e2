"""The classification of a trial's fields, and the option that chooses by them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import create_model

from hssl_ray.data.catalog import ADDED, CATALOG
from hssl_ray.report.paper.printed import BASE_SETTINGS
from hssl_ray.report.paper.readings import CLASSIFIED, FIELDS, PAPER_GRIDS, Role, concerns, fields_of, names_of
from hssl_ray.report.paper.where import matches, read_where
from hssl_ray.study.file.problems import StudyError
from hssl_ray.trial.config import METHODS, TrialConfig


def unclassified(model: type[TrialConfig]) -> set[str]:
    return set(model.model_fields) - set(CLASSIFIED)


def test_every_field_of_a_trial_is_classified() -> None:
    """A new field: say in `readings.CLASSIFIED` whether it reads the paper or is budget, and for which methods."""
    assert unclassified(TrialConfig) == set()


def test_a_new_field_is_noticed() -> None:
    later: Any = create_model("Later", __base__=TrialConfig, padding=(str, "zeros"))
    assert unclassified(later) == {"padding"}


def test_the_paper_has_a_value_for_every_axis() -> None:
    assert set(BASE_SETTINGS) == set(fields_of(Role.AXIS))


def test_a_field_concerns_the_methods_it_can_change() -> None:
    settings = TrialConfig().model_dump()
    about = {name: [m for m in METHODS if concerns(name, {**settings, "method": m})] for name in FIELDS}
    assert about["augmentation"] == ["a_ssl"]
    assert about["objective"] == about["base_size"] == ["a_ssl", "f_ssl", "h_ssl"]
    assert about["epochs"] == about["momentum"] == list(METHODS)
    assert not concerns("momentum", {**settings, "optimizer": "adamw"})


@pytest.mark.parametrize(
    ("size", "policies"), [(None, ("exact", "paper")), (29, ("exact", "paper")), (28, ("native",)), (33, (33,))]
)
def test_of_an_image_size_the_policies_count(size: int | None, policies: tuple[str | int, ...]) -> None:
    settings = TrialConfig(dataset="mnist", image_size=size).model_dump()
    assert names_of("image_size", settings) == policies
    assert names_of("epochs", settings) == (500,)


def test_the_papers_grids_give_the_maps_it_states() -> None:
    assert set(PAPER_GRIDS) == set(CATALOG) - set(ADDED)
    assert TrialConfig(dataset="mnist").architecture.feature_size(PAPER_GRIDS["mnist"]) == 8


def test_where_has_the_types_of_a_study() -> None:
    wanted = read_where(["width=0.25", "max_distance=null", "epochs=1", "dataset=mnist", "image_size=native"])
    assert wanted == {"width": 0.25, "max_distance": None, "epochs": 1, "dataset": "mnist", "image_size": "native"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("objectve=nt_xent", '--where objectve=nt_xent:1:1: objectve: unknown key (did you mean "objective"?)'),
        ("optimizer=adamv", 'optimizer: must be one of lars, adamw, got "adamv" (did you mean "adamw"?)'),
        ("epochs=1.5", "epochs: must be a whole number, got 1.5"),
        ("width=-1", "width: must be above 0, got -1"),
        ("image_size=big", 'image_size: must be a whole number, got "big"'),
        ("epochs", 'must be KEY=VALUE, such as "width=0.25"'),
        ("seed=1", "unknown key"),
    ],
)
def test_where_is_refused_as_a_study_would_be(text: str, says: str) -> None:
    with pytest.raises(StudyError) as refused:
        read_where(["width=0.25", text])
    assert says in str(refused.value)


def test_one_field_is_chosen_once() -> None:
    with pytest.raises(StudyError, match="epochs: given twice"):
        read_where(["epochs=1", "epochs=2"])


def test_where_speaks_of_the_methods_a_field_concerns() -> None:
    frozen, h_ssl = (TrialConfig(method=method).model_dump() for method in ("frozen", "h_ssl"))
    wanted = read_where(["objective=nt_xent"])
    assert matches(frozen, wanted) and not matches(h_ssl, wanted)
    assert not matches(frozen, read_where(["epochs=1"]))
    assert matches(h_ssl, read_where(["image_size=exact"])) and not matches(h_ssl, read_where(["image_size=native"]))
