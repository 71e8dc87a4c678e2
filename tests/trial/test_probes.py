"""Nearest neighbours against a literal loop, the logistic regression against scipy's minimiser, both on noise."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from hssl_ray.trial import probes, standardised
from hssl_ray.trial.probes import knn_top1, linear_top1, logistic_regression, top1
from hssl_ray.trial.standardised import Standardised


def blobs(n: int, seed: int, features: int = 8, classes: int = 4, apart: float = 1.5) -> tuple[Tensor, Tensor]:
    centres = apart * torch.randn(classes, features, generator=torch.Generator().manual_seed(99))
    labels = torch.arange(n) % classes
    return centres[labels] + 2 * torch.randn(n, features, generator=torch.Generator().manual_seed(seed)), labels


def test_top1() -> None:
    assert top1(torch.eye(4), torch.tensor([0, 1, 2, 0])) == 0.75


def literal_knn(train: Tensor, labels: Tensor, image: Tensor, classes: int, neighbours: int) -> int:
    """One image's class by Wu et al.'s rule, in plain Python."""
    similarities = [
        (
            sum(a * b for a, b in zip(row, image.tolist(), strict=True))
            / (math.hypot(*row) * math.hypot(*image.tolist()))
        )
        for row in train.tolist()
    ]
    nearest = sorted(range(len(similarities)), key=lambda i: -similarities[i])[:neighbours]
    votes = [sum(math.exp(similarities[i] / 0.07) for i in nearest if int(labels[i]) == k) for k in range(classes)]
    return votes.index(max(votes))


@pytest.mark.parametrize("neighbours", [1, 5, 200])
def test_knn_is_the_weighted_vote_of_the_nearest(neighbours: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the blocks are, and with more neighbours asked for than there are images."""
    (x, y), (x_test, y_test) = blobs(60, 1), blobs(50, 2)
    expected = [literal_knn(x, y, image, 4, neighbours) for image in x_test]
    found = sum(k == int(label) for k, label in zip(expected, y_test, strict=True)) / 50
    assert knn_top1(x, y, x_test, y_test, 4, neighbours) == found
    monkeypatch.setattr(standardised, "BLOCK", 7 * 60)
    assert knn_top1(x, y, x_test, y_test, 4, neighbours) == found
    # Image by image: a test set of one, labelled as the loop says.
    assert all(
        knn_top1(x, y, image[None], torch.tensor([k]), 4, neighbours) == 1.0
        for image, k in zip(x_test, expected, strict=True)
    )


def test_knn_ignores_lengths() -> None:
    (x, y), (x_test, y_test) = blobs(60, 1), blobs(50, 2)
    longer = x * torch.linspace(0.1, 10, 60)[:, None]
    assert knn_top1(x, y, x_test, y_test, 4) == knn_top1(longer, y, 3 * x_test, y_test, 4)


def scipys_regression(x: Tensor, labels: Tensor, classes: int, penalty: float) -> NDArray[np.float64]:
    """Minimise the same function with scipy, gradient written out."""
    rows, targets = x.numpy(), np.eye(classes)[labels.numpy()]

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(-1, classes)
        logits = rows @ weights[:-1] + weights[-1]
        logits -= logits.max(1, keepdims=True)
        total = np.exp(logits).sum(1, keepdims=True)
        value = (np.log(total) - (logits * targets).sum(1, keepdims=True)).mean()
        wrong = (np.exp(logits) / total - targets) / len(rows)
        gradient = np.vstack([rows.T @ wrong + penalty * weights[:-1], wrong.sum(0)])
        return float(value + penalty / 2 * np.square(weights[:-1]).sum()), gradient.ravel()

    solved = minimize(
        loss, np.zeros((x.shape[1] + 1) * classes), jac=True, method="BFGS", options={"gtol": 1e-7, "maxiter": 5000}
    )
    weights: NDArray[np.float64] = solved.x.reshape(-1, classes)
    return weights


@pytest.mark.parametrize("penalty", [1e-1, 1e-3])
def test_logistic_regression_reaches_the_minimum_wherever_it_starts(penalty: float) -> None:
    x, y = blobs(120, 3)
    units = Standardised(x).units
    z = units.like(x)
    expected = torch.from_numpy(scipys_regression(z, y, 4, penalty))
    far = 3 * torch.randn(9, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    far[-1] -= far[-1].mean()  # the sum of the biases has no say in the loss and stays where it starts
    for start in (None, far):
        found = logistic_regression(x, units, y, 4, penalty, start, tolerance=1e-7)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_linear_probe_is_the_regression_at_the_penalty_that_held_out_images_choose() -> None:
    """Few images in many directions want a strong penalty; the weakest one does worse."""
    (x, y), (x_test, y_test) = blobs(100, 3, 60, apart=0.4), blobs(2000, 4, 60, apart=0.4)
    units = Standardised(x).units
    z_test = units.like(x_test)
    scores = []
    for penalty in probes.LOGISTIC_PENALTIES:
        weights = logistic_regression(x, units, y, 4, penalty)
        scores.append(top1(z_test @ weights[:-1] + weights[-1], y_test))
    assert linear_top1(x, y, x_test, y_test, 4) in scores[:2]
    assert scores[0] > scores[-1] + 0.02


def test_linear_probe_survives_dead_features_and_too_few_images_to_hold_any_out() -> None:
    (x, y), (x_test, y_test) = blobs(12, 3), blobs(200, 4)
    x[:, 3] = x_test[:, 3] = 1.0
    assert linear_top1(x, y, x_test, y_test, 4) > 0.4


@pytest.mark.parametrize("probe", [knn_top1, linear_top1])
def test_a_probe_of_noise_is_chance(probe: Callable[[Tensor, Tensor, Tensor, Tensor, int], float]) -> None:
    """Negative control; and the same noise carried over from training to test is found."""
    noise = torch.randn(400, 20, generator=torch.Generator().manual_seed(7))
    labels = torch.arange(400) % 10
    assert probe(noise[:200], labels[:200], noise[200:], labels[200:], 10) < 0.2
    assert probe(noise[:200], labels[:200], noise[:200], labels[:200], 10) > 0.3
