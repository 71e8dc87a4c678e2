"""Contract of every group: the axioms, its two representations, fibers in order, windows without padding."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hssl_ray.method import geometry
from hssl_ray.method.groups import Group, Rotation, Scale, Translation, build_group


def elements(group: Group) -> Tensor:
    return torch.arange(group.order)


def inside(group: Group) -> tuple[Tensor, Tensor]:
    """All pairs (g, h) whose product stays inside the group."""
    pairs = []
    for g, h in itertools.product(range(group.order), repeat=2):
        try:
            group.compose(torch.tensor([g]), torch.tensor([h]))
        except ValueError:
            continue
        pairs.append((g, h))
    g, h = torch.tensor(pairs).T
    return g, h


def blob(count: int, size: int) -> Tensor:
    """Smooth images with content well inside a dark border, each a little different."""
    axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    shift = torch.linspace(-1.5, 1.5, count, dtype=torch.float64)
    rows = torch.exp(-((axis - shift[:, None]) ** 2) / (0.015 * size**2))
    columns = torch.exp(-((axis + shift[:, None] / 2) ** 2) / (0.03 * size**2))
    return (rows[:, :, None] * columns[:, None, :])[:, None]


def test_identity(group: Group, make_images: Callable[..., Tensor]) -> None:
    g = elements(group)
    zero = torch.zeros_like(g)
    assert torch.equal(group.compose(zero, g), g)
    assert torch.equal(group.compose(g, zero), g)
    assert torch.equal(group.shift(g, zero), g)
    x = make_images(3, 29)
    z = torch.randn(3, 2, group.lifted_order, 8, 8, dtype=torch.float64)
    assert torch.equal(group.transform_input(zero[:3], x), x)
    assert torch.equal(group.transform_features(zero[:3], z), z)
    assert group.known_features(zero[:3], z).all()


def test_products_are_associative_and_act_in_turn(group: Group) -> None:
    """(g h)^-1 . g0 = h^-1 . (g^-1 . g0), wherever both stay inside."""
    g, h = inside(group)
    product = group.compose(g, h)
    assert len(g) >= group.order
    for base in range(0, group.order, max(1, group.order // 7)):
        g0 = torch.full_like(g, base)
        reach = torch.tensor([_shiftable(group, base, int(p)) for p in product])
        moved = group.shift(group.shift(g0[reach], g[reach]), h[reach])
        assert torch.equal(moved, group.shift(g0[reach], product[reach]))


def _shiftable(group: Group, base: int, g: int) -> bool:
    try:
        group.shift(torch.tensor([base]), torch.tensor([g]))
    except ValueError:
        return False
    return True


def test_inverse_undoes_where_it_exists(group: Group, make_images: Callable[..., Tensor]) -> None:
    g = elements(group) if group.geometry.cyclic else torch.zeros(1, dtype=torch.int64)
    back = group.inverse(g)
    assert (group.compose(g, back) == 0).all()
    assert (group.compose(back, g) == 0).all()
    x = make_images(len(g))
    torch.testing.assert_close(group.transform_input(back, group.transform_input(g, x)), x)


def test_windows_have_no_other_inverse(group: Group) -> None:
    if group.geometry.cyclic:
        assert group.inverse(torch.tensor([1])).item() == group.order - 1
        return
    with pytest.raises(ValueError, match="only element 0"):
        group.inverse(torch.tensor([0, 1]))


def test_input_representation_multiplies(group: Group, make_images: Callable[..., Tensor]) -> None:
    """T_g T_h = T_gh, exactly; scales only where they are a geometric series, and to resampling."""
    if isinstance(group, Scale):
        scales = tuple(2 ** (i / 4) for i in range(5))
        group = Scale(geometry.scale(scales), scales)
    g, h = inside(group)
    keep = torch.arange(0, len(g), max(1, len(g) // 40))
    g, h = g[keep], h[keep]
    x = blob(len(g), 65) if isinstance(group, Scale) else make_images(len(g))
    twice = group.transform_input(g, group.transform_input(h, x))
    assert (twice - group.transform_input(group.compose(g, h), x)).abs().max() <= (
        0.03 if isinstance(group, Scale) else 0
    )


def test_feature_representation_multiplies(group: Group) -> None:
    """Gamma_g Gamma_h = Gamma_gh where the features are known, exactly; to resampling for scales."""
    if isinstance(group, Scale):
        scales = tuple(2 ** (i / 4) for i in range(5))
        group = Scale(geometry.scale(scales), scales)
    g, h = inside(group)
    keep = torch.arange(0, len(g), max(1, len(g) // 40))
    g, h = g[keep], h[keep]
    if isinstance(group, Scale):
        z = blob(len(g), 65)[:, :, None] * torch.arange(1.0, group.order + 1)[:, None, None]
        allowed = 0.03 * z.max().item()
    else:
        z = torch.randn(len(g), 3, group.lifted_order, 8, 8, dtype=torch.float64)
        allowed = 0.0
    product = group.compose(g, h)
    apart = group.transform_features(g, group.transform_features(h, z)) - group.transform_features(product, z)
    assert apart.where(group.known_features(product, z), 0.0).abs().max() <= allowed


def test_bundle_is_the_features_moved_to_the_base(group: Group) -> None:
    """Gamma_g[z](g0) = z(g^-1 . g0): reading moved features at the base is reading features at the moved base."""
    if isinstance(group, Scale):
        z = blob(group.order, 29)[:, :, None] * torch.arange(1.0, group.order + 1)[:, None, None]
    else:
        z = torch.randn(group.order, 3, group.lifted_order, 8, 8, dtype=torch.float64)
    g, zero = elements(group), torch.zeros(group.order, dtype=torch.int64)
    moved = group.bundle(group.transform_features(g, z), zero, zero)
    there = group.bundle(z, zero, g)
    if isinstance(group, Scale):  # a shrunk map has its content on factor**2 of the area, and a mean is over the whole
        there = there * (group.scales[0] / torch.tensor(group.scales, dtype=torch.float64)[:, None]) ** 2
    torch.testing.assert_close(moved, there, rtol=1e-3 if isinstance(group, Scale) else 1e-12, atol=1e-12)


def test_distance_is_the_geometrys_and_a_metric(group: Group) -> None:
    g = elements(group)
    table = group.distance(g[:, None], g[None, :])
    assert torch.equal(table, table.T)
    assert (table.diagonal() == 0).all()
    assert (table[:, None, :] <= table[:, :, None] + table[None, :, :] + 1e-12).all()
    for a, b in itertools.product(range(0, group.order, 3), repeat=2):
        assert table[a, b].item() == pytest.approx(group.geometry.distance(a, b))
    assert table.max().item() == pytest.approx(group.geometry.diameter)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (torch.tensor([-1]), "from 0 to"),
        (torch.tensor([64]), "from 0 to"),
        (torch.tensor([0], dtype=torch.int32), "int64"),
    ],
)
def test_foreign_elements_are_refused(bad: Tensor, says: str, group: Group) -> None:
    zero = torch.zeros(1, dtype=torch.int64)
    for operation in (group.checked, group.inverse, lambda g: group.shift(zero, g), lambda g: group.base(g, 1)):
        with pytest.raises(ValueError, match=says):
            operation(bad)
    with pytest.raises(ValueError, match=says):
        group.transform_features(bad, torch.zeros(1, 1, group.lifted_order, 8, 8))


NUMBERED = {
    "rotation": (1, 3, 3, [2, 3, 0]),  # g0 - g, wrapping
    "scale": (1, 2, 3, [3, 4, 5]),  # g0 + g
    "translation": (9, 17, 4, [26, 27, 34, 35]),  # cell (1, 1) moved by (2, 1), a 2 x 2 patch in reading order
}


def test_bundles_are_ordered(group: Group) -> None:
    """Fibers stand in the order of the base, each with all its channels together."""
    g0, g, base_size, expected = NUMBERED[group.geometry.name]
    number = elements(group).to(torch.float64)
    lifted = not isinstance(group, Translation)
    z = number[:, None, None].expand(1, 1, -1, 4, 4) if lifted else number.view(1, 1, 1, 8, 8)
    z = torch.cat([z, z + 0.5], dim=1)  # second channel: half a number more
    bundle = group.bundle(z, torch.tensor([g0]), torch.tensor([g]), base_size)
    assert bundle.tolist() == [[value for place in expected for value in (place, place + 0.5)]]


def test_bundles_take_each_images_own_elements(group: Group) -> None:
    z = torch.randn(5, 3, group.lifted_order, 8, 8, dtype=torch.float64)
    g0, g = torch.zeros(5, dtype=torch.int64), torch.tensor([0, 2, 1, 3, 2])
    together = group.bundle(z, g0, g)
    for n in range(5):
        torch.testing.assert_close(together[n], group.bundle(z[n : n + 1], g0[n : n + 1], g[n : n + 1])[0])


@pytest.mark.parametrize(
    ("build", "g0", "g", "base_size"),
    [
        (lambda: Scale(geometry.scale()), 3, 3, 1),
        (lambda: Scale(geometry.scale()), 5, 0, 2),
        (lambda: Scale(geometry.scale()), 2, 2, 3),
        (lambda: Translation(geometry.translation(8), image_size=28, stride=4), 7, 1, 1),  # would wrap to the next row
        (lambda: Translation(geometry.translation(8), image_size=28, stride=4), 56, 8, 1),
        (lambda: Translation(geometry.translation(8), image_size=28, stride=4), 6, 1, 4),
    ],
)
def test_windows_have_no_padding(build: Callable[[], Group], g0: int, g: int, base_size: int) -> None:
    group = build()
    z = torch.zeros(1, 2, group.lifted_order, 8, 8)
    with pytest.raises(ValueError, match=re.escape("outside the window")):
        group.bundle(z, torch.tensor([g0]), torch.tensor([g]), base_size)


def test_origins_are_exactly_where_a_base_fits(group: Group) -> None:
    for base_size in (1, 4) if isinstance(group, Translation) else (1, 2, 3):
        fits = [int(g) for g in elements(group) if _fits(group, g, base_size)]
        assert group.origins(base_size).tolist() == fits


def _fits(group: Group, g: Tensor, base_size: int) -> bool:
    try:
        group.base(g[None], base_size)
    except ValueError:
        return False
    return True


def test_a_base_as_large_as_the_group_is_refused(group: Group) -> None:
    with pytest.raises(ValueError, match="must be from 1 to"):
        group.origins(group.order)


# what each T_g does to pixels


def test_rotation_is_rot90_of_each_image(rotation: Group, make_images: Callable[..., Tensor]) -> None:
    x = make_images(4, 7, channels=2)
    turned = rotation.transform_input(torch.arange(4), x)
    for r in range(4):
        assert torch.equal(turned[r], torch.rot90(x[r], r, (1, 2)))
    with pytest.raises(ValueError, match="needs a square"):
        rotation.transform_input(torch.zeros(4, dtype=torch.int64), x[..., :5])


def test_translation_shifts_each_image_and_fills_with_zero(make_images: Callable[..., Tensor]) -> None:
    group = Translation(geometry.translation(8), image_size=28, stride=4)
    x = make_images(3, 9)
    moved = group.transform_input(torch.tensor([[2.0, -3.0], [0.0, 0.0], [-9.0, 0.0]]), x)
    assert torch.equal(moved[0, :, 2:, :6], x[0, :, :7, 3:])
    assert (moved[0, :, :2] == 0).all()
    assert (moved[0, :, :, 6:] == 0).all()
    assert torch.equal(moved[1], x[1])
    assert (moved[2] == 0).all()
    by_element = group.transform_input(torch.tensor([8, 1, 9]), x)  # cells (1, 0), (0, 1), (1, 1)
    by_pixels = group.transform_input(torch.tensor([[-4.0, 0.0], [0.0, -4.0], [-4.0, -4.0]]), x)
    assert torch.equal(by_element, by_pixels)
    with pytest.raises(ValueError, match=re.escape("(N, 2) pixels")):
        group.transform_input(torch.zeros(3, 1), x)


def test_scale_keeps_brightness_and_centre_and_shrinks_area() -> None:
    group = Scale(geometry.scale())
    x = blob(4, 41)
    factors = torch.tensor([[1.0], [0.8], [0.57], [0.3]], dtype=torch.float64)
    small = group.transform_input(factors, x)
    assert torch.equal(small[0], x[0])
    torch.testing.assert_close(small.sum((1, 2, 3)), x.sum((1, 2, 3)) * factors[:, 0] ** 2, rtol=1e-2, atol=0)
    axis = torch.arange(41, dtype=torch.float64) - 20
    centre = (x.sum((1, 3)) * axis).sum(1) / x.sum((1, 2, 3))
    moved = (small.sum((1, 3)) * axis).sum(1) / small.sum((1, 2, 3))
    torch.testing.assert_close(moved, centre * factors[:, 0], rtol=1e-2, atol=1e-3)
    by_element = group.transform_input(torch.arange(4), x)
    by_factor = group.transform_input(1 / torch.tensor(group.scales, dtype=torch.float64)[:4, None], x)
    assert torch.equal(by_element, by_factor)


def test_scale_is_antialiased_and_even_inside() -> None:
    group = Scale(geometry.scale())
    cells = torch.arange(29)
    board = ((cells[:, None] + cells) % 2 * 2.0 - 1)[None, None]
    assert group.transform_input(torch.tensor([[0.5]]), board)[0, 0, 10:19, 10:19].abs().max() < 1e-6
    for factor in (0.57, 0.71, 0.9):
        flat = group.transform_input(torch.tensor([[factor]]), torch.ones(1, 1, 29, 29))
        torch.testing.assert_close(flat[0, 0, 10:19, 10:19], torch.ones(9, 9))
        assert (flat[0, 0, 0] < 1).all()  # the zero outside shows


@pytest.mark.parametrize(
    "bad", [torch.tensor([[0.0]]), torch.tensor([[1.2]]), torch.tensor([[float("nan")]]), torch.ones(1)]
)
def test_impossible_scales_are_refused(bad: Tensor) -> None:
    with pytest.raises(ValueError, match=re.escape("factors in (0, 1]")):
        Scale(geometry.scale()).transform_input(bad, torch.ones(1, 1, 5, 5))


def test_transforms_ignore_autocast(group: Group, make_images: Callable[..., Tensor]) -> None:
    x = make_images(4, dtype=torch.float32)
    g = torch.tensor([0, 1, 2, 3])
    with torch.autocast("cpu", torch.bfloat16):
        inside_autocast = group.transform_input(g, x)
    assert torch.equal(inside_autocast, group.transform_input(g, x))


def test_augmentations_have_the_papers_ranges() -> None:
    u = torch.rand(4000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    turns = Rotation(geometry.rotation()).augmentation(u)
    assert sorted(set(turns.tolist())) == [0, 1, 2, 3]
    factors = Scale(geometry.scale()).augmentation(u)
    assert factors.shape == (4000, 1)
    assert 1 / 1.75 <= factors.min().item() < 0.575
    assert 0.995 < factors.max().item() <= 1
    pixels = Translation(geometry.translation(8), image_size=28, stride=4).augmentation(u)
    assert pixels.shape == (4000, 2)
    assert set(pixels.flatten().tolist()) == set(range(-5, 6))  # 20 % of 28, whole pixels


def test_groups_are_built_by_name() -> None:
    for name, make in (("rotation", Rotation), ("scale", Scale), ("translation", Translation)):
        built = build_group(name, geometry.geometry(name, 8), image_size=28, stride=4)  # type: ignore[arg-type]
        assert type(built) is make
    with pytest.raises(ValueError, match="geometry of rotation"):
        build_group("scale", geometry.rotation(), image_size=28, stride=4)
    with pytest.raises(ValueError, match="not those of the geometry"):
        Scale(geometry.scale(), (1.0, 2.0))
