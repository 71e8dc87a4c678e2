"""Where a scale network's equivariance error comes from: bases, strides, BatchNorm, depth. Figures of docs/basis.md.

    python benchmarks/scale_error.py [--seeds 3] [--images 32] [--trained]

Networks with random weights and 8, 16, 16 channels, each layer followed by ReLU. For every element g but the identity
the shrunk image's features at the first scale are compared with the image's at scale g:

    map       relative error of Eq. 1, as `eval/equivariance_error` has it
    pooled    the same after the spatial mean
    1 - cos   of the pooled vectors, which is what contrastive losses see
    right     share of images for which, of all scales, the right one's vector is the nearest by cosine

Means over elements and seeds. Digits are MNIST's on 29 cells; smooth images are random fields correlated over three
pixels under a Gaussian window, on 29 cells. Residual is `hssl-ray basis report`'s, first layer, mean to the first
scale. About a minute on one core; `--trained` adds the networks of the quick-start study, trained for as long as its
trials are, about a minute each.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hssl_ray.method import geometry
from hssl_ray.method.basis_report import BasisSpec, basis_report
from hssl_ray.method.groups import Group, Scale
from hssl_ray.method.networks import Network
from hssl_ray.method.normalisation import BatchNorm
from hssl_ray.method.steerable import GroupConv2d, LiftingConv2d
from hssl_ray.study.spec import load_study
from hssl_ray.trial.checkpoint import load_network
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.data import open_trial_data
from hssl_ray.trial.train import train_trial

PAPER = geometry.PAPER_SCALES
THIRDS = (1.0, 1.26, 1.59, 2.0)  # a third of an octave each
SIXTHS = (1.0, 1.118, 1.25, 1.398, 1.563, 1.747)  # six geometric scales over the paper's range
QUICKSTART = Path(__file__).parents[1] / "studies" / "quickstart.yaml"
CHANNELS = (8, 16, 16)
GRID = 29


@dataclass(frozen=True)
class Variant:
    """Kernels and effective sizes of the layers, their strides, the scales, whether BatchNorm follows each, and whether
    the network's answer to a black image is subtracted from all it answers.
    """

    name: str
    layers: tuple[tuple[int, int], ...]
    strides: tuple[int, ...]
    scales: tuple[float, ...] = PAPER
    norm: bool = False
    less_black: bool = False


PAPER_LAYERS = ((11, 11), (7, 3), (7, 3))
VARIANTS = (
    Variant("paper: lift alone", PAPER_LAYERS[:1], (1,)),
    Variant("paper: two layers", PAPER_LAYERS[:2], (1, 1)),
    Variant("paper: three layers, no strides", PAPER_LAYERS, (1, 1, 1)),
    Variant("paper", PAPER_LAYERS, (1, 2, 2)),
    Variant("paper, BatchNorm", PAPER_LAYERS, (1, 2, 2), norm=True),
    Variant("paper, BatchNorm, less black", PAPER_LAYERS, (1, 2, 2), norm=True, less_black=True),
    Variant("k11 e3, k7 e3", ((11, 3), (7, 3), (7, 3)), (1, 2, 2)),
    Variant("k11 e3 throughout", ((11, 3),) * 3, (1, 2, 2)),
    Variant("k11 e3, sixths", ((11, 3),) * 3, (1, 2, 2), SIXTHS),
    Variant("k7 e3, thirds", ((7, 3),) * 3, (1, 2, 2), THIRDS),
    Variant("k11 e3, thirds", ((11, 3),) * 3, (1, 2, 2), THIRDS),
    Variant("k15 e3, thirds", ((15, 3),) * 3, (1, 2, 2), THIRDS),
    Variant("k15 e3, thirds, BatchNorm", ((15, 3),) * 3, (1, 2, 2), THIRDS, norm=True),
    Variant("k15 e3, thirds, BatchNorm, less black", ((15, 3),) * 3, (1, 2, 2), THIRDS, norm=True, less_black=True),
    Variant("k15 e3, thirds: two layers", ((15, 3),) * 2, (1, 1), THIRDS),
    Variant("k15 e3, thirds, no strides", ((15, 3),) * 3, (1, 1, 1), THIRDS),
)


def build(variant: Variant, group: Scale, images: Tensor) -> nn.Module:
    """The network, its BatchNorm statistics those of the images."""
    modules: list[nn.Module] = []
    channels = 1
    for index, ((kernel, effective), stride) in enumerate(zip(variant.layers, variant.strides, strict=True)):
        layer = LiftingConv2d if index == 0 else GroupConv2d
        modules.append(layer(channels, CHANNELS[index], kernel, effective, group, stride=stride, padding=kernel // 2))
        modules.append(BatchNorm(CHANNELS[index], relu=True) if variant.norm else nn.ReLU())
        channels = CHANNELS[index]
    network = nn.Sequential(*modules)
    for _ in range(60 if variant.norm else 0):  # a running mean forgets its start by a tenth each time
        network(images)
    return network.eval()


@torch.no_grad()
def measure(variant: Variant, images: Tensor, seed: int) -> tuple[float, float, float, float]:
    """Map, pooled, 1 - cos, right."""
    group = Scale(geometry.scale(variant.scales), variant.scales)
    torch.manual_seed(seed)
    network = build(variant, group, images)
    black = network(torch.zeros_like(images[:1])) * variant.less_black
    return errors(lambda x: network(x) - black, group, images)


@torch.no_grad()
def errors(f: Callable[[Tensor], Tensor], group: Group, images: Tensor) -> tuple[float, float, float, float]:
    """Map, pooled, 1 - cos, right."""
    z = f(images)
    fibers = F.normalize(group.fibers(z), dim=2)  # (N, G, C)
    rows = []
    for element in range(1, group.order):
        g = torch.full((len(images),), element)
        expected = group.transform_features(g, z)
        found = f(group.transform_input(g, images))
        on_map = (found - expected)[:, :, 0].norm() / expected[:, :, 0].norm()
        a, b = group.fibers(found)[:, 0], group.fibers(expected)[:, 0]
        cosines = torch.einsum("nc,ngc->ng", F.normalize(a, dim=1), fibers)
        right = (cosines.argmax(1) == element).double().mean()
        rows.append([x.item() for x in (on_map, (a - b).norm() / b.norm(), 1 - cosines[:, element].mean(), right)])
    on_map, pooled, cosine, right_share = (fmean(column) for column in zip(*rows, strict=True))
    return on_map, pooled, cosine, right_share


def trained(method: str, seed: int) -> Network:
    """The quick-start study's network after its epochs, or as it starts for `frozen`."""
    (cell,) = (cell for cell in load_study(QUICKSTART).cells() if cell.settings["method"] == method)
    config = TrialConfig(**cell.settings, seed=seed)
    committed: list[Path | None] = []
    with TemporaryDirectory() as folder:
        train_trial(config, lambda metrics, path: committed.append(path), workdir=Path(folder), checkpoint_every=100)
        assert committed[-1] is not None
        return load_network(committed[-1])[1]


def pictures(count: int) -> dict[str, Tensor]:
    """(N, 1, 29, 29) digits, and smooth images of about the same extent."""
    test = open_trial_data(TrialConfig(group="scale", image_size=GRID), torch.device("cpu")).test
    noise = torch.randn(count, 1, GRID, GRID, generator=torch.Generator().manual_seed(0))
    cells = torch.arange(GRID, dtype=torch.float32)
    blur = torch.exp(-(cells[:, None] - cells).square() / 3.0**2)
    window = torch.exp(-(cells - GRID // 2).square() / (2 * (GRID / 7) ** 2))
    smooth = blur @ noise @ blur
    return {
        "digits": test.take(torch.arange(0, len(test), len(test) // count)[:count]).images,
        "smooth": smooth / smooth.std() * window * window[:, None],
    }


def correlation_length(images: Tensor) -> float:
    """Pixels over which images less their mean image correlate: l of exp(-d**2 / 2 l**2) at two pixels' distance."""
    apart = (images - images.mean(0)).double()
    power = torch.fft.fft2(F.pad(apart, (GRID, 0, GRID, 0))).abs().square().mean((0, 1))
    correlation = torch.fft.ifft2(power).real
    at_two = (correlation[0, 2] + correlation[2, 0]) / (2 * correlation[0, 0])
    return math.sqrt(-2 / math.log(at_two.item()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--trained", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    images = pictures(asked.images)
    print(f"torch {torch.__version__}, {asked.seeds} seeds, {asked.images} images")
    print("; ".join(f"{name} images correlate over {correlation_length(x):.1f} pixels" for name, x in images.items()))
    columns = f"{'map':>7}{'pooled':>8}{'1 - cos':>9}{'right':>7}"
    print(f"{'':38}{'residual':>9}   {'digits':30} smooth")
    print(f"{'network':38}{'':9} {columns}{columns}")
    for variant in VARIANTS:
        residual = fmean(basis_report(BasisSpec(*variant.layers[0], variant.scales)).to_first)
        found = [[measure(variant, batch, seed) for seed in range(asked.seeds)] for batch in images.values()]
        print(line(variant.name, residual, found), flush=True)
    for method in ("frozen", "a_ssl", "h_ssl") if asked.trained else ():
        networks = [trained(method, seed) for seed in range(asked.seeds)]
        found = [[errors(net.backbone, net.group, batch) for net in networks] for batch in images.values()]
        print(line(f"quick start, {method}", None, found), flush=True)


def line(name: str, residual: float | None, found: list[list[tuple[float, float, float, float]]]) -> str:
    """One row: means over seeds, digits and then smooth images."""
    row = f"{name:38}{'' if residual is None else format(residual, '.4f'):>9} "
    for seeds in found:
        on_map, pooled, cosine, right = (fmean(column) for column in zip(*seeds, strict=True))
        row += f"{on_map:7.2f}{pooled:8.3f}{cosine:9.4f}{right:7.2f}"
    return row


if __name__ == "__main__":
    main()
