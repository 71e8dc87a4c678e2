"""What each T_g does to pixels: exactly where it moves whole cells, to the error of sampling where it does not."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor

from hssl_ray.method import geometry
from hssl_ray.method.geometry import GroupName
from hssl_ray.method.groups import (
    Dihedral,
    Group,
    Rotation,
    RotationTranslation,
    Scale,
    ScaleTranslation,
    Translation,
    build_group,
)
from hssl_ray.method.resampling import turn


def blob(count: int, size: int) -> Tensor:
    """Smooth images with content well inside a dark border, each a little different."""
    axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    shift = torch.linspace(-1.5, 1.5, count, dtype=torch.float64)
    rows = torch.exp(-((axis - shift[:, None]) ** 2) / (0.015 * size**2))
    columns = torch.exp(-((axis + shift[:, None] / 2) ** 2) / (0.03 * size**2))
    return (rows[:, :, None] * columns[:, None, :])[:, None]


def test_rotation_is_rot90_of_each_image(rotation: Group, make_images: Callable[..., Tensor]) -> None:
    x = make_images(4, 7, channels=2)
    turned = rotation.transform_input(torch.arange(4), x)
    for r in range(4):
        assert torch.equal(turned[r], torch.rot90(x[r], r, (1, 2)))
    with pytest.raises(ValueError, match="needs a square"):
        rotation.transform_input(torch.zeros(4, dtype=torch.int64), x[..., :5])


def test_dihedral_is_rot90_after_a_reflection(make_images: Callable[..., Tensor]) -> None:
    group = Dihedral(geometry.dihedral())
    x = make_images(8, 7, channels=2)
    moved = group.transform_input(torch.arange(8), x)
    for r in range(4):
        assert torch.equal(moved[r], torch.rot90(x[r], r, (1, 2)))
        assert torch.equal(moved[4 + r], torch.rot90(x[4 + r].flip(2), r, (1, 2)))


def test_eighth_turns_of_eighth_turns_are_quarter_turns(make_images: Callable[..., Tensor]) -> None:
    """Elements 0, 2, 4, 6 move cells exactly; the others interpolate: smooth images keep, noise does not."""
    group = Rotation(geometry.rotation(8))
    x = make_images(4, 15, channels=2)
    quarters = group.transform_input(torch.tensor([0, 2, 4, 6]), x)
    assert torch.equal(quarters, Rotation(geometry.rotation()).transform_input(torch.arange(4), x))
    eighth = torch.ones(4, dtype=torch.int64)
    for images, least, most in ((blob(4, 29), 0.0, 5e-3), (x, 0.1, 2.0)):
        twice = group.transform_input(eighth, group.transform_input(eighth, images))
        lost = (twice - torch.rot90(images, 1, (2, 3))).abs().max() / images.abs().max()
        assert least <= lost <= most


def test_a_turn_is_that_of_the_function_sampled() -> None:
    """Against a tilted Gaussian and its turned copy, for angles that are no element's; at quarter turns rot90."""

    def gaussian(angle: float, size: int = 31) -> Tensor:
        axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
        rows = math.cos(angle) * axis[:, None] + math.sin(angle) * axis - 2
        columns = math.cos(angle) * axis - math.sin(angle) * axis[:, None] - 1
        return torch.exp(-(rows**2) / 30 - columns**2 / 8)[None, None]

    for angle in (0.3, math.pi / 4, 2.0, -1.1):
        error = (turn(gaussian(0.0), angle) - gaussian(angle)).abs().max()
        assert error < 6e-3 < 0.1 < (gaussian(0.0) - gaussian(angle)).abs().max()
    torch.testing.assert_close(
        turn(gaussian(0.4), math.pi / 2), torch.rot90(gaussian(0.4), 1, (2, 3)), rtol=0, atol=1e-12
    )


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


def test_rotation_translation_turns_and_then_moves(make_images: Callable[..., Tensor]) -> None:
    group = RotationTranslation(geometry.rotation_translation(8), image_size=28, stride=4)
    x = make_images(3, 29)
    g = torch.tensor([64 + 9, 3 * 64, 2 * 64 + 5])
    turned = Rotation(geometry.rotation()).transform_input(torch.tensor([1, 3, 2]), x)
    moved = Translation(geometry.translation(8), image_size=28, stride=4).transform_input(
        torch.tensor([9, 0, 5]), turned
    )
    assert torch.equal(group.transform_input(g, x), moved)
    continuous = torch.tensor([[1.0, -4.0, -4.0], [3.0, 0.0, 0.0], [2.0, 0.0, -20.0]])
    assert torch.equal(group.transform_input(continuous, x), moved)
    with pytest.raises(ValueError, match=re.escape("(N, 3), quarter turns and pixels")):
        group.transform_input(torch.zeros(3, 2), x)


def test_scale_translation_moves_and_then_shrinks_about_the_first_pixel(make_images: Callable[..., Tensor]) -> None:
    space = geometry.scale_translation(8, scales=(1.0, 1.5, 2.0))
    group = ScaleTranslation(space, image_size=28, stride=4)
    translation = Translation(geometry.translation(8), image_size=28, stride=4)
    x = make_images(3, 29)
    cells = torch.tensor([9, 1, 16])
    assert torch.equal(group.transform_input(cells, x), translation.transform_input(cells, x))
    spot = torch.zeros(1, 1, 29, 29, dtype=torch.float64)
    spot[0, 0, 20, 12] = 1.0  # comes to (20 - 4) / 2, (12 - 8) / 2
    small = group.transform_input(torch.tensor([2 * 64 + 8 + 2]), spot)[0, 0]
    assert small.argmax() == 8 * 29 + 2
    assert small.sum().item() == pytest.approx(1 / 4)  # a quarter of the area
    continuous = torch.tensor([[0.6, 3.0, -2.0]], dtype=torch.float64).expand(3, -1)
    about_the_centre = Scale(geometry.scale()).transform_input(continuous[:, :1], x)
    assert torch.equal(
        group.transform_input(continuous, x), translation.transform_input(continuous[:, 1:], about_the_centre)
    )
    with pytest.raises(ValueError, match=re.escape("(N, 3), a factor and pixels")):
        group.transform_input(torch.zeros(3, 2), x)


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
    u = torch.rand(4000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    turns = Rotation(geometry.rotation()).augmentation(u)
    assert sorted(set(turns.tolist())) == [0, 1, 2, 3]
    factors = Scale(geometry.scale()).augmentation(u)
    assert factors.shape == (4000, 1)
    assert 1 / 1.75 <= factors.min().item() < 0.575
    assert 0.995 < factors.max().item() <= 1
    pixels = Translation(geometry.translation(8), image_size=28, stride=4).augmentation(u)
    assert pixels.shape == (4000, 2)
    assert set(pixels.flatten().tolist()) == set(range(-5, 6))  # 20 % of 28, whole pixels
    for group in (build("rotation8"), build("dihedral")):
        assert sorted(set(group.augmentation(u).tolist())) == list(range(8))
    both = build("rotation_translation").augmentation(u)
    assert torch.equal(both[:, 1:], pixels)  # the same columns of u
    assert sorted(set(both[:, 0].tolist())) == [0, 1, 2, 3]
    both = build("scale_translation").augmentation(u)
    assert torch.equal(both[:, 1:], pixels)
    assert 1 / 1.75 <= both[:, 0].min().item() < 0.575
    assert 0.995 < both[:, 0].max().item() <= 1


def build(name: GroupName) -> Group:
    return build_group(name, geometry.geometry(name, 8), image_size=28, stride=4)


BUILT: dict[GroupName, type[Group]] = {
    "rotation": Rotation,
    "rotation8": Rotation,
    "dihedral": Dihedral,
    "scale": Scale,
    "translation": Translation,
    "rotation_translation": RotationTranslation,
    "scale_translation": ScaleTranslation,
}


def test_groups_are_built_by_name() -> None:
    assert set(BUILT) == set(get_args(GroupName))
    for name, kind in BUILT.items():
        assert type(build(name)) is kind
        assert build(name).geometry.name == name
    with pytest.raises(ValueError, match="geometry of rotation"):
        build_group("scale", geometry.rotation(), image_size=28, stride=4)
    with pytest.raises(ValueError, match="not those of the geometry"):
        Scale(geometry.scale(), (1.0, 2.0))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Rotation(geometry.dihedral()), "rotation: needs the geometry of four or eight turns, got dihedral"),
        (lambda: Dihedral(geometry.rotation()), "dihedral: needs the geometry of D4, got rotation"),
        (
            lambda: RotationTranslation(geometry.scale_translation(8), image_size=28, stride=4),
            "rotation_translation: needs the geometry of both, got scale_translation",
        ),
        (
            lambda: ScaleTranslation(geometry.translation(8), image_size=28, stride=4),
            "scale_translation: needs the geometry of both, got translation",
        ),
    ],
)
def test_a_foreign_geometry_is_refused(make: Callable[[], Group], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


def test_features_of_another_shape_are_refused() -> None:
    for name in ("translation", "rotation_translation", "scale_translation"):
        group = build(name)
        with pytest.raises(ValueError, match="features: must be"):
            group.fibers(torch.zeros(1, 2, group.lifted_order, 7, 7))
