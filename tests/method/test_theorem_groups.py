"""The theorem (paper, Section 3) on groups beyond the paper's, mixing lifted elements or not, and on products.

With it the negative controls: free kernels, neighbours taken from the wrong side, another draw.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hssl_ray.method import geometry
from hssl_ray.method.draws import Draw, Stream, pair_draw, uniforms
from hssl_ray.method.groups import Dihedral, Group, Rotation, RotationTranslation, ScaleTranslation
from hssl_ray.method.normalisation import BatchNorm
from hssl_ray.method.objectives import info_nce
from hssl_ray.method.steerable import GroupConv2d, LiftingConv2d
from hssl_ray.method.views import Views, a_ssl_views, h_ssl_views

IMAGES = 8
WHOLE: dict[str, Callable[[], Group]] = {
    "C4": lambda: Rotation(geometry.rotation()),
    "C8": lambda: Rotation(geometry.rotation(8)),
    "D4": lambda: Dihedral(geometry.dihedral()),
}
CASES = [("D4", 1, 1), ("D4", 3, 3), ("D4", 8, 2), ("C4", 4, 3), ("C8", 1, 3), ("C8", 8, 1)]  # mixing, base size
ViewsOf = Callable[[nn.Module, Tensor, Group, Draw, int], Views]


def relative_error(actual: Tensor, expected: Tensor) -> float:
    return ((actual - expected).abs().max() / expected.abs().max()).item()


def convolutions(group: Group, mixing: int, *, normalised: bool) -> nn.Sequential:
    """The paper's MNIST network, narrow, with filters that span `mixing` lifted elements."""
    layers: list[nn.Module] = [
        LiftingConv2d(1, 4, 11, 5, group, padding=5),
        GroupConv2d(4, 6, 7, 3, group, stride=2, padding=3, mixing=mixing),
        GroupConv2d(6, 8, 7, 3, group, stride=2, padding=3, mixing=mixing),
    ]
    after: Callable[[int], nn.Module] = (lambda width: BatchNorm(width, relu=True)) if normalised else _relu
    network = nn.Sequential(
        *(part for layer, width in zip(layers, (4, 6, 8), strict=True) for part in (layer, after(width)))
    )
    return network.double()


def _relu(width: int) -> nn.Module:
    return nn.ReLU()


def draw_of(group: Group, base_size: int, seed: int = 0) -> Draw:
    """Elements of its own for every image; on C8 from its quarter turns, which are exact."""
    draw = pair_draw(group, uniforms(seed, 0, Stream.PAIRS, torch.arange(IMAGES), 3), base_size)
    step = len(group.angles)
    return Draw(draw.g0, draw.g1 // step * step, draw.g2 // step * step)


def outcome(f: nn.Module, head: nn.Module, x: Tensor, group: Group, draw: Draw, views_of: ViewsOf) -> list[Tensor]:
    """Both views, the loss and the gradient of all weights, in training mode."""
    f.zero_grad()
    v1, v2 = views_of(f, x, group, draw, head.in_features // 8)  # type: ignore[operator, arg-type]
    loss = info_nce(head(v1), head(v2), 0.1)
    loss.backward()  # type: ignore[no-untyped-call]
    gradient = torch.cat([weight.grad.flatten() for weight in f.parameters() if weight.grad is not None])
    return [torch.cat([v1, v2]).detach(), loss.detach(), gradient]


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize(("name", "mixing", "base_size"), CASES)
def test_a_ssl_and_h_ssl_are_one_method(
    name: str, mixing: int, base_size: int, make_images: Callable[..., Tensor]
) -> None:
    """On noise of 29 cells, with training-mode BatchNorm."""
    group = WHOLE[name]()
    f, head = convolutions(group, mixing, normalised=True), nn.Linear(8 * base_size, 8).double()
    x, draw = make_images(IMAGES), draw_of(group, base_size)
    a, h = (outcome(f, head, x, group, draw, views_of) for views_of in (a_ssl_views, h_ssl_views))
    for from_images, from_features in zip(a, h, strict=True):
        assert relative_error(from_images, from_features) < 1e-10
    other = outcome(f, head, x, group, draw_of(group, base_size, seed=1), h_ssl_views)
    assert relative_error(other[0], h[0]) > 0.01  # views do depend on the draw


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("broken", ["free kernels", "even grid", "left neighbours"])
def test_without_equivariance_they_are_two(
    name: str,
    broken: str,
    make_images: Callable[..., Tensor],
    without_structure: Callable[[nn.Module], nn.Module],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    group = WHOLE[name]()
    f, head = convolutions(group, 3, normalised=True), nn.Linear(8, 8).double()
    if broken == "free kernels":
        without_structure(f)
    if broken == "left neighbours":
        left = lambda g, s: int(group.compose(torch.tensor(s), torch.tensor(g)))  # noqa: E731
        monkeypatch.setattr(group, "lifted_neighbour", left)
    x, draw = make_images(IMAGES, 28 if broken == "even grid" else 29), draw_of(group, 1)
    a, h = (outcome(f, head, x, group, draw, views_of) for views_of in (a_ssl_views, h_ssl_views))
    apart = relative_error(a[0], h[0])
    if broken == "left neighbours" and name != "D4":
        assert apart < 1e-10  # where the product commutes there is no left and right
    else:
        assert apart > 0.02


SIDE = 16  # cells of the feature grid; 61 pixels at 4 to a cell


def interior(seed: int, top: int) -> Tensor:
    """Noise on 9 x 9 pixels, the first of them at (top, top) or close by."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.zeros(IMAGES, 1, 61, 61, dtype=torch.float64)
    inner = slice(top, top + 9)
    x[:, :, inner, inner] = torch.randn(IMAGES, 1, 9, 9, generator=generator, dtype=torch.float64)
    return x


def rotation_translation_case() -> tuple[RotationTranslation, Draw]:
    """Turns about the centre, moves of up to three cells, places near the centre."""
    group = RotationTranslation(geometry.rotation_translation(SIDE), image_size=61, stride=4)
    generator = torch.Generator().manual_seed(0)
    places = torch.randint(4, 8, (IMAGES, 2), generator=generator)
    moves = torch.randint(0, 4, (2, IMAGES, 2), generator=generator)
    turns = torch.randint(0, 4, (3, IMAGES), generator=generator)
    cells = torch.cat([places[None], moves])
    g0, g1, g2 = turns * SIDE**2 + cells[..., 0] * SIDE + cells[..., 1]
    return group, Draw(g0, g1, g2)


@pytest.mark.parametrize(("mixing", "base_size"), [(1, 1), (1, 3), (4, 2)])
def test_rotation_translation_theorem_on_interior_content(mixing: int, base_size: int) -> None:
    """Content about the centre, which stays 10 pixels inside (the reach of two layers) under every element."""
    group, draw = rotation_translation_case()
    f, x = convolutions(group, mixing, normalised=False), interior(0, 26)
    with torch.no_grad():
        a1, a2 = a_ssl_views(f, x, group, draw, base_size)
        h1, h2 = h_ssl_views(f, x, group, draw, base_size)
        assert a1.shape == (IMAGES, 8 * base_size)
        assert (h1.abs().amax(1) > 1e-4).double().mean() > 0.8  # nearly every view sees the content
        torch.testing.assert_close(a1, h1, rtol=0, atol=1e-12)
        torch.testing.assert_close(a2, h2, rtol=0, atol=1e-12)


@pytest.mark.parametrize("broken", ["content leaves", "free kernels", "another turn"])
def test_rotation_translation_theorem_fails(broken: str, without_structure: Callable[[nn.Module], nn.Module]) -> None:
    group, draw = rotation_translation_case()
    f, x = convolutions(group, 1, normalised=False), interior(0, 26)
    if broken == "content leaves":
        x = interior(0, 0) + interior(1, 50)
        draw = Draw(draw.g0 // SIDE**2 * SIDE**2, draw.g1, draw.g2)  # at the first cell
    if broken == "free kernels":
        without_structure(f)
    with torch.no_grad():
        a1, _ = a_ssl_views(f, x, group, draw)
        other = Draw(draw.g0, (draw.g1 + SIDE**2) % group.order, draw.g2) if broken == "another turn" else draw
        h1, _ = h_ssl_views(f, x, group, other)
    assert relative_error(a1, h1) > 0.05


def test_scale_translation_theorem_holds_approximately_at_the_first_cell() -> None:
    """Smooth content right of and below the cell that comes to lie first, as what is above it is cut off. Measured
    0.07 to 0.27 of the norm; 0.55 to 0.84 with the scale left out, 0.97 and more one cell beside.
    """
    group = ScaleTranslation(geometry.scale_translation(SIDE), image_size=61, stride=4)
    axis = torch.arange(61, dtype=torch.float64)
    centres = 17 + 2 * torch.rand(2, IMAGES, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows, columns = torch.exp(-((axis - centres) ** 2) / 10)
    x = (rows[:, :, None] * columns[:, None])[:, None]
    lift = LiftingConv2d(1, 16, 11, 3, group, stride=4, padding=5).double()
    zero, cell = torch.zeros(IMAGES, dtype=torch.int64), 3 * SIDE + 3
    right: list[float] = []
    unscaled: list[float] = []
    unmoved: list[float] = []
    with torch.no_grad():
        z = lift(x)
        for scale in range(6):
            g = zero + scale * SIDE**2 + cell
            seen = group.bundle(lift(group.transform_input(g, x)), zero, zero)
            for errors, place in ((right, g), (unscaled, zero + cell), (unmoved, g - SIDE)):
                errors.append(((seen - group.bundle(z, zero, place)).norm() / seen.norm()).item())
    assert max(right) < 0.5
    assert right[0] < 0.1
    assert sum(right) < 0.5 * sum(unscaled[1:])
    assert sum(right) < 0.5 * sum(unmoved)
