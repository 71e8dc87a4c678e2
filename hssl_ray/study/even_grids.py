"""What a grid costs that strided layers cannot keep centred: known before a trial is spent, from measurements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hssl_ray.method.architecture import Architecture, ConvLayer, DenseLayer, ResidualBlock
from hssl_ray.trial.config import TrialConfig


@dataclass(frozen=True)
class Measured:
    """Relative error of Eq. 1 over the quarter turns, on the feature map and after its spatial mean."""

    on_map: float
    pooled: float


MEASURED: Mapping[str, Mapping[float, Measured]] = {
    "mnist_cnn": {0.5: Measured(0.54, 0.08), 1.0: Measured(0.75, 0.08), 1.5: Measured(0.91, 0.08)},
    "resnet20": {0.5: Measured(0.39, 0.05), 1.0: Measured(0.63, 0.08), 1.5: Measured(0.78, 0.09)},
    "resnet18": {
        0.5: Measured(0.41, 0.07),
        1.0: Measured(0.63, 0.10),
        1.5: Measured(0.76, 0.13),
        2.0: Measured(0.82, 0.13),
        2.5: Measured(0.86, 0.13),
        3.0: Measured(0.88, 0.13),
        3.5: Measured(0.90, 0.12),
    },
}
"""By backbone and by pixels off centre, on which the error depends far more than on grid, width or seed. From `python
benchmarks/even_grids.py`: random weights, width 0.125, digits for mnist_cnn and smooth random images for the others."""


def off_centre(architecture: Architecture, image_size: int) -> float:
    """How far the centre of the feature map lies from the image's, along one side, in pixels; 0 on an exact grid.

    For layers whose padding keeps the size at stride 1, as in all backbones: they sample cells 0, stride, 2 stride,
    ..., so what is left over at the far end moves the centre by half of it. A quarter turn about one centre is a
    quarter turn about the other and a shift by up to twice their distance.
    """
    size, pixels, away = image_size, 1, 0.0
    for layer in _strided(architecture):
        cells = layer.output_size(size)
        away += pixels * (size - 1 - layer.stride * (cells - 1)) / 2
        size, pixels = cells, pixels * layer.stride
    return away


def expected_error(config: TrialConfig) -> Measured | None:
    """The measurement nearest to a trial's grid; None if its network commutes with its group there.

    A network without structure commutes with nothing on any grid, so there is nothing to expect of it.
    """
    if not config.geometry.quarter_turns or config.structure == "none":
        return None
    away = off_centre(config.architecture, config.grid)
    if away == 0:
        return None
    measured = MEASURED[config.backbone]
    return measured[min(measured, key=lambda at: abs(at - away))]


def _strided(architecture: Architecture) -> Iterator[ConvLayer | ResidualBlock]:
    """The layers in order, without those that are fully connected and have no stride."""
    for layers in architecture.stages:
        for layer in layers:
            if not isinstance(layer, DenseLayer):
                yield layer
