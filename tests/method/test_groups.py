"""Contract of every group: the axioms, its two representations, fibers in order, windows without padding."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hssl_ray.method import geometry
from hssl_ray.method.groups import Group, Rotation, Scale, ScaleTranslation, Translation

MOST_PAIRS = 1500  # of a large group, spread over all of them


def elements(group: Group) -> Tensor:
    return torch.arange(group.order)


def allowed(operation: Callable[..., Tensor], *arguments: Tensor) -> Tensor:
    """Which rows of the arguments an operation of the group takes, bool (N,)."""

    def takes(*row: Tensor) -> bool:
        try:
            operation(*row)
        except ValueError:
            return False
        return True

    return torch.tensor([takes(*row) for row in zip(*(a[:, None] for a in arguments), strict=True)])


def inside(group: Group, most: int = MOST_PAIRS) -> tuple[Tensor, Tensor]:
    """Pairs (g, h) whose product stays inside the group: all, or many spread over a large one."""
    pairs = torch.cartesian_prod(elements(group), elements(group))
    if len(pairs) > most:
        generator = torch.Generator().manual_seed(0)
        pairs = pairs[torch.randperm(len(pairs), generator=generator)[:most]]
    g, h = pairs[allowed(group.compose, *pairs.T)].T
    return g, h


def on_a_series(group: Group) -> Group:
    """The same kind of group on scales that are a geometric series, where indices compose without error."""
    if isinstance(group, Scale):
        scales = tuple(2 ** (i / 4) for i in range(5))
        return Scale(geometry.scale(scales), scales)
    if isinstance(group, ScaleTranslation):
        series = geometry.scale_translation(8, scales=(1.0, 2.0, 4.0))
        return ScaleTranslation(series, image_size=28, stride=4)
    return group


def error_of_sampling(group: Group) -> float:
    """What two resamplings of `content` may differ by from one, of its largest value; 0 where whole cells move."""
    if isinstance(group, Rotation) and group.order == 8:
        return 5e-3
    return 0.03 if isinstance(group, Scale | ScaleTranslation) else 0.0


def content(group: Group, count: int, size: int) -> Tensor:
    """Images that keep away from the border, so that nothing leaves and comes back: smooth where the group resamples,
    noise, the worst case, where it does not.
    """
    if error_of_sampling(group):
        return blob(count, size)
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(count, 1, size, size, dtype=torch.float64)
    inner = slice(size // 2 - 2, size // 2 + 3)
    x[:, :, inner, inner] = torch.randn(count, 1, 5, 5, generator=generator, dtype=torch.float64)
    return x


def blob(count: int, size: int) -> Tensor:
    """Smooth images with content well inside a dark border, each a little different."""
    axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    shift = torch.linspace(-1.5, 1.5, count, dtype=torch.float64)
    rows = torch.exp(-((axis - shift[:, None]) ** 2) / (0.015 * size**2))
    columns = torch.exp(-((axis + shift[:, None] / 2) ** 2) / (0.03 * size**2))
    return (rows[:, :, None] * columns[:, None, :])[:, None]


def features(group: Group, count: int, *, channels: int = 3, size: int = 8) -> Tensor:
    """Noise on every lifted element; on 65 cells, smooth and a multiple of one map, for a group that resamples maps."""
    if isinstance(group, Scale) or (isinstance(group, Rotation) and group.order == 8):
        return blob(count, 65)[:, :, None] * torch.arange(1.0, group.lifted_order + 1)[:, None, None]
    return torch.randn(count, channels, group.lifted_order, size, size, dtype=torch.float64)


def some(g: Tensor, h: Tensor, count: int = 40) -> tuple[Tensor, Tensor]:
    keep = torch.arange(0, len(g), max(1, len(g) // count))
    return g[keep], h[keep]


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


def test_products_are_associative(group: Group) -> None:
    """(g h) k = g (h k), wherever both stay inside."""
    group = on_a_series(group)
    g, h = some(*inside(group), count=150)
    k = torch.cat([h.roll(step) for step in (1, 2, 5, 11)])
    g, h = g.repeat(4), h.repeat(4)
    reach = allowed(lambda *e: group.compose(group.compose(e[0], e[1]), e[2]), g, h, k)
    reach &= allowed(lambda *e: group.compose(e[0], group.compose(e[1], e[2])), g, h, k)
    g, h, k = g[reach], h[reach], k[reach]
    assert (g * h * k > 0).sum() >= 2  # not the identity's alone
    assert torch.equal(group.compose(group.compose(g, h), k), group.compose(g, group.compose(h, k)))


def test_products_act_in_turn(group: Group) -> None:
    """(g h)^-1 . g0 = h^-1 . (g^-1 . g0), wherever both stay inside."""
    group = on_a_series(group)
    g, h = some(*inside(group), count=90)
    product = group.compose(g, h)
    moves = 0
    for place in range(0, group.order, max(1, group.order // 7)):
        g0 = torch.full_like(g, place)
        reach = allowed(lambda *e: group.shift(group.shift(e[0], e[1]), e[2]), g0, g, h)
        reach &= allowed(group.shift, g0, product)
        moved = group.shift(group.shift(g0[reach], g[reach]), h[reach])
        assert torch.equal(moved, group.shift(g0[reach], product[reach]))
        moves += int(reach.sum())
    assert moves >= min(group.order, 100)


def test_inverse_undoes_where_it_exists(group: Group) -> None:
    g = elements(group)[allowed(group.inverse, elements(group))]
    assert len(g) == (group.order if group.geometry.whole else len(g))
    assert g[0] == 0
    back = group.inverse(g)
    assert (group.compose(g, back) == 0).all()
    assert (group.compose(back, g) == 0).all()
    assert torch.equal(group.inverse(back), g)
    x = content(group, len(g), 101)
    apart = group.transform_input(back, group.transform_input(g, x)) - x
    assert apart.abs().max() <= error_of_sampling(group) * x.max()


INVERTIBLE = {"translation": 1, "scale": 1, "scale_translation": 1, "rotation_translation": 1 + 8 + 64 + 8}


def test_windows_have_the_inverses_that_stay_inside(group: Group) -> None:
    """None but the identity's, where all elements move or shrink one way; half-turns about any cell undo themselves,
    quarter turns come back along one side.
    """
    count = int(allowed(group.inverse, elements(group)).sum())
    assert count == INVERTIBLE.get(group.geometry.name, group.order)
    if count == 1:
        with pytest.raises(ValueError, match="only element 0"):
            group.inverse(torch.tensor([0, 1]))


def test_input_representation_multiplies(group: Group) -> None:
    """T_g T_h = T_gh, exactly where whole cells move; scales only where they are a geometric series."""
    group = on_a_series(group)
    g, h = some(*inside(group))
    x = content(group, len(g), 101)
    twice = group.transform_input(g, group.transform_input(h, x))
    once = group.transform_input(group.compose(g, h), x)
    assert (twice - once).abs().max() <= error_of_sampling(group) * x.abs().max()
    if group.order > 1:
        other = group.transform_input(group.compose(h, g) if group.geometry.whole else g, x)
        assert group.geometry.name != "dihedral" or not torch.equal(other, once)  # order matters there


def test_feature_representation_multiplies(group: Group) -> None:
    """Gamma_g Gamma_h = Gamma_gh where both steps know the features; exactly, where whole cells move."""
    group = on_a_series(group)
    g, h = some(*inside(group))
    z = features(group, len(g))
    product = group.compose(g, h)
    once, twice = group.transform_features(product, z), group.transform_features(g, group.transform_features(h, z))
    known = group.known_features(h, z).to(z.dtype).expand(-1, 1, *z.shape[2:])
    known = group.known_features(g, z) & group.known_features(product, z) & (group.transform_features(g, known) > 0.5)
    assert known.any(dim=(1, 2, 3, 4)).double().mean() > 0.5
    exact = isinstance(group, ScaleTranslation)  # a series of whole numbers moves cells to cells
    within = 1e-12 if exact else error_of_sampling(group) * z.abs().max().item()
    assert (twice - once).where(known, 0.0).abs().max() <= within


def test_unknown_features_are_zero(group: Group) -> None:
    g = elements(group)
    z = features(group, group.order)
    known = group.known_features(g, z)
    assert known.shape == (group.order, 1, *z.shape[2:])
    assert (group.transform_features(g, z).where(~known, 0.0) == 0).all()
    assert known.all() == (group.geometry.whole and len(group.angles) == 1)


def test_bundle_is_the_features_moved_to_the_base(group: Group) -> None:
    """Gamma_g[z](g0) = z(g^-1 . g0): reading moved features at the base is reading features at the moved base."""
    g, zero = elements(group), torch.zeros(group.order, dtype=torch.int64)
    z = features(group, group.order)
    moved = group.bundle(group.transform_features(g, z), zero, zero)
    there = group.bundle(z, zero, g)
    resampled = z.shape[-1] > 8
    if isinstance(group, Scale):  # a shrunk map has its content on factor**2 of the area, and a mean is over the whole
        there = there * (group.scales[0] / torch.tensor(group.scales, dtype=torch.float64)[:, None]) ** 2
    torch.testing.assert_close(moved, there, rtol=1e-3 if resampled else 1e-12, atol=1e-12)


def test_bases_move_with_their_place(group: Group) -> None:
    """The base at g^-1 . g0 is g^-1 of the base at g0, element by element, wherever that stays inside."""
    generator = torch.Generator().manual_seed(2)
    g0, g = torch.randint(group.order, (2, 400), generator=generator)
    g0[:100] = 0
    base_size = 4 if isinstance(group, Translation) else 3
    reach = allowed(lambda p, e: group.shift(group.base(p, base_size), e[:, None]), g0, g)
    assert reach.sum() >= 10
    moved = group.shift(group.base(g0[reach], base_size), g[reach][:, None])
    assert torch.equal(moved, group.base(group.shift(g0[reach], g[reach]), base_size))


def test_whole_groups_are_their_own_places(group: Group) -> None:
    """Every place is reached from every other by one element, and products cover the group once."""
    if not group.geometry.whole:
        return
    g = elements(group)
    table = group.compose(g[:, None], g)
    assert torch.equal(table.sort(0).values, g[:, None].expand(-1, group.order))
    assert torch.equal(table.sort(1).values, g.expand(group.order, -1))
    assert torch.equal(group.shift(g[:, None], g), group.compose(group.inverse(g)[None], g[:, None]))
    assert torch.equal(table, table.T) == (group.geometry.name != "dihedral")


@pytest.mark.parametrize("bad", [-1, 384, None])
def test_foreign_elements_are_refused(bad: int | None, group: Group) -> None:
    g = torch.tensor([0], dtype=torch.int32) if bad is None else torch.tensor([bad])
    zero, says = torch.zeros(1, dtype=torch.int64), "int64" if bad is None else "from 0 to"
    for operation in (group.checked, group.inverse, lambda g: group.shift(zero, g), lambda g: group.base(g, 1)):
        with pytest.raises(ValueError, match=says):
            operation(g)
    with pytest.raises(ValueError, match=says):
        group.transform_features(g, torch.zeros(1, 1, group.lifted_order, 8, 8))
    with pytest.raises(ValueError, match=says):
        group.transform_input(g, torch.zeros(1, 1, 9, 9))


NUMBERED = {
    "rotation": (1, 3, 3, [2, 3, 0]),  # g0 - g, wrapping
    "scale": (1, 2, 3, [3, 4, 5]),  # g0 + g
    "translation": (9, 17, 4, [26, 27, 34, 35]),  # cell (1, 1) moved by (2, 1), a 2 x 2 patch in reading order
    "rotation8": (1, 3, 3, [6, 7, 0]),
    "dihedral": (5, 6, 3, [1, 2, 3]),  # a reflected base runs backwards, 5 4 7, and the reflection 6 turns it round
    "rotation_translation": (64 + 9, 2 * 64 + 17, 2, [3 * 64 + 37, 37]),  # cell (3, 2) from the other corner, (4, 5)
    "scale_translation": (64, 2 * 64 + 17, 3, [3 * 64 + 17, 4 * 64 + 17, 5 * 64 + 17]),  # parts add
}


def test_bundles_are_ordered(group: Group) -> None:
    """Fibers stand in the order of the base, each with all its channels together."""
    g0, g, base_size, expected = NUMBERED[group.geometry.name]
    number = elements(group).to(torch.float64)
    side = 8 if group.geometry.grid else 4
    z = number.view(1, 1, group.lifted_order, -1)
    z = z.view(1, 1, -1, 8, 8) if group.geometry.grid else z[..., None].expand(-1, -1, -1, side, side)
    z = torch.cat([z, z + 0.5], dim=1)  # second channel: half a number more
    bundle = group.bundle(z, torch.tensor([g0]), torch.tensor([g]), base_size)
    assert bundle.tolist() == [[value for place in expected for value in (place, place + 0.5)]]


def test_bundles_take_each_images_own_elements(group: Group) -> None:
    z = torch.randn(5, 3, group.lifted_order, 8, 8, dtype=torch.float64)
    g0, g = torch.zeros(5, dtype=torch.int64), torch.tensor([0, 2, 1, 3, 2])
    together = group.bundle(z, g0, g)
    for n in range(5):
        torch.testing.assert_close(together[n], group.bundle(z[n : n + 1], g0[n : n + 1], g[n : n + 1])[0])


def _translation() -> Group:
    return Translation(geometry.translation(8), image_size=28, stride=4)


def _scale_translation() -> Group:
    return ScaleTranslation(geometry.scale_translation(8), image_size=28, stride=4)


@pytest.mark.parametrize(
    ("build", "g0", "g", "base_size"),
    [
        (lambda: Scale(geometry.scale()), 3, 3, 1),
        (lambda: Scale(geometry.scale()), 5, 0, 2),
        (lambda: Scale(geometry.scale()), 2, 2, 3),
        (_translation, 7, 1, 1),  # would wrap to the next row
        (_translation, 56, 8, 1),
        (_translation, 6, 1, 4),
        (_scale_translation, 64, 5 * 64, 1),
        (_scale_translation, 7, 1, 1),
        (_scale_translation, 3 * 64, 2 * 64 + 3, 2),
        (_scale_translation, 1, 64, 1),  # one cell times 1.25 lies between cells
    ],
)
def test_windows_have_no_padding(build: Callable[[], Group], g0: int, g: int, base_size: int) -> None:
    group = build()
    z = torch.zeros(1, 2, group.lifted_order, 8, 8)
    with pytest.raises(ValueError, match=re.escape("outside the window")):
        group.bundle(z, torch.tensor([g0]), torch.tensor([g]), base_size)


def test_origins_are_exactly_where_a_base_fits(group: Group) -> None:
    for base_size in (1, 4) if isinstance(group, Translation) else (1, 2, 3):
        fits = allowed(lambda g, b=base_size: group.base(g, b), elements(group))
        assert torch.equal(group.origins(base_size), elements(group)[fits])


def test_a_base_as_large_as_the_group_is_refused(group: Group) -> None:
    with pytest.raises(ValueError, match="must be from 1 to"):
        group.origins(group.order)


def test_a_finer_grid_moves_as_many_pixels(group: Group) -> None:
    """Features of an earlier stage, with twice the cells, move twice as many of them."""
    finer = group.on_finer_grid(2)
    fine = torch.randn(1, 2, group.lifted_order, 15, 15, dtype=torch.float64)
    coarse = fine[..., ::2, ::2]
    if isinstance(group, Scale) or (isinstance(group, Rotation) and group.order == 8):
        assert finer is group  # about the centre, by no whole cells
        return
    for element in range(0, group.order, max(1, group.order // 16)):
        g = torch.tensor([element])
        moved, known = finer.transform_features(g, fine), finer.known_features(g, fine)
        expected = group.transform_features(g, coarse)
        both = known[..., ::2, ::2] & group.known_features(g, coarse)
        on_cells = element // group.geometry.cells == 0 or not isinstance(group, ScaleTranslation)
        if on_cells:
            assert torch.equal(moved[..., ::2, ::2].where(both, 0.0), expected.where(both, 0.0))


def test_pairs_of_a_table_are_the_geometrys(group: Group) -> None:
    table = group.distance(elements(group)[:, None], elements(group)[None, :])
    step = max(1, group.order // 40)
    for a, b in itertools.product(range(0, group.order, step), repeat=2):
        assert table[a, b].item() == pytest.approx(group.geometry.distance(a, b))
