"""Steerable layers: equal to SESN's tensors in value and gradient, equivariant where they say so, not elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hssl_ray.method import geometry
from hssl_ray.method.groups import Group, Rotation, Scale, Translation
from hssl_ray.method.layout import fold, unfold
from hssl_ray.method.steerable import GroupConv2d, GroupPool, LiftingConv2d, hermite_basis

GOLDEN = Path(__file__).parents[1] / "golden" / "sesn_golden.npz"
SCALES = {"s6": geometry.PAPER_SCALES, "s3": (0.9, 1.27, 1.79), "s1": (1.0,)}
BASES = [
    "basis_A/k11_e11_s6",
    "basis_A/k7_e3_s6",
    "basis_A/k7_e7_s6",
    "basis_A/k7_e3_s1",
    "basis_A/k11_e11_s1",
    "basis_A/k9_e5_s3",
    "basis_B/k9_e5_s3",
]
LAYERS = [
    "lift_k11_e11_s6_stride1_pad5",
    "lift_k7_e7_s6_stride1_pad3",
    "conv_k7_e3_s6_stride2_pad3",
    "conv_k7_e3_s6_stride1_pad3",
    "conv_k7_e3_s6_stride2_pad0",
    "conv_k7_e3_s6_interscale2_stride1_pad3",
    "conv_k7_e3_s1_stride2_pad3",
]

EquivarianceError = Callable[[Callable[[Tensor], Tensor], Group, Tensor], float]


def golden(name: str) -> Tensor:
    with np.load(GOLDEN, allow_pickle=False) as archive:
        return torch.from_numpy(archive[name])


def number(name: str, word: str, default: int = 1) -> int:
    found = re.search(rf"_{word}(\d+)", name)
    return int(found[1]) if found else default


def relative_error(actual: Tensor, expected: Tensor) -> float:
    return ((actual - expected).abs().max() / expected.abs().max()).item()


def golden_layer(name: str) -> LiftingConv2d | GroupConv2d:
    """The layer that a golden name describes, with its weights."""
    weight = golden(f"{name}/weight")
    scales = SCALES[f"s{number(name, 's')}"]
    group = Scale(geometry.scale(scales), scales)
    stride, padding = number(name, "stride"), number(name, "pad", 0)
    channels = weight.shape[1], weight.shape[0], number(name, "k"), number(name, "e")
    layer: LiftingConv2d | GroupConv2d
    if name.startswith("lift"):
        layer = LiftingConv2d(*channels, group, stride=stride, padding=padding)
    else:
        mixing = number(name, "interscale")
        layer = GroupConv2d(*channels, group, stride=stride, padding=padding, mixing=mixing)
    with torch.no_grad():
        layer.weight.copy_(weight)
    return layer


@pytest.mark.parametrize("name", BASES)
def test_bases_equal_sesn(name: str) -> None:
    kind, size, effective, scales = re.fullmatch(r"basis_([AB])/k(\d+)_e(\d+)_(s\d)", name).groups()  # type: ignore[union-attr]
    basis = hermite_basis(int(size), int(effective), SCALES[scales], "A" if kind == "A" else "B")
    expected = golden(name)
    assert basis.shape == expected.shape
    assert (basis - expected).abs().max() < 1e-5


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("name", LAYERS)
def test_layers_equal_sesn_in_value_and_gradient(name: str) -> None:
    layer = golden_layer(name)
    x = golden(f"{name}/x").requires_grad_()
    y = layer(x)
    y.backward(golden(f"{name}/grad_y"))
    assert x.grad is not None
    assert layer.weight.grad is not None
    assert y.shape == golden(f"{name}/y").shape
    assert relative_error(y, golden(f"{name}/y")) < 1e-5
    assert relative_error(x.grad, golden(f"{name}/grad_x")) < 1e-5
    assert relative_error(layer.weight.grad, golden(f"{name}/grad_weight")) < 1e-5


def test_golden_check_sees_a_wrong_basis() -> None:
    """Negative control: functions in another order are as good a basis, but not SESN's."""
    basis = hermite_basis(7, 3, geometry.PAPER_SCALES)
    assert (basis.mT - golden("basis_A/k7_e3_s6")).abs().max() > 0.1


def test_first_scale_has_unit_norm_and_scales_their_support() -> None:
    basis = hermite_basis(7, 3, geometry.PAPER_SCALES)
    torch.testing.assert_close(basis[:, 0].square().sum((1, 2)), torch.ones(9, dtype=torch.float64))
    outer = basis[:, :, [0, -1]].abs().amax((0, 2, 3)) > 0
    assert outer.tolist() == [False, False, False, True, True, True]


def test_effective_size_one_is_one_gaussian() -> None:
    """SESN takes order 0 for "not given" and falls back to the kernel size."""
    basis = hermite_basis(7, 1, (1.0,))
    assert basis.shape == (1, 1, 7, 7)
    assert (basis > 0).all()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((6, 3, (1.0,)), "kernel_size: must be odd"),
        ((7, 0, (1.0,)), "effective_size: must be at least 1"),
        ((7, 3, (1.0, 1.0)), "scales: must be positive and ascending"),
        ((7, 3, (2.0, 1.0)), "scales: must be positive and ascending"),
        ((3, 3, (0.1, 1.0)), "effective_size: 3 needs functions that vanish"),
    ],
)
def test_bad_bases_are_refused(arguments: tuple[int, int, tuple[float, ...]], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        hermite_basis(*arguments)


def test_rotation_basis_is_four_turned_copies(rotation: Group) -> None:
    basis = hermite_basis(7, 3, rotation.scales)
    lifted = rotation.lift_basis(basis)
    assert lifted.shape == (9, 4, 7, 7)
    for r in range(4):
        assert torch.equal(lifted[:, r], torch.rot90(basis[:, 0], r, (1, 2)))


@pytest.mark.usefixtures("either_way")
def test_cropped_kernels_convolve_like_full_ones(make_images: Callable[..., Tensor]) -> None:
    group = Scale(geometry.scale())
    for padding in (0, 1, 3):
        layer = GroupConv2d(2, 3, 7, 3, group, stride=2, padding=padding).double()
        assert [kernel.shape[-1] for kernel in layer.kernels(layer.weight)] == [5, 5, 5, 7, 7, 7]
        z = make_images(2, 15, channels=12).view(2, 2, 6, 15, 15)
        full = torch.tensordot(layer.weight[:, :, 0], layer.basis, dims=1)  # (C', C, G, k, k)
        for g in range(6):
            expected = F.conv2d(z[:, :, g], full[:, :, g], stride=2, padding=padding)
            torch.testing.assert_close(layer(z)[:, :, g], expected, rtol=0, atol=1e-12)


LAYER_CASES: dict[str, tuple[Callable[[Group], nn.Module], bool]] = {
    "lift": (lambda group: LiftingConv2d(1, 3, 7, 7, group, padding=3), False),
    "lift, stride 2": (lambda group: LiftingConv2d(1, 3, 7, 3, group, stride=2, padding=3), False),
    "group convolution": (lambda group: GroupConv2d(2, 3, 7, 3, group, padding=3), True),
    "group convolution, stride 2": (lambda group: GroupConv2d(2, 3, 7, 3, group, stride=2, padding=3), True),
    "group convolution, mixing 2": (lambda group: GroupConv2d(2, 3, 7, 3, group, padding=3, mixing=2), True),
    "full group convolution": (lambda group: GroupConv2d(2, 3, 7, 3, group, stride=2, padding=0, mixing=4), True),
}


class _AfterLifting(nn.Module):
    """A layer on lifted features as a map from images, so that one assertion serves all layers."""

    def __init__(self, layer: nn.Module, group: Group) -> None:
        super().__init__()
        self.lift = LiftingConv2d(1, 2, 5, 3, group, padding=2)
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.layer(torch.relu(self.lift(x)))
        return z


def _map_from_images(case: str, group: Group) -> nn.Module:
    build, lifted = LAYER_CASES[case]
    layer = build(group)
    return (_AfterLifting(layer, group) if lifted else layer).double()


@pytest.mark.parametrize("case", LAYER_CASES)
def test_layers_commute_with_quarter_turns(
    case: str, rotation: Group, make_images: Callable[..., Tensor], equivariance_error: EquivarianceError
) -> None:
    assert equivariance_error(_map_from_images(case, rotation), rotation, make_images(3, 17)) < 1e-10


@pytest.mark.parametrize("case", LAYER_CASES)
def test_layers_without_structure_do_not(
    case: str,
    rotation: Group,
    make_images: Callable[..., Tensor],
    equivariance_error: EquivarianceError,
    without_structure: Callable[[nn.Module], nn.Module],
) -> None:
    layer = without_structure(_map_from_images(case, rotation))
    assert equivariance_error(layer, rotation, make_images(3, 17)) > 0.1


def test_strides_on_an_even_grid_do_not(
    rotation: Group, make_images: Callable[..., Tensor], equivariance_error: EquivarianceError
) -> None:
    layer = _map_from_images("lift, stride 2", rotation)
    assert equivariance_error(layer, rotation, make_images(3, 16)) > 0.1


def test_pool_forgets_the_turn(rotation: Group, make_images: Callable[..., Tensor]) -> None:
    lift, pool = LiftingConv2d(1, 3, 5, 3, rotation, padding=2).double(), GroupPool()
    x = make_images(4, 9)
    pooled = pool(lift(x))
    assert pooled.shape == (4, 3, 9, 9)
    turned = pool(lift(rotation.transform_input(torch.ones(4, dtype=torch.int64), x)))
    torch.testing.assert_close(turned, torch.rot90(pooled, 1, (2, 3)), rtol=0, atol=1e-12)


@pytest.mark.usefixtures("either_way")
def test_mixing_is_the_sum_over_neighbours(rotation: Group, make_images: Callable[..., Tensor]) -> None:
    """Eq. 2 written out: z(g) = sum over h of y(h) with the filter at g^-1 h, turned with g."""
    layer = GroupConv2d(2, 3, 5, 3, rotation, padding=2, mixing=4).double()
    y = make_images(2, 7, channels=8).view(2, 2, 4, 7, 7)
    z = layer(y)
    for g in range(4):
        total = torch.zeros_like(z[:, :, g])
        for h in range(4):
            kernel = torch.einsum("oif,fyx->oiyx", layer.weight[:, :, (h - g) % 4], layer.basis[:, g])
            total += F.conv2d(y[:, :, h], kernel, padding=2)
        torch.testing.assert_close(z[:, :, g], total, rtol=0, atol=1e-12)


@pytest.mark.parametrize("mixing", [0, 5])
def test_mixing_beyond_the_axis_is_refused(mixing: int, rotation: Group) -> None:
    with pytest.raises(ValueError, match="mixing: must be from 1 to 4"):
        GroupConv2d(2, 3, 7, 3, rotation, mixing=mixing)


@pytest.mark.usefixtures("either_way")
def test_features_lie_group_major_and_channels_last(group: Group, make_images: Callable[..., Tensor]) -> None:
    lift, layer = LiftingConv2d(1, 4, 5, 2, group), GroupConv2d(4, 8, 5, 2, group, padding=1)
    z = layer(lift(make_images(2, 9, dtype=torch.float32)))
    folded = fold(z)
    assert folded.data_ptr() == z.data_ptr()
    assert folded.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(unfold(folded, group.lifted_order), z)
    assert torch.equal(folded[:2], z[:, :, 0])


def test_layers_have_sesn_initialisation_and_no_bias() -> None:
    group = Translation(geometry.translation(8), image_size=28, stride=4)
    layer = GroupConv2d(64, 64, 7, 3, group)
    bound = (64 * 9) ** -0.5
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    assert list(layer.state_dict()) == ["weight"]  # the basis is computed, never loaded
    assert layer.weight.shape == (64, 64, 1, 9)
    assert 0.99 * bound < layer.weight.abs().max().item() <= bound


@pytest.mark.usefixtures("either_way")
def test_layers_run_under_bf16_autocast(make_images: Callable[..., Tensor]) -> None:
    group = Rotation(geometry.rotation())
    layer = LiftingConv2d(1, 4, 11, 11, group, padding=5)
    x = make_images(2, 29, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    assert relative_error(y.float(), layer(x)) < 0.02
