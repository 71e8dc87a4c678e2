"""Which bases the layers of a study, or of the paper's networks, are built on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from hssl_ray.method.architecture import ConvSpec
from hssl_ray.method.basis_report import BasisSpec
from hssl_ray.method.geometry import PAPER_SCALES, ROTATION_ORDER
from hssl_ray.study.forecast import corners
from hssl_ray.study.spec import Study
from hssl_ray.trial.config import TrialConfig

Uses = dict[BasisSpec, list[str]]

PAPER_NETWORKS = ({"backbone": "mnist_cnn", "dataset": "mnist"},)
PAPER_GROUPS = ("scale", "rotation", "translation")


def study_bases(study: Study) -> Uses:
    """Each basis of a study's cells, with the layers that use it."""
    return _bases(config for cell in study.cells() for config in corners(study, cell))


def paper_bases() -> Uses:
    """Each basis of the paper's networks on each of its groups, with the layers that use it."""
    settings = [{**network, "group": group} for network in PAPER_NETWORKS for group in PAPER_GROUPS]
    return _bases(TrialConfig.model_validate(each) for each in settings)


def in_words(uses: Iterable[str]) -> str:
    """`mnist_cnn on scale: convolution 2, 3, 4; mnist_cnn on rotation: ...`."""
    layers: dict[str, list[str]] = {}
    for use in uses:
        network, _, layer = use.partition(": ")
        layers.setdefault(network, []).append(layer)
    return "; ".join(f"{network}: convolution {', '.join(names)}" for network, names in layers.items())


def _bases(configs: Iterable[TrialConfig]) -> Uses:
    uses: Uses = {}
    for config in configs:
        for number, conv in enumerate(_convolutions(config.architecture), 1):
            basis = BasisSpec(
                conv.kernel_size,
                conv.effective_size,
                PAPER_SCALES if config.group == "scale" else (1.0,),
                rotations=ROTATION_ORDER if config.group == "rotation" else 1,
            )
            use = f"{config.backbone} on {config.group}: {number}"
            if use not in uses.setdefault(basis, []):
                uses[basis].append(use)
    return uses


def _convolutions(part: object) -> Iterator[ConvSpec]:
    """Every convolution in a description, in its order, however deep."""
    if isinstance(part, ConvSpec):
        yield part
    elif isinstance(part, tuple):
        for inner in part:
            yield from _convolutions(inner)
    elif dataclasses.is_dataclass(part):
        for field in dataclasses.fields(part):
            yield from _convolutions(getattr(part, field.name))
