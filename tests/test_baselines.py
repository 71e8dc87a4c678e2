"""The baselines that benchmarks compare with compute what the originals do, or a ratio to them would mean nothing."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

GOLDEN = np.load(Path(__file__).parent / "golden" / "sesn_golden.npz")


@pytest.fixture
def sesn(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    return importlib.import_module("sesn")


def golden(name: str) -> Tensor:
    return torch.from_numpy(GOLDEN[name]).double()


@pytest.mark.parametrize(
    ("layer", "basis", "name", "stride", "padding"),
    [
        ("SesnLiftingConv2d", "k11_e11_s6", "lift_k11_e11_s6_stride1_pad5", 1, 5),
        ("SesnLiftingConv2d", "k7_e7_s6", "lift_k7_e7_s6_stride1_pad3", 1, 3),
        ("SesnGroupConv2d", "k7_e3_s6", "conv_k7_e3_s6_stride2_pad3", 2, 3),
        ("SesnGroupConv2d", "k7_e3_s6", "conv_k7_e3_s6_stride1_pad3", 1, 3),
        ("SesnGroupConv2d", "k7_e3_s1", "conv_k7_e3_s1_stride2_pad3", 2, 3),
    ],
)
def test_sesns_way_is_sesns(sesn: ModuleType, layer: str, basis: str, name: str, stride: int, padding: int) -> None:
    weight = golden(f"{name}/weight")
    channels = weight.shape[1], weight.shape[0]
    module = getattr(sesn, layer)(*channels, golden(f"basis_A/{basis}"), stride=stride, padding=padding)
    module.weight = torch.nn.Parameter(weight)
    x = golden(f"{name}/x").requires_grad_()
    y = module(x)
    y.backward(golden(f"{name}/grad_y"))
    assert x.grad is not None
    for found, wanted in ((y, "y"), (x.grad, "grad_x"), (module.weight.grad, "grad_weight")):
        expected = golden(f"{name}/{wanted}")
        assert (found - expected).norm() <= 1e-5 * expected.norm(), wanted
