"""What a plan says a study costs, against the paper's figures and counts by hand; and what it warns of."""

from __future__ import annotations

from typing import Any

import pytest

import hssl_ray.study.file.sections
from hssl_ray.method.networks import build_network
from hssl_ray.study.forecast import FORWARD_PASSES, checkpoint_bytes, dearest_trial, forecast, training_gmac
from hssl_ray.study.spec import Study
from hssl_ray.trial.config import METHODS, TrialConfig

BASE: dict[str, Any] = {"epochs": 5, "warmup_epochs": 1, "batch_size": 250}


def study(**sections: Any) -> Study:
    return Study.model_validate({"study": "s", "base": BASE, **sections})


@pytest.mark.parametrize(("group", "gmac"), [("translation", 0.042), ("scale", 0.254)])
def test_an_image_costs_what_the_paper_s_network_costs(group: str, gmac: float) -> None:
    """On the native grid of 28 cells; the exact grid of 29 costs more."""
    (cell,) = forecast(study(base={**BASE, "group": group, "image_size": 28})).cells
    assert cell.gmac_per_image == pytest.approx(gmac, rel=0.02)
    assert cell.parameters == pytest.approx(96_480, rel=0.01)
    (exact,) = forecast(study(base={**BASE, "group": group})).cells
    assert exact.grid == 29
    assert exact.gmac_per_image > cell.gmac_per_image


def test_work_is_counted_by_pass() -> None:
    """10,000 images in 40 steps of 250: forward and twice that backward, 2,000 test images an epoch, a last probe."""
    macs = 0.2061
    passes = {"a_ssl": 6, "h_ssl": 3, "supervised": 3, "frozen": 1}
    for method, count in passes.items():
        config = TrialConfig(**{**BASE, "method": method})
        expected = macs * (5 * (10_000 * count + 2_000) + 10_000)
        assert training_gmac(config) == pytest.approx(expected, rel=1e-3)
    assert set(FORWARD_PASSES) == set(METHODS)
    clean = TrialConfig(**{**BASE, "method": "a_ssl", "probe_images": "clean"})  # one more pass, without a backward one
    assert training_gmac(clean) == pytest.approx(macs * (5 * (10_000 * 7 + 2_000) + 10_000), rel=1e-3)


def test_totals_are_sums_over_trials() -> None:
    plan = forecast(study(grid={"method": ["a_ssl", "h_ssl"]}, seeds=3), throughput=100)
    assert plan.trials == 6
    assert [cell.trials for cell in plan.cells] == [3, 3]
    assert [cell.forward_passes for cell in plan.cells] == [2, 1]
    assert plan.gmac == sum(cell.gmac for cell in plan.cells)
    assert plan.hours == pytest.approx(plan.gmac / 100 / 3600)
    assert plan.checkpoint_bytes == sum(3 * 2 * cell.checkpoint_bytes for cell in plan.cells)
    assert not plan.at_most


def test_a_checkpoint_holds_weights_and_the_optimisers_state() -> None:
    lars, adamw = (checkpoint_bytes(TrialConfig(optimizer=name)) for name in ("lars", "adamw"))
    assert adamw / lars == pytest.approx(3 / 2)
    weights = lars // 8
    assert 96_480 + 3 * 128 * 128 + 147_456 < weights < 1.02 * (96_480 + 3 * 128 * 128 + 147_456 + 1_280)
    assert checkpoint_bytes(TrialConfig(base_size=3)) == lars + 8 * 2 * 128 * 128


NETWORKS: dict[str, dict[str, Any]] = {
    "mnist": {"group": "scale", "base_size": 3},
    "resnet": {"dataset": "cifar10", "backbone": "resnet20", "base_size": 2},
    "mixing": {"dataset": "cifar10", "backbone": "resnet18", "mixing": 4},
    "without structure": {"group": "scale", "structure": "none"},
    "mlp": {"group": "translation", "structure": "none", "backbone": "mlp"},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_checkpoint_is_foretold_for_every_network(name: str) -> None:
    config = TrialConfig(**{"width": 0.125, **NETWORKS[name]})
    weights = sum(weight.numel() for weight in build_network(config).parameters())
    assert checkpoint_bytes(config) == 8 * weights


def test_a_searched_cell_costs_at_most_its_dearest_corner() -> None:
    search = {"trials": 4, "space": {"width": {"low": 0.5, "high": 1.0}, "epochs": {"low": 2, "high": 9}}}
    base = {key: value for key, value in BASE.items() if key != "epochs"}
    plan = forecast(study(base=base, search=search, seeds=2))
    assert plan.at_most
    assert plan.trials == 8
    assert plan.cells[0].epochs == 9
    assert plan.gmac == pytest.approx(8 * training_gmac(TrialConfig(**{**base, "width": 1.0, "epochs": 9})))
    assert dearest_trial(study(base=base, search=search)).epochs == 9


def test_power_is_of_the_comparison() -> None:
    plan = forecast(study(seeds=6, compare={"margin": 0.01}), sd=0.005)
    assert (plan.power.seeds, plan.power.margin, plan.power.seeds_for_margin) == (6, 0.01, 6)
    assert plan.power.chance_of_equivalence > 0.8
    assert plan.power.provable_margin is not None and plan.power.provable_margin < 0.01
    assert forecast(study()).power.detectable_difference is None


TWO = {"grid": {"method": ["a_ssl", "h_ssl"]}, "seeds": 3}


def test_a_sound_study_has_no_warnings() -> None:
    """Negative control of the warnings below."""
    assert forecast(study(**TWO)).warnings == []
    search = {"trials": 4, "space": {"temperature": [0.1, 0.2, 0.3, 0.4]}}
    assert forecast(study(**TWO, search=search, early_stop={"grace_epochs": 2})).warnings == []


SEARCH = {"trials": 2, "space": {"width": [1.0, 0.5]}}
WARNINGS = {
    "even grid": ({"base": {**BASE, "image_size": 28}}, "28 x 28 cells a quarter turn does not commute"),
    "odd grid that is not exact": (
        {"base": {**BASE, "image_size": 31}},
        "29 is exact (cell a_ssl-rotation and 1 more)",
    ),
    "images left out": ({"base": {**BASE, "batch_size": 4096}}, "1,808 of 10,000 training images are left out"),
    "one seed": ({"seeds": 1}, "one seed gives no spread"),
    "nothing to compare": ({"grid": {"method": ["h_ssl", "frozen"]}}, "the study has no a_ssl"),
    "stops the compared": ({"early_stop": {"grace_epochs": 2}}, "it stops seeds of the cells that are compared"),
    "stops nothing": ({"search": SEARCH, "early_stop": {"grace_epochs": 5}}, "no trial is longer than 5 epochs"),
    "few points": ({"search": {**SEARCH, "trials": 9}}, "the space has 2 points, so 9 suggestions are not reached"),
    "wrong way": ({"search": {**SEARCH, "metric": "train/loss"}}, "maximize train/loss looks the wrong way round"),
    "wrong way up": ({"search": {**SEARCH, "goal": "minimize"}}, "minimize probe/top1 looks the wrong way round"),
}


@pytest.mark.parametrize(("changes", "says"), WARNINGS.values(), ids=WARNINGS.keys())
def test_what_looks_like_a_mistake_is_said_once(changes: dict[str, Any], says: str) -> None:
    warnings = forecast(study(**{**TWO, **changes})).warnings
    assert len([w for w in warnings if says in w]) == 1, warnings


def test_a_rotation_alone_needs_the_exact_grid() -> None:
    base = {**BASE, "group": "translation", "image_size": 28}
    assert forecast(study(**{**TWO, "base": base})).warnings == []


def test_only_what_could_be_exact_needs_the_exact_grid() -> None:
    """A twin without structure commutes with no turn on any grid; a small crop has an exact size of its own."""
    twin = {**BASE, "structure": "none", "image_size": 28}
    assert forecast(study(**{**TWO, "base": twin})).warnings == []
    crop = {**BASE, "dataset": "cifar10", "backbone": "resnet20", "image_size": 24}
    (warning,) = forecast(study(**{**TWO, "base": crop})).warnings
    assert "25 is exact" in warning


def test_a_sampler_that_is_not_installed_is_said_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hssl_ray.study.file.sections, "find_spec", lambda name: None)
    (warning,) = forecast(study(**TWO, search={**SEARCH, "sampler": "cmaes"})).warnings
    assert "cmaes needs the package cmaes" in warning
