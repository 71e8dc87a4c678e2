"""Contrastive objectives: equal to the papers' sums written as loops, stable, and honest about bad input."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hssl_ray.method import similarity
from hssl_ray.method.criterion_spec import SimilarityName
from hssl_ray.method.objectives import dcl, info_nce, nt_xent
from hssl_ray.method.similarity import Bilinear, Similarity

GOLDEN = Path(__file__).parents[1] / "golden" / "sesn_golden.npz"
Objective = Callable[..., Tensor]
Pair = Callable[[Tensor, Tensor], float]


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def eq3_by_hand(h1: Tensor, h2: Tensor, tau: float, s: Pair = cosine) -> float:
    """Eq. 3 summed over i, in the paper's own loops."""
    h, count, total = (h1, h2), len(h1), 0.0
    for i in range(count):
        positive = math.exp(s(h1[i], h2[i]) / tau)
        negatives = sum(
            math.exp(s(h[k][i], h[m][j]) / tau) for j in range(count) if j != i for k in (0, 1) for m in (0, 1)
        )
        total -= math.log(positive / negatives) / count
    return total


def simclr_by_hand(h1: Tensor, h2: Tensor, tau: float, s: Pair = cosine) -> float:
    """Eq. 1 of Chen et al. 2020, averaged over both directions of every pair."""
    h, count, total = torch.cat([h1, h2]), len(h1), 0.0
    for i in range(2 * count):
        others = sum(math.exp(s(h[i], h[j]) / tau) for j in range(2 * count) if j != i)
        total -= math.log(math.exp(s(h[i], h[(i + count) % (2 * count)]) / tau) / others)
    return total / (2 * count)


def decoupled_by_hand(h1: Tensor, h2: Tensor, tau: float, s: Pair = cosine) -> float:
    """Eq. 6 of Yeh et al. 2022, averaged over both directions of every pair."""
    h, count, total = (h1, h2), len(h1), 0.0
    for i in range(count):
        for k in (0, 1):
            negatives = sum(math.exp(s(h[k][i], h[m][j]) / tau) for j in range(count) if j != i for m in (0, 1))
            total += -s(h[k][i], h[1 - k][i]) / tau + math.log(negatives)
    return total / (2 * count)


BY_HAND: dict[Objective, Callable[..., float]] = {
    info_nce: eq3_by_hand,
    nt_xent: simclr_by_hand,
    dcl: decoupled_by_hand,
}


@pytest.fixture(params=list(BY_HAND), ids=["info_nce", "nt_xent", "dcl"])
def objective(request: pytest.FixtureRequest) -> Objective:
    chosen: Objective = request.param
    return chosen


def views(count: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    h1, h2 = torch.randn(2, count, width, generator=generator, dtype=torch.float64)
    return h1, h2


def test_info_nce_equals_the_golden_value() -> None:
    with np.load(GOLDEN, allow_pickle=False) as archive:
        h1, h2 = (torch.from_numpy(archive[f"eq3/{name}"]) for name in ("h1", "h2"))
        expected = float(archive["eq3/loss_tau0.1"])
    assert info_nce(h1, h2, 0.1).item() == pytest.approx(expected, abs=1e-10)
    assert abs(nt_xent(h1, h2, 0.1).item() - expected) > 0.1  # negative control: the objectives differ
    assert abs(info_nce(h1, h2, 0.2).item() - expected) > 0.1


@pytest.mark.parametrize("tau", [0.05, 0.1, 1.0])
@pytest.mark.parametrize("count", [2, 9])
def test_objectives_equal_literal_loops(objective: Objective, tau: float, count: int) -> None:
    h1, h2 = views(count, 6)
    assert objective(h1, h2, tau).item() == pytest.approx(BY_HAND[objective](h1, h2, tau), abs=1e-10)


def bilinear(width: int, *, literal: bool) -> tuple[Bilinear, Pair]:
    """A similarity whose W is no multiple of the identity, and the same for one pair."""
    module = Bilinear(width, literal=literal).double()
    with torch.no_grad():
        noise = torch.randn(width, width, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        module.weight.add_(noise)
    weight = module.weight.detach() / width

    def s(a: Tensor, b: Tensor) -> float:
        return math.exp(a @ weight @ b) if literal else float(a @ weight @ b)

    return module, s


@pytest.mark.parametrize("literal", [False, True], ids=["log_bilinear", "literal_bilinear"])
def test_objectives_equal_literal_loops_with_bilinear_similarity(objective: Objective, literal: bool) -> None:
    """s(a, b) is not s(b, a) here, so rows and columns cannot be mixed up; nor is s the cosine (negative control)."""
    (h1, h2), (module, s) = views(6, 5), bilinear(5, literal=literal)
    expected = BY_HAND[objective](h1, h2, 0.5, s)
    assert objective(h1, h2, 0.5, module).item() == pytest.approx(expected, abs=1e-10)
    assert abs(BY_HAND[objective](h1, h2, 0.5, lambda a, b: s(b, a)) - expected) > 1e-3
    assert abs(BY_HAND[objective](h1, h2, 0.5) - expected) > 1e-2


@pytest.mark.parametrize("literal", [False, True], ids=["log_bilinear", "literal_bilinear"])
def test_bilinear_gradients_are_those_of_the_loops(objective: Objective, literal: bool) -> None:
    """With respect to both views and to W."""
    (h1, h2), (module, _) = views(4, 3), bilinear(3, literal=literal)

    def loss(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
        changed = {"similarity.weight": weight}
        value: Tensor = torch.func.functional_call(_Loss(objective, module), changed, (a, b))
        return value

    inputs = (h1.requires_grad_(), h2.requires_grad_(), module.weight.detach().clone().requires_grad_())
    assert torch.autograd.gradcheck(loss, inputs)


class _Loss(nn.Module):
    def __init__(self, objective: Objective, similarity: nn.Module) -> None:
        super().__init__()
        self.objective = objective
        self.similarity = similarity

    def forward(self, h1: Tensor, h2: Tensor) -> Tensor:
        return self.objective(h1, h2, 0.5, self.similarity)


@pytest.mark.parametrize("name", ["log_bilinear", "literal_bilinear"])
def test_bilinear_similarity_starts_near_the_cosine(name: SimilarityName) -> None:
    """On rows of BatchNorm's length, sqrt(D): a^T W b is the cosine at first, the literal reading its exponential."""
    rows = torch.nn.functional.normalize(views(9, 16)[0], dim=1) * 4
    found = similarity.build_similarity(name, 16)(rows.float())
    expected = similarity.cosine(rows).float()
    torch.testing.assert_close(found, expected.exp() if name == "literal_bilinear" else expected)


def test_identical_views_have_a_closed_form() -> None:
    """All vectors equal: every similarity is 1, so Eq. 3 is log 4(N - 1), NT-Xent log(2N - 1), DCL log 2(N - 1)."""
    h = torch.ones(8, 4)
    assert info_nce(h, h, 0.1).item() == pytest.approx(math.log(28), abs=1e-5)
    assert nt_xent(h, h, 0.1).item() == pytest.approx(math.log(15), abs=1e-5)
    assert dcl(h, h, 0.1).item() == pytest.approx(math.log(14), abs=1e-5)


@pytest.mark.parametrize("s", [similarity.cosine, bilinear(5, literal=False)[0]], ids=["cosine", "bilinear"])
def test_eq3_is_dcl_and_log_2_where_views_are_alike(s: Similarity) -> None:
    """Identical views have the same negatives, so equal."""
    h1, _ = views(7, 5)
    assert (info_nce(h1, h1, 0.2, s) - dcl(h1, h1, 0.2, s)).item() == pytest.approx(math.log(2), abs=1e-12)


def test_eq3_is_more_than_that_where_they_are_not() -> None:
    """By convexity; negative control of the test above."""
    h1, h2 = views(7, 5)
    assert (info_nce(h1, h2, 0.2) - dcl(h1, h2, 0.2)).item() > math.log(2) + 1e-2


def test_nt_xent_is_dcl_with_the_positive_in_the_denominator() -> None:
    """So it is the larger one, by log(1 + exp(positive - negatives)) for each row."""
    h1, h2 = views(7, 5)
    rows = torch.nn.functional.normalize(torch.cat([h1, h2]), dim=1)
    logits = rows @ rows.T / 0.3
    image = torch.arange(14) % 7
    negatives = logits.masked_fill(image[:, None] == image, -math.inf).logsumexp(1)
    positives = logits.diagonal(7).repeat(2)
    extra = torch.nn.functional.softplus(positives - negatives).mean()
    torch.testing.assert_close(nt_xent(h1, h2, 0.3), dcl(h1, h2, 0.3) + extra)
    assert extra > 1e-3


def test_the_backward_pass_keeps_one_matrix_of_similarities(objective: Objective) -> None:
    """At N = 4096 each is 256 MiB in float32. Beside it stays the mask, a quarter of that."""
    h1, h2 = (h.float().requires_grad_() for h in views(64, 4))
    kept: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        if x.numel() >= 128**2:
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        loss = objective(h1, h2, 0.1)
    assert loss.isfinite()
    assert sum(kept.values()) == 128**2 * (4 + 1)


def test_without_the_positive_below_it_a_loss_can_be_negative() -> None:
    """Well separated pairs push Eq. 3 and DCL below zero; NT-Xent stays above."""
    h = torch.eye(4)
    assert info_nce(h, h, 0.1).item() == pytest.approx(math.log(12) - 10, abs=1e-4)
    assert dcl(h, h, 0.1).item() == pytest.approx(math.log(6) - 10, abs=1e-4)
    assert nt_xent(h, h, 0.1).item() > 0


def test_views_and_lengths_do_not_matter_but_pairs_do(objective: Objective) -> None:
    h1, h2 = views(7, 5)
    loss = objective(h1, h2, 0.1)
    torch.testing.assert_close(objective(h2, h1, 0.1), loss)
    torch.testing.assert_close(objective(h1 * 3, h2 * 0.2, 0.1), loss)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(objective(h1[order], h2[order], 0.1), loss)
    assert (objective(h1, h2.roll(1, 0), 0.1) - loss).abs() > 0.05


def test_gradients_are_those_of_the_loops(objective: Objective) -> None:
    h1, h2 = (h.requires_grad_() for h in views(4, 3))
    assert torch.autograd.gradcheck(lambda a, b: objective(a, b, 0.2), (h1, h2))


def test_small_temperatures_stay_finite(objective: Objective) -> None:
    h1, h2 = (h.float().requires_grad_() for h in views(16, 8))
    loss = objective(h1, h2, 1e-3)  # exp(1000) is far beyond float32
    loss.backward()  # type: ignore[no-untyped-call]
    assert h1.grad is not None
    assert loss.isfinite()
    assert h1.grad.isfinite().all()


def test_half_precision_is_computed_in_float32(objective: Objective) -> None:
    h1, h2 = (h.to(torch.bfloat16) for h in views(32, 16))
    with torch.autocast("cpu", torch.bfloat16):
        loss = objective(h1, h2, 0.1)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, objective(h1.float(), h2.float(), 0.1))


def test_a_large_batch_is_one_matrix_product(objective: Objective) -> None:
    h1, h2 = (h.float() for h in views(2048, 8))
    assert objective(h1, h2, 0.1).isfinite()


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        (((1, 4), (1, 4)), "at least 2 images, got 1"),
        (((3, 4), (3, 5)), "two \\(N, D\\) batches of one shape"),
        (((3, 4, 1), (3, 4, 1)), "two \\(N, D\\) batches of one shape"),
    ],
)
def test_impossible_batches_are_refused(
    objective: Objective, shapes: tuple[tuple[int, ...], tuple[int, ...]], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        objective(torch.ones(shapes[0]), torch.ones(shapes[1]), 0.1)
