"""Which bases the layers of a study, or of the paper's networks, are built on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

from hssl_ray.method.architecture import ConvSpec
from hssl_ray.method.basis_report import BasisSpec
from hssl_ray.method.parts import Circle, Lifted, Mirrored
from hssl_ray.study.forecast import corners
from hssl_ray.study.spec import Study
from hssl_ray.trial.config import TrialConfig

Uses = dict[BasisSpec, dict[str, list[int]]]
"""For each basis the networks on their groups, and by number the convolutions in them."""

PAPER_NETWORKS = (
    {"backbone": "mnist_cnn", "dataset": "mnist"},
    {"backbone": "resnet20", "dataset": "cifar10"},
    {"backbone": "resnet18", "dataset": "tiny-imagenet"},
)
PAPER_GROUPS = ("scale", "rotation", "translation")


def study_bases(study: Study) -> Uses:
    """Each basis of a study's cells, with what uses it. Networks without structure have none."""
    return _bases(config for cell in study.cells() for config in corners(study, cell))


def paper_bases() -> Uses:
    """Each basis of the paper's networks on each of its groups, with what uses it."""
    settings = [{**network, "group": group} for network in PAPER_NETWORKS for group in PAPER_GROUPS]
    return _bases(TrialConfig.model_validate(each) for each in settings)


def in_words(networks: Mapping[str, list[int]]) -> str:
    """`mnist_cnn on scale: convolution 2 to 4; mnist_cnn on rotation: ...`."""
    return "; ".join(f"{network}: convolution {_runs(numbers)}" for network, numbers in networks.items())


def _runs(numbers: list[int]) -> str:
    """Ascending numbers as `1, 3 to 5`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _bases(configs: Iterable[TrialConfig]) -> Uses:
    uses: Uses = {}
    for config in configs:
        network = f"{config.backbone} on {config.group}"
        for number, (kernel_size, effective_size) in enumerate(_steerable(config.architecture), 1):
            basis = BasisSpec(
                kernel_size,
                effective_size,
                config.geometry.scales,
                rotations=_turns(config.geometry.lifted),
            )
            numbers = uses.setdefault(basis, {}).setdefault(network, [])
            if number not in numbers:
                numbers.append(number)
    return uses


def _turns(lifted: Lifted | None) -> int:
    """Turned copies of a basis; reflections, which are exact as quarter turns are, are not counted."""
    match lifted:
        case Circle(order):
            return order
        case Mirrored(turns):
            return turns
        case _:
            return 1


def _steerable(part: object) -> Iterator[tuple[int, int]]:
    """Kernel and effective size of every convolution in a description, in its order, however deep.

    Left out are free kernels and the 1 x 1 of shortcuts, which have no basis to measure.
    """
    if isinstance(part, ConvSpec):
        if part.effective_size is not None and part.kernel_size > 1:
            yield part.kernel_size, part.effective_size
    elif isinstance(part, tuple):
        for inner in part:
            yield from _steerable(inner)
    elif dataclasses.is_dataclass(part):
        for field in dataclasses.fields(part):
            yield from _steerable(getattr(part, field.name))
