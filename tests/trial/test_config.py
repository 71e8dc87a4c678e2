"""A trial's identity is its meaning; contradictions are refused with rule and value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hssl_ray.trial.config import TrialConfig

# Identities of released configs: a change here means that finished trials of users would be run again.
PINNED = {
    "93165ac3f37e9e4b": {"epochs": 20},
}


@pytest.mark.parametrize("trial_id", PINNED)
def test_released_identities_stay(trial_id: str) -> None:
    assert TrialConfig.model_validate(PINNED[trial_id]).trial_id == trial_id


def test_a_field_named_at_its_default_changes_nothing() -> None:
    assert TrialConfig(epochs=20, temperature=0.1).trial_id == TrialConfig(epochs=20).trial_id


@given(st.floats(0.01, 1.0), st.integers(0, 9))
def test_identity_is_a_function_of_the_values(temperature: float, seed: int) -> None:
    one, two = TrialConfig(temperature=temperature, seed=seed), TrialConfig(seed=seed, temperature=temperature)
    assert one.trial_id == two.trial_id and one == two
    assert one.trial_id != TrialConfig(temperature=temperature, seed=seed + 1).trial_id


@pytest.mark.parametrize(
    ("values", "says"),
    [
        pytest.param({"group": "rotation", "base_size": 4}, "base_size: must be from 1 to |G| - 1 = 3", id="base"),
        pytest.param({"group": "translation", "base_size": 3}, "base_size: must be a square patch", id="patch"),
        pytest.param({"group": "rotation", "max_distance": 3.0}, "rotation's diameter 2", id="distance"),
        pytest.param(
            {"group": "scale", "distance_metric": "torus"},
            "distance_metric: must be one of log_ratio, index for group scale, got torus",
            id="metric",
        ),
        pytest.param(
            {"group": "translation", "distance_metric": "torus", "max_distance": 6.0},
            "translation's diameter 5.657",
            id="torus diameter",
        ),
        pytest.param(
            {"max_distance": 1.0, "min_distance": 2.0},
            "min_distance: must be at most max_distance = 1, got 2",
            id="bounds",
        ),
        pytest.param(
            {"max_distance": 1.5, "min_distance": 1.5},
            "min_distance: no two elements of rotation are from 1.5 to 1.5 apart; the distances are 0, 1, 2, got 1.5",
            id="empty shell",
        ),
        pytest.param(
            {"group": "scale", "base_size": 5, "min_distance": 0.3},
            "min_distance: no two elements of scale are at least 0.3 apart; the distances are 0, 0.2231435513, got 0.3",
            id="no room for a base",
        ),
        pytest.param(
            {"group": "rotation_translation", "base_size": 5},
            "base_size: must be from 1 to the 4 lifted elements of a cell (rotation_translation), got 5",
            id="base in a product",
        ),
        pytest.param({"method": "f_ssl", "group": "rotation_translation"}, "group: f_ssl", id="f_ssl on a product"),
        pytest.param({"method": "f_ssl", "group": "scale"}, "group: f_ssl", id="f_ssl"),
        pytest.param({"batch_size": 20_000}, "batch_size: must be at most the 10000", id="batch"),
        pytest.param({"train_images": 1001, "batch_size": 64}, "multiple of the 10 classes", id="balanced"),
        pytest.param({"train_images": 20_000, "batch_size": 64}, "train_images: mnist-mini has 10000", id="too many"),
        pytest.param({"epochs": 5}, "warmup_epochs: must be at most epochs = 5, got 10", id="warm-up"),
        pytest.param(
            {"image_size": 20}, "image_size: mnist_cnn's classifier needs a feature map of 7 x 7", id="small grid"
        ),
        pytest.param({"temperature": 0}, "greater than 0", id="temperature"),
        pytest.param({"temperature": float("nan")}, "", id="nan"),
        pytest.param({"epochs": "20"}, "valid integer", id="string for a number"),
        pytest.param({"epochs": True}, "valid integer", id="true for a number"),
        pytest.param({"epocs": 20}, "Extra inputs", id="unknown"),
    ],
)
def test_contradictions_are_refused(values: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TrialConfig.model_validate(values)
    assert says in str(caught.value)


def test_odd_exact_grids_by_default() -> None:
    assert TrialConfig().grid == 29 and TrialConfig().architecture.is_exact(29)
    assert TrialConfig(image_size=28).grid == 28 and not TrialConfig().architecture.is_exact(28)
    assert TrialConfig(group="translation").geometry.order == 64


def test_a_shell_of_the_group_s_own_distance_is_allowed() -> None:
    shells: list[dict[str, object]] = [
        {"group": "rotation", "min_distance": 2.0},
        {"group": "dihedral", "min_distance": 3.0, "max_distance": 3.0},
        {"group": "translation", "min_distance": 1.4142135624, "max_distance": 1.4142135624},
        {"group": "translation", "distance_metric": "chebyshev", "min_distance": 7.0, "max_distance": 7.0},
        {"group": "scale", "distance_metric": "index", "min_distance": 5.0},
        {"group": "scale_translation", "base_size": 6, "min_distance": 9.8},
    ]
    for values in shells:
        assert TrialConfig.model_validate(values).min_distance == values["min_distance"]


def test_the_paper_s_size_and_cost() -> None:
    """App. A read at 28 pixels and six scales: 96,480 parameters, 0.254 GMAC."""
    cost = TrialConfig(group="scale").architecture.cost(28)
    assert (cost.parameters, cost.macs) == (96_480, 254_241_792)


def test_trials_that_have_the_same_network_share_it() -> None:
    """A study of 10,000 trials has a few networks; whatever changes the network makes another one."""
    one = TrialConfig(seed=1, temperature=0.2)
    assert one.architecture is TrialConfig().architecture
    others = [TrialConfig(width=0.5), TrialConfig(structure="none"), TrialConfig(group="scale"), TrialConfig(mixing=2)]
    others += [TrialConfig(backbone="resnet20"), TrialConfig(dataset="cifar10")]
    for other in others:
        assert other.architecture != one.architecture
    assert TrialConfig(image_size=33).grid == 33 and one.grid == 29
