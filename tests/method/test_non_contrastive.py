"""Eq. 4 and SimSiam: equal to their sums written as loops, no gradient into the target, and no collapse with it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hssl_ray.method.non_contrastive import build_predictor, negative_cosine, simsiam
from hssl_ray.method.normalisation import BatchNorm


def rows(count: int, width: int, seed: int) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def eq4_by_hand(h1: Tensor, v2: Tensor) -> float:
    """Eq. 4 summed over i, in the paper's own loop."""
    count = len(h1)
    return -sum(float(h1[i] @ v2[i] / (h1[i].norm() * v2[i].norm())) / count for i in range(count))


def test_negative_cosine_equals_eq4() -> None:
    h1, v2 = rows(7, 5, 0), rows(7, 5, 1)
    assert negative_cosine(h1, v2).item() == pytest.approx(eq4_by_hand(h1, v2), abs=1e-12)
    assert negative_cosine(h1, h1 * 3).item() == pytest.approx(-1, abs=1e-12)
    assert abs(negative_cosine(h1, v2.roll(1, 0)).item() - eq4_by_hand(h1, v2)) > 0.05


def test_simsiam_is_the_mean_of_both_directions() -> None:
    p1, p2, h1, h2 = (rows(7, 5, seed) for seed in range(4))
    expected = (eq4_by_hand(p1, h2) + eq4_by_hand(p2, h1)) / 2
    assert simsiam(p1, p2, h1, h2).item() == pytest.approx(expected, abs=1e-12)
    torch.testing.assert_close(simsiam(p2, p1, h2, h1), simsiam(p1, p2, h1, h2))


def reached(loss: Tensor, *inputs: Tensor) -> list[bool]:
    """Which inputs a loss has a gradient in."""
    return [gradient is not None for gradient in torch.autograd.grad(loss, inputs, allow_unused=True)]


def test_no_gradient_reaches_the_target() -> None:
    """The stop-gradient. The predicting branch has one, which is that of the sum (gradcheck)."""
    h1, v2 = rows(4, 3, 0).requires_grad_(), rows(4, 3, 1).requires_grad_()
    assert reached(negative_cosine(h1, v2), h1, v2) == [True, False]
    assert reached(-torch.cosine_similarity(h1, v2).mean(), h1, v2) == [True, True]  # negative control
    assert torch.autograd.gradcheck(lambda h: negative_cosine(h, v2), (h1,))
    p1, p2, k1, k2 = (rows(4, 3, seed).requires_grad_() for seed in range(4))
    assert reached(simsiam(p1, p2, k1, k2), p1, p2, k1, k2) == [True, True, False, False]


def test_half_precision_is_computed_in_float32() -> None:
    h1, v2 = rows(9, 5, 0).bfloat16(), rows(9, 5, 1).float()
    with torch.autocast("cpu", torch.bfloat16):
        loss = negative_cosine(h1, v2)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, negative_cosine(h1.float(), v2))


@pytest.mark.parametrize("shapes", [((3, 4), (3, 5)), ((3, 4, 1), (3, 4, 1))])
def test_views_of_two_shapes_are_refused(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match=r"two \(N, D\) batches of one shape"):
        negative_cosine(torch.ones(shapes[0]), torch.ones(shapes[1]))


def test_the_predictor_is_chen_and_he_s() -> None:
    """A bottleneck of a quarter, BatchNorm and ReLU in it, none at its end."""
    layers = list(build_predictor(128))
    assert [type(layer) for layer in layers] == [nn.Linear, BatchNorm, nn.Linear]
    shapes = {name: tuple(value.shape) for name, value in nn.Sequential(*layers).named_parameters()}
    assert shapes == {
        "0.weight": (32, 128), "1.weight": (32,), "1.bias": (32,), "2.weight": (128, 32), "2.bias": (128,),
    }  # fmt: skip
    assert layers[1].relu


def attached_simsiam(p1: Tensor, p2: Tensor, h1: Tensor, h2: Tensor) -> Tensor:
    """SimSiam's loss without the stop-gradient."""
    return -(torch.cosine_similarity(p1, h2) + torch.cosine_similarity(p2, h1)).mean() / 2


@pytest.mark.parametrize(("loss_of", "collapses"), [(simsiam, False), (attached_simsiam, True)])
def test_the_stop_gradient_keeps_views_apart(loss_of: Callable[..., Tensor], collapses: bool) -> None:
    """Chen & He's Fig. 2 in small: the spread of unit-length views is 1 / sqrt(D) at best, towards 0 in a collapse."""
    generator = torch.Generator().manual_seed(0)
    encoder = nn.Sequential(nn.Linear(8, 16), BatchNorm(16, relu=True), nn.Linear(16, 8))
    predictor = build_predictor(8)
    optimizer = torch.optim.SGD([*encoder.parameters(), *predictor.parameters()], lr=0.1, momentum=0.9)
    images = torch.randn(64, 8, generator=generator)
    for _ in range(150):
        h1, h2 = (encoder(images + 0.2 * torch.randn(images.shape, generator=generator)) for _ in range(2))
        loss = loss_of(predictor(h1), predictor(h2), h1, h2)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        spread = nn.functional.normalize(encoder(images), dim=1).std(0).mean() * 8**0.5
    assert spread < 0.25 if collapses else spread > 0.6
