"""Convolutions on separable functions: the compiled kernels are what they say, and layers equal the dense way."""

from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hssl_ray.method import matrix
from hssl_ray.method.geometry import GroupName, geometry
from hssl_ray.method.groups import Group, build_group
from hssl_ray.method.native import SWITCH, native_library
from hssl_ray.method.separable import FUNCTIONS, Factors, SeparableConvolution, factorise
from hssl_ray.method.steerable import GroupConv2d, hermite_basis

pytestmark = [
    pytest.mark.skipif(native_library() is None, reason="no C++ compiler on this machine"),
    pytest.mark.usefixtures("processor"),
]

GROUPS: tuple[GroupName, ...] = ("translation", "scale", "rotation", "dihedral")


def build(name: GroupName) -> Group:
    return build_group(name, geometry(name, 5), image_size=29, stride=1)


def random_factors(size: int, *, exchanged: bool = False) -> Factors:
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.randn(2, FUNCTIONS, size, generator=generator, dtype=torch.float64)
    return Factors(rows, columns, exchanged)


def kernels_of(factors: Factors) -> Tensor:
    """B_f, (9, k, k), by the definition."""
    pairs = product(range(FUNCTIONS), range(FUNCTIONS))
    swap = factors.exchanged
    return torch.stack(
        [torch.outer(factors.along_rows[n if swap else m], factors.along_columns[m if swap else n]) for n, m in pairs]
    )


def literal_responses(factors: Factors, maps: Tensor, stride: int, padding: int) -> Tensor:
    """(N, H, W, C) -> (N*H'*W', 9*C) by convolving with each function."""
    images, *_, channels = maps.shape
    if padding < 0:
        maps, padding = maps[:, -padding : maps.shape[1] + padding, -padding : maps.shape[2] + padding], 0
    planes = maps.permute(0, 3, 1, 2).flatten(0, 1)[:, None]
    found = F.conv2d(planes, kernels_of(factors)[:, None].to(maps.dtype), stride=stride, padding=padding)
    return found.view(images, channels, *found.shape[1:]).permute(0, 3, 4, 2, 1).flatten(0, 2).flatten(1)


@pytest.mark.parametrize("channels", [1, 8, 37])
@pytest.mark.parametrize(("size", "margin"), [(7, 0), (5, 1)])
@pytest.mark.parametrize(("stride", "padding"), [(1, 3), (2, 3), (2, 0), (3, 2)])
@pytest.mark.parametrize("exchanged", [False, True])
def test_kernels_are_the_convolutions_they_stand_for(
    channels: int, size: int, margin: int, stride: int, padding: int, exchanged: bool
) -> None:
    """Also where a cropped kernel reads less than the map, and in vectors of every width."""
    factors = random_factors(size, exchanged=exchanged)
    convolution = SeparableConvolution([factors], [margin], stride=stride, padding=padding)
    maps = torch.randn(2, 11, 9, channels, dtype=torch.float64)
    out = convolution.out_size(11), convolution.out_size(9)
    found = convolution.responses(0, maps, out)
    expected = literal_responses(factors, maps, stride, padding - margin)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)

    other = torch.randn_like(found)
    back = torch.full_like(maps, torch.nan)  # every place is written
    convolution.adjoint(0, other, back)
    assert float((back * maps).sum()) == pytest.approx(float((found * other).sum()), rel=1e-11)


def test_half_precision_rounds_as_torch_does() -> None:
    """Sums are kept in float32 and rounded once, to even; what is not a number stays so."""
    one = torch.ones(FUNCTIONS, 1, dtype=torch.float64)
    maps = torch.randn(3, 6, 5, 32).to(torch.bfloat16)
    maps[0, 0, 0, 0], maps[0, 0, 0, 1] = torch.nan, torch.inf
    convolution = SeparableConvolution([Factors(one / 3, one, False)], [0], stride=1, padding=0)
    found = convolution.responses(0, maps, (6, 5))[:, :32]
    expected = (maps.float() * torch.tensor(1 / 3, dtype=torch.float32)).to(torch.bfloat16).flatten(0, 2)
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", GROUPS)
def test_every_basis_of_the_papers_layers_is_factorised(name: GroupName) -> None:
    group = build(name)
    layer = GroupConv2d(1, 1, 7, 3, group, padding=3)
    assert layer.separable is not None
    for g, margin in enumerate(layer.margins):
        basis = layer.basis[:, g, margin : 7 - margin, margin : 7 - margin]
        factors = factorise(basis)
        assert factors is not None
        torch.testing.assert_close(kernels_of(factors), basis, rtol=0, atol=1e-12)


def test_functions_that_are_no_products_are_left_alone() -> None:
    turned = hermite_basis(7, 3, (1.0,), angles=(0.5,))[:, 0]
    assert factorise(turned) is None
    assert factorise(hermite_basis(7, 3, (1.0,))[:, 0]) is not None
    assert GroupConv2d(1, 1, 7, 3, build("rotation8"), padding=3).separable is None
    assert GroupConv2d(1, 1, 7, 2, build("rotation"), padding=3).separable is None


def value_and_gradients(layer: GroupConv2d, z: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    z = z.detach().requires_grad_()
    y = layer(z)
    return y, *torch.autograd.grad(y, (z, layer.weight), grad)


def layer_and_inputs(group: Group, **settings: Any) -> tuple[GroupConv2d, Tensor, Tensor]:
    torch.manual_seed(0)
    layer = GroupConv2d(5, 6, 7, 3, group, **settings).double()
    z = torch.randn(3, 5, group.lifted_order, 9, 9, dtype=torch.float64)
    return layer, z, torch.randn_like(layer(z))


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("settings", [{"padding": 3}, {"stride": 2, "padding": 3}, {"stride": 2, "padding": 0}])
@pytest.mark.parametrize("mixing", [1, 2])
def test_layers_equal_the_dense_way(
    name: GroupName, settings: dict[str, int], mixing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Value, gradient of the input, gradient of the weights; also in several blocks."""
    group = build(name)
    layer, z, grad = layer_and_inputs(group, mixing=min(mixing, group.lifted_order), **settings)
    ours = value_and_gradients(layer, z, grad)
    monkeypatch.setattr(matrix, "BLOCK_BYTES", 1)
    monkeypatch.setattr(matrix, "BLOCK_ROWS", 1)
    blocks = value_and_gradients(layer, z, grad)
    monkeypatch.setenv(SWITCH, "0")
    dense = value_and_gradients(layer, z, grad)
    for found, several, expected in zip(ours, blocks, dense, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)
        torch.testing.assert_close(several, expected, rtol=0, atol=1e-11)


def test_a_wrong_factor_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, z, grad = layer_and_inputs(build("rotation"), padding=3)
    assert layer.separable is not None
    wrong = [Factors(f.along_rows, f.along_columns, not f.exchanged) for f in layer.separable._factors]
    monkeypatch.setattr(layer.separable, "_factors", wrong)
    found = value_and_gradients(layer, z, grad)
    monkeypatch.setenv(SWITCH, "0")
    expected = value_and_gradients(layer, z, grad)
    for a, b in zip(found, expected, strict=True):
        assert (a - b).norm() > 0.1 * b.norm()


@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 1e-2)])
def test_narrower_types_are_off_by_their_rounding(kind: torch.dtype, tolerance: float) -> None:
    layer, z, grad = layer_and_inputs(build("scale"), stride=2, padding=3)
    exact = value_and_gradients(layer, z, grad)
    layer = layer.float()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=kind is torch.bfloat16):
        found = value_and_gradients(layer, z.float(), grad.to(kind))
    assert found[0].dtype is kind and found[2].dtype is torch.float32
    for a, b in zip(found, exact, strict=True):
        assert (a - b).norm() <= tolerance * b.norm()


@pytest.mark.parametrize("images", [0, 1, 7, 16, 32, 250])
def test_blocks_take_every_image_once_and_are_even(images: int) -> None:
    blocks = list(matrix.image_blocks(images, 225, 576))
    assert [n for block in blocks for n in range(images)[block]] == list(range(images))
    sizes = {block.stop - block.start for block in blocks}
    assert not sizes or (max(sizes) - min(sizes) <= 1 and max(sizes) * 225 * 576 <= 1.5 * matrix.BLOCK_BYTES)


def test_threads_change_nothing() -> None:
    layer, z, _ = layer_and_inputs(build("scale"), stride=2, padding=3)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = layer(z)
        torch.set_num_threads(2)
        two = layer(z)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(two, one, rtol=0, atol=1e-13)


def test_only_the_gradients_asked_for_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen layer does not compute its responses again; a first layer has no map to go back to."""
    layer, z, grad = layer_and_inputs(build("scale"), padding=3)
    calls: list[str] = []
    for name in ("responses", "adjoint"):
        whole = getattr(SeparableConvolution, name)

        def watched(*args: Any, name: str = name, whole: Any = whole) -> Any:
            calls.append(name)
            return whole(*args)

        monkeypatch.setattr(SeparableConvolution, name, watched)
    layer(z).backward(grad)
    assert set(calls) == {"responses"} and len(calls) == 2 * 6
    calls.clear()
    layer.requires_grad_(False)
    layer(z.requires_grad_()).backward(grad)
    assert sorted(calls) == ["adjoint"] * 6 + ["responses"] * 6
