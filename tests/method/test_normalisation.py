"""BatchNorm alone in its process: torch's own numbers, over the lifted axis as well."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hssl_ray.method.normalisation import BatchNorm

pytestmark = pytest.mark.usefixtures("either_way")


@pytest.mark.parametrize(
    ("theirs", "shape"),
    [(nn.BatchNorm1d, (6, 4)), (nn.BatchNorm2d, (6, 4, 5, 5)), (nn.BatchNorm3d, (6, 4, 3, 5, 5))],
    ids=["rows", "maps", "lifted maps"],
)
def test_it_is_torchs_batch_norm(theirs: Callable[[int], nn.Module], shape: tuple[int, ...]) -> None:
    expected, layer = theirs(4).double(), BatchNorm(4).double()
    x = torch.randn(shape, dtype=torch.float64) * 3 + 1
    for _ in range(3):
        torch.testing.assert_close(layer(x), expected(x))
    torch.testing.assert_close(layer.running_mean, expected.running_mean)
    torch.testing.assert_close(layer.running_var, expected.running_var)
    torch.testing.assert_close(layer.eval()(x), expected.eval()(x))


def test_elements_share_their_statistics(make_images: Callable[..., Tensor]) -> None:
    """Statistics of each element alone would undo what tells them apart."""
    x = make_images(4, 5, channels=6).view(4, 2, 3, 5, 5) + torch.arange(3.0)[:, None, None]
    y = BatchNorm(2).double()(x)
    assert y.mean((0, 2, 3, 4)).abs().max() < 1e-12
    assert y.mean((0, 3, 4)).abs().max() > 0.5


def test_relu_follows_the_normalisation(make_images: Callable[..., Tensor]) -> None:
    x = make_images(4, 5, channels=6).view(4, 2, 3, 5, 5)
    before = x.clone()
    assert torch.equal(BatchNorm(2, relu=True).double()(x), BatchNorm(2).double()(x).relu())
    assert torch.equal(x, before)  # in place on its own result alone


def test_one_value_has_no_variance() -> None:
    with pytest.raises(ValueError, match="more than one value per channel"):
        BatchNorm(3)(torch.ones(1, 3))
