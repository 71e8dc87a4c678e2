"""What is told of a study, before any server hears it."""

import math
from pathlib import Path

import pyarrow as pa
import pytest

from hssl_ray.study.tracker.tracked import (
    Provenance,
    cell_facts,
    config_of,
    experiment_note,
    params,
    points,
    tracking_uri,
)
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.journal import Record


@pytest.mark.parametrize(
    "config",
    [
        TrialConfig(),
        TrialConfig(method="a_ssl", group="scale", max_distance=0.5, train_images=1000, batch_size=100, image_size=33),
    ],
)
def test_params_hold_every_field_and_give_the_config_back(config: TrialConfig) -> None:
    texts = params(config)
    assert set(texts) == set(TrialConfig.model_fields)
    assert config_of({**texts, "another tool's": "{"}) == config


def test_points_carry_the_journals_time_so_that_twice_is_the_same_point() -> None:
    record = Record(3, {"epoch": 3.0, "train/loss": 1.5, "probe/top1": math.inf}, time=1700000000.1234)
    first, second = points(record), points(record)
    assert [(point.key, point.step, point.time) for point in first] == [
        ("train/loss", 3, 1700000000123),
        ("probe/top1", 3, 1700000000123),
    ]
    assert first[0] == second[0]
    assert math.isnan(first[1].value), "infinity would be clipped to a number that nobody measured"


def test_the_store_is_the_environments_else_a_file_under_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracking_uri(Path("/h")) == "sqlite:////h/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    assert tracking_uri(Path("/h")) == "http://host:5000"


CURVES = pa.table(
    {
        "cell": ["a_ssl", "a_ssl", "h_ssl"],
        "epoch": [1, 2, 1],
        "metric": ["probe/top1"] * 3,
        "mean": [0.5, 0.6, 0.7],
        "std": [0.1, 0.1, None],
        "n": [3, 3, 1],
        "low": [0.4, 0.5, None],
        "high": [0.6, 0.7, None],
    }
)
VERDICTS = pa.table({"cell": ["h_ssl", "h_ssl"], "verdict": ["equivalent", "undecided"], "difference": [0.01, None]})


def test_cells_hold_their_curves_and_verdicts_under_names_no_trial_has() -> None:
    a_ssl, h_ssl = cell_facts(CURVES, VERDICTS)
    assert {(p.key, p.step): p.value for p in a_ssl.points}[("probe/top1/mean", 2)] == 0.6
    assert len(a_ssl.points) == 10
    assert {p.key for p in h_ssl.points} == {"probe/top1/mean", "probe/top1/n", "verdict/difference"}
    assert h_ssl.tags == {"hssl.verdict.verdict": "equivalent", "hssl.verdict.verdict.2": "undecided"}


def test_a_cells_digest_changes_with_its_content_alone() -> None:
    before = [facts.digest for facts in cell_facts(CURVES, VERDICTS)]
    assert before == [facts.digest for facts in cell_facts(CURVES, VERDICTS)]
    other = CURVES.set_column(3, "mean", pa.array([0.5, 0.6, 0.71]))
    after = [facts.digest for facts in cell_facts(other, VERDICTS)]
    assert (before[0] == after[0], before[1] == after[1]) == (True, False)


def test_what_is_compared_comes_first_on_the_uis_page_for_two_runs() -> None:
    """It opens with the first metric that a run was told: else an `eval/` metric that nobody asked about."""
    compared = pa.table(
        {"cell": ["a_ssl"], "mean": [0.6], "std": [0.1], "n": [3], "low": [0.5], "high": [None]},
    )
    a_ssl, h_ssl = cell_facts(CURVES, VERDICTS, compared)
    assert a_ssl.points[0].key == "compared"
    values = {point.key: point.value for point in a_ssl.points}
    assert (values["compared"], values["compared/n"], "compared/high" in values) == (0.6, 3, False)
    assert not any(point.key.startswith("compared") for point in h_ssl.points)


def test_the_note_opens_with_the_answer_then_says_where_to_look_the_question_and_what_to_type() -> None:
    provenance = Provenance("Does H match A?", {"resume": "hssl-ray run s.yaml", "compare": "hssl-ray compare s.yaml"})
    assert experiment_note("s", provenance, "It does.\n\n| verdict |\n", {"curves": "#/experiments/1"}) == (
        "## It does.\n\n[curves](#/experiments/1)\n\nDoes H match A?\n\n| verdict |\n\n"
        "```sh\n# resume\nhssl-ray run s.yaml\n# compare\nhssl-ray compare s.yaml\n```"
    )
    assert experiment_note("s", Provenance()) == "## s"
