"""Pre-activation blocks: SESN's golden tensors, gradient through both ways, memory laid out for fast convolutions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hssl_ray.method import geometry
from hssl_ray.method.architecture import DenseLayer
from hssl_ray.method.blocks import Dense, JoinParts, PointwiseConv2d, PreActivationBlock, SplitParts
from hssl_ray.method.groups import Group, Scale
from hssl_ray.method.layout import fold, unfold
from hssl_ray.method.native import SWITCH
from hssl_ray.method.networks import Network
from hssl_ray.method.steerable import GroupConv2d, GroupPool

GOLDEN = Path(__file__).parents[1] / "golden" / "sesn_golden.npz"
BLOCK = "block_8_16_stride2_s6"
NAMES = {"bn1": "norm1", "bn2": "norm2", "conv1": "conv1", "conv2": "conv2", "convShortcut": "shortcut"}


def golden(name: str) -> Tensor:
    with np.load(GOLDEN, allow_pickle=False) as archive:
        return torch.from_numpy(archive[f"{BLOCK}/{name}"])


def build_block(channels: int, out: int, stride: int, group: Group) -> PreActivationBlock:
    return PreActivationBlock(
        channels,
        GroupConv2d(channels, out, 7, 3, group, stride=stride, padding=3),
        out,
        GroupConv2d(out, out, 7, 3, group, padding=3),
        PointwiseConv2d(channels, out, stride=stride) if (channels, stride) != (out, 1) else None,
    )


@pytest.fixture
def golden_block() -> PreActivationBlock:
    block = build_block(8, 16, 2, Scale(geometry.scale()))
    with np.load(GOLDEN, allow_pickle=False) as archive:
        saved = [name for name in archive.files if name.startswith(f"{BLOCK}/state/")]
    for name in saved:
        module, weight = name.removeprefix(f"{BLOCK}/state/").rsplit(".", 1)
        parameter = block.get_parameter(f"{NAMES[module]}.{weight}")
        with torch.no_grad():
            parameter.copy_(golden(f"state/{module}.{weight}").view_as(parameter))
    assert len(saved) == len(list(block.parameters()))
    return block


@pytest.mark.usefixtures("either_way")
def test_block_equals_sesn(golden_block: PreActivationBlock) -> None:
    """In training mode, by batch statistics."""
    y, expected = golden_block.train()(golden("x")), golden("y")
    assert y.shape == expected.shape == (4, 16, 6, 5, 5)
    assert (y - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("wrong", ["evaluation mode", "shortcut of the input", "last ReLU", "no shortcut"])
def test_golden_check_sees_another_block(wrong: str, golden_block: PreActivationBlock) -> None:
    """Negative control: the ways to write a residual block that are not SESN's."""
    x, expected = golden("x"), golden("y")
    y = golden_block.train(wrong != "evaluation mode")(x)
    assert golden_block.shortcut is not None
    shortcut = golden_block.shortcut
    if wrong == "shortcut of the input":
        y = y - shortcut(golden_block.norm1(x)) + shortcut(x)
    elif wrong == "last ReLU":
        y = y.relu()
    elif wrong == "no shortcut":
        y = y - shortcut(golden_block.norm1(x))
    assert (y - expected).abs().max() > 0.1 * expected.abs().max()


def test_a_block_that_changes_nothing_adds_its_input(group: Group) -> None:
    block = build_block(4, 4, 1, group)
    with torch.no_grad():
        for convolution in (block.conv1, block.conv2):
            convolution.get_parameter("weight").zero_()
    x = torch.randn(2, 4, group.lifted_order, 7, 7)
    assert torch.equal(block(x), x)
    assert block.shortcut is None


def test_shortcut_is_one_matrix_for_all_elements(group: Group) -> None:
    shortcut = PointwiseConv2d(3, 5, stride=2).double()
    z = torch.randn(2, 3, group.lifted_order, 7, 7, dtype=torch.float64)
    expected = torch.einsum("oi,nighw->noghw", shortcut.weight, z[..., ::2, ::2])
    torch.testing.assert_close(shortcut(z), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("structure", ["equivariant", "none"])
@pytest.mark.parametrize("group", ["rotation", "scale"])
def test_convolutions_get_channels_last_maps(
    group: str, structure: str, training: bool, make_network: Callable[..., Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forward, every convolution of a ResNet: oneDNN's fast way, without a copy in between."""
    network = make_network(
        group, dtype=torch.float32, dataset="cifar10", backbone="resnet20", structure=structure, image_size=17
    )
    seen: list[bool] = []
    convolve: Callable[..., Tensor] = F.conv2d

    def watched(x: Tensor, *args: object, **kwargs: object) -> Tensor:
        seen.append(x.is_contiguous(memory_format=torch.channels_last))
        return convolve(x, *args, **kwargs)

    monkeypatch.setenv(SWITCH, "0")  # compiled kernels take no part in this
    monkeypatch.setattr(F, "conv2d", watched)
    z = network.train(training)(torch.randn(2, 3, 17, 17))
    monkeypatch.undo()
    convolutions = 2 + 3 * (3 * 2)  # two in the stem
    shortcuts = 3
    elements = 1 if structure == "none" else network.group.lifted_order
    assert seen == [True] * (convolutions * elements + shortcuts)
    if structure == "equivariant":
        assert fold(z).data_ptr() == z.data_ptr() and fold(z).is_contiguous(memory_format=torch.channels_last)


def test_pooling_stays_channels_last(make_images: Callable[..., Tensor]) -> None:
    """The result and, in the supervised baseline, the gradient that goes back into the lifted map."""
    z = unfold(make_images(12, 5, channels=3).contiguous(memory_format=torch.channels_last), 6).requires_grad_()
    given: list[Tensor] = []
    z.register_hook(given.append)  # type: ignore[no-untyped-call]
    pooled = GroupPool()(z)
    pooled.square().sum().backward()
    assert torch.equal(pooled, z.amax(2))
    assert pooled.is_contiguous(memory_format=torch.channels_last)
    assert fold(given[0]).is_contiguous(memory_format=torch.channels_last) and given[0].stride() == z.stride()


def test_parts_are_sixths_of_the_channels() -> None:
    """Element g of the emulated axis is the g-th run of channels, and joining undoes splitting without a copy."""
    x = torch.randn(2, 12, 5, 5).contiguous(memory_format=torch.channels_last)
    z = SplitParts(6)(x)
    assert z.shape == (2, 2, 6, 5, 5)
    assert torch.equal(z[:, :, 4], x[:, 8:10])
    joined = JoinParts()(z)
    assert torch.equal(joined, x)
    assert joined.data_ptr() == x.data_ptr()


def test_dense_output_is_read_row_by_row() -> None:
    """Row r of the (16, C) reading is cell (r // 4, r % 4), and the next layer reads the numbers in their own order."""
    first, second = Dense(DenseLayer(9, 2)).eval(), Dense(DenseLayer(32, 3)).eval()
    x = torch.randn(5, 1, 3, 3)
    flat = first.norm(first.linear(x.flatten(1)))  # (5, 32)
    z = first(x)
    assert z.shape == (5, 2, 1, 4, 4)
    assert torch.equal(z[:, :, 0, 2, 1], flat.view(5, 16, 2)[:, 9])
    expected = second.norm(second.linear(flat)).view(5, 16, 3)
    torch.testing.assert_close(second(z)[:, :, 0, 3, 0], expected[:, 12])


def test_both_ways_of_a_block_carry_gradient(golden_block: PreActivationBlock) -> None:
    x = golden("x").requires_grad_()
    golden_block(x).square().sum().backward()
    assert x.grad is not None and x.grad.abs().max() > 0
    assert all(w.grad is not None and w.grad.abs().max() > 0 for w in golden_block.parameters())
    assert isinstance(golden_block.shortcut, nn.Module)
