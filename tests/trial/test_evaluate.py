"""Probes and collapse measures against closed forms and a library."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeCV

from hssl_ray.trial.evaluate import RIDGE_PENALTIES, effective_rank, feature_std, ridge_top1, top1


def test_effective_rank_counts_equal_directions() -> None:
    """k orthogonal directions of equal energy have effective rank k; one direction has 1; a point has 0."""
    for k in (1, 3, 7):
        basis = torch.linalg.qr(torch.randn(16, k, generator=torch.Generator().manual_seed(k)))[0]
        signs = torch.cat((basis.T, -basis.T))
        assert effective_rank(signs) == pytest.approx(k, rel=1e-6)
    assert effective_rank(torch.ones(5, 4)) == 0.0


def test_feature_std_tells_spread_from_collapse() -> None:
    generator = torch.Generator().manual_seed(0)
    spread = feature_std(torch.randn(4000, 64, generator=generator))
    collapsed = feature_std(torch.ones(4000, 64) + 1e-4 * torch.randn(4000, 64, generator=generator))
    assert spread == pytest.approx(1 / math.sqrt(64), rel=0.05)
    assert collapsed < 0.001


def test_top1() -> None:
    assert top1(torch.eye(4), torch.tensor([0, 1, 2, 0])) == 0.75


def blobs(n: int, seed: int, centres: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % len(centres)
    return centres[labels] + 2.0 * torch.randn(n, centres.shape[1], generator=generator), labels


def test_ridge_probe_is_leave_one_out_ridge_regression() -> None:
    """Same predictions as scikit-learn's RidgeCV on the standardised features and the same penalties."""
    centres = torch.randn(5, 12, generator=torch.Generator().manual_seed(1))
    (x, y), (x_test, y_test) = blobs(150, 2, centres), blobs(400, 3, centres)
    mean, std = x.double().mean(0), x.double().std(0)
    z, z_test = ((x.double() - mean) / std).numpy(), ((x_test.double() - mean) / std).numpy()
    alphas = (RIDGE_PENALTIES * torch.from_numpy(np.linalg.eigvalsh(z.T @ z)).mean()).numpy()
    oracle = RidgeCV(alphas=alphas).fit(z, np.eye(5)[y.numpy()])
    expected = (oracle.predict(z_test).argmax(1) == y_test.numpy()).mean()
    assert ridge_top1(x, y, x_test, y_test, 5) == pytest.approx(expected, abs=1e-9)
    assert 0.2 < expected < 1.0


def test_ridge_probe_survives_fewer_images_than_features_and_dead_features() -> None:
    centres = 4 * torch.randn(3, 40, generator=torch.Generator().manual_seed(4))
    (x, y), (x_test, y_test) = blobs(30, 5, centres), blobs(90, 6, centres)
    x[:, 7] = x_test[:, 7] = 1.0
    assert ridge_top1(x, y, x_test, y_test, 3) > 0.9


def test_ridge_probe_on_noise_is_chance() -> None:
    """Negative control: features that know nothing score like guessing."""
    noise = torch.randn(600, 20, generator=torch.Generator().manual_seed(7))
    labels = torch.arange(600) % 10
    assert ridge_top1(noise[:300], labels[:300], noise[300:], labels[300:], 10) < 0.2
