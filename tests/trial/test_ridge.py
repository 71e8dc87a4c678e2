"""The ridge probe against a library, against itself in the dual and in blocks, and on noise."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeCV
from torch import Tensor

from hssl_ray.trial import standardised
from hssl_ray.trial.ridge import PENALTIES, ridge_top1


def blobs(n: int, seed: int, centres: Tensor) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % len(centres)
    return centres[labels] + 2.0 * torch.randn(n, centres.shape[1], generator=generator), labels


@pytest.mark.parametrize(("images", "features"), [(150, 12), (60, 90)], ids=["moments", "products"])
def test_ridge_probe_is_leave_one_out_ridge_regression(images: int, features: int) -> None:
    """Same predictions as scikit-learn's RidgeCV on the standardised features and the same penalties, with more images
    than features and with fewer.
    """
    centres = 0.6 * torch.randn(5, features, generator=torch.Generator().manual_seed(1))
    (x, y), (x_test, y_test) = blobs(images, 2, centres), blobs(400, 3, centres)
    mean, std = x.double().mean(0), x.double().std(0)
    z, z_test = ((x.double() - mean) / std).numpy(), ((x_test.double() - mean) / std).numpy()
    alphas = (PENALTIES * np.trace(z.T @ z) / features).numpy()
    oracle = RidgeCV(alphas=alphas).fit(z, np.eye(5)[y.numpy()])
    expected = (oracle.predict(z_test).argmax(1) == y_test.numpy()).mean()
    assert ridge_top1(x, y, x_test, y_test, 5) == pytest.approx(expected, abs=1e-9)
    assert 0.2 < expected < 1.0


@pytest.mark.parametrize(("images", "features"), [(90, 12), (40, 70)])
def test_blocks_of_rows_change_nothing(images: int, features: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by a block, the answer is not: blocks of some seven rows give what one block gives."""
    centres = 0.6 * torch.randn(4, features, generator=torch.Generator().manual_seed(1))
    (x, y), (x_test, y_test) = blobs(images, 2, centres), blobs(1000, 3, centres)
    whole = ridge_top1(x, y, x_test, y_test, 4)
    monkeypatch.setattr(standardised, "BLOCK", 7 * features)
    assert [(b.start, b.stop) for b in standardised.blocks(16, features)] == [(0, 7), (7, 14), (14, 21)]
    assert ridge_top1(x, y, x_test, y_test, 4) == whole


def test_ridge_probe_survives_fewer_images_than_features_and_dead_features() -> None:
    centres = 4 * torch.randn(3, 40, generator=torch.Generator().manual_seed(4))
    (x, y), (x_test, y_test) = blobs(30, 5, centres), blobs(90, 6, centres)
    x[:, 7] = x_test[:, 7] = 1.0
    assert ridge_top1(x, y, x_test, y_test, 3) > 0.9


def test_ridge_probe_reads_half_precision_maps() -> None:
    """A map stays in the type the network computes in; what that costs is below a point."""
    centres = torch.randn(5, 60, generator=torch.Generator().manual_seed(1))
    (x, y), (x_test, y_test) = blobs(200, 2, centres), blobs(1000, 3, centres)
    full, half = ridge_top1(x, y, x_test, y_test, 5), ridge_top1(x.bfloat16(), y, x_test.bfloat16(), y_test, 5)
    assert full > 0.5 and abs(full - half) < 0.01


def test_ridge_probe_on_noise_is_chance() -> None:
    """Negative control: features that know nothing score like guessing."""
    noise = torch.randn(600, 20, generator=torch.Generator().manual_seed(7))
    labels = torch.arange(600) % 10
    assert ridge_top1(noise[:300], labels[:300], noise[300:], labels[300:], 10) < 0.2
