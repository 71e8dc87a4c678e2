"""What the tests of the method share: groups, small networks, an assertion of equivariance, a broken twin."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from hssl_ray.method import geometry, native
from hssl_ray.method.groups import (
    Dihedral,
    Group,
    Rotation,
    RotationTranslation,
    Scale,
    ScaleTranslation,
    Translation,
)
from hssl_ray.method.native import FLAGS, SWITCH, native_library
from hssl_ray.method.networks import Network, build_network
from hssl_ray.trial.config import TrialConfig

GROUPS: dict[str, Callable[[], Group]] = {
    "rotation": lambda: Rotation(geometry.rotation()),
    "scale": lambda: Scale(geometry.scale()),
    "translation": lambda: Translation(geometry.translation(8), image_size=28, stride=4),
    "rotation8": lambda: Rotation(geometry.rotation(8)),
    "dihedral": lambda: Dihedral(geometry.dihedral()),
    "rotation_translation": lambda: RotationTranslation(geometry.rotation_translation(8), image_size=28, stride=4),
    "scale_translation": lambda: ScaleTranslation(geometry.scale_translation(8), image_size=28, stride=4),
}

PROCESSORS = {"this one": (), "AVX2": ("-mno-avx512f",), "SSE": ("-mno-avx",)}
"""Compiler flags that leave as much of this processor as those have."""


@pytest.fixture(autouse=True)
def _same_every_time() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(params=list(GROUPS))
def group(request: pytest.FixtureRequest) -> Group:
    """Every group in turn: a new one joins the contract tests by a line in GROUPS."""
    return GROUPS[request.param]()


@pytest.fixture(params=["compiled", "plain"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With compiled kernels, and with none, as on a machine without a compiler."""
    monkeypatch.setenv(SWITCH, "1" if request.param == "compiled" else "0")


@pytest.fixture(params=list(PROCESSORS))
def processor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Kernels compiled for this processor, and for those with narrower vectors."""
    flags = PROCESSORS[request.param]
    if flags and platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("flags of another kind of processor")
    monkeypatch.setattr(native, "FLAGS", (*FLAGS, *flags))
    native._load.cache_clear()
    assert native_library() is not None
    yield
    native._load.cache_clear()


@pytest.fixture
def rotation() -> Group:
    return GROUPS["rotation"]()


@pytest.fixture
def make_images() -> Callable[..., Tensor]:
    """Noise: the worst case for equivariance."""

    def make(
        count: int, size: int = 29, *, channels: int = 1, seed: int = 0, dtype: torch.dtype = torch.float64
    ) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(count, channels, size, size, generator=generator, dtype=dtype)

    return make


@pytest.fixture
def make_network() -> Callable[..., Network]:
    """A narrow network of the paper, float64 unless asked otherwise."""

    def make(group: str, *, dtype: torch.dtype = torch.float64, **changes: object) -> Network:
        config = TrialConfig.model_validate({"group": group, "width": 0.125, **changes})
        return build_network(config).to(dtype)

    return make


@pytest.fixture
def without_structure() -> Callable[[nn.Module], nn.Module]:
    """Takes the symmetry out of a network: each lifted element gets basis functions of its own, free ones."""

    def scramble(module: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(1)
        for name, basis in module.named_buffers():
            if name.split(".")[-1] == "basis":
                noise = torch.randn(basis.shape, generator=generator, dtype=torch.float64).to(basis)
                basis.copy_(noise * basis.norm() / noise.norm())
        return module

    return scramble


@pytest.fixture
def equivariance_error() -> Callable[[Callable[[Tensor], Tensor], Group, Tensor], float]:
    """Largest |f(T_g[x]) - Gamma_g[f(x)]| over elements, where Gamma_g[f(x)] is known, over the largest |f(x)|."""

    def error(f: Callable[[Tensor], Tensor], group: Group, x: Tensor) -> float:
        z = f(x)
        worst = 0.0
        for element in range(group.order):
            g = torch.full((len(x),), element)
            apart = (f(group.transform_input(g, x)) - group.transform_features(g, z)).abs()
            worst = max(worst, apart.where(group.known_features(g, z), 0.0).max().item())
        return worst / z.abs().max().item()

    return error
