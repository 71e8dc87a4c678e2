"""How far quarter turns are from commuting with networks on even grids: the figures of hssl_ray/study/even_grids.py.

    python benchmarks/even_grids.py [--seeds 3] [--images 16] [--width 0.125]

Relative error of Eq. 1 over the three quarter turns, on the feature map and after its spatial mean, of networks with
random weights in evaluation mode. Images are MNIST's test digits for mnist_cnn; otherwise smooth random fields
correlated over three pixels, of mean 0 and deviation 1; and white noise for all, the worst case. `off centre` is how
far the last map's centre lies from the image's, in pixels. About a minute on one core at width 0.125; the errors of the
paper's full width differ by less than 0.05 on the map.
"""

from __future__ import annotations

import argparse
from statistics import fmean

import torch
from torch import Tensor

from hssl_ray.method.networks import build_network
from hssl_ray.study.even_grids import off_centre
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.data import open_trial_data
from hssl_ray.trial.equivariance import equivariance_errors, relative

SIZES = {"mnist_cnn": (28, 30, 31, 32, 29), "resnet20": (32, 34, 35, 33), "resnet18": (64, 66, 67, 68, 69, 70, 71, 65)}
DATASETS = {"mnist_cnn": "mnist-mini", "resnet20": "cifar10", "resnet18": "tiny-imagenet"}


def pictures(config: TrialConfig, count: int) -> dict[str, Tensor]:
    """Digits or smooth fields, and noise, (N, C, H, W)."""
    generator = torch.Generator().manual_seed(config.seed)
    noise = torch.randn(count, config.data.channels, config.grid, config.grid, generator=generator)
    if config.backbone == "mnist_cnn":
        test = open_trial_data(config, torch.device("cpu")).test
        return {"digits": test.take(torch.arange(0, len(test), len(test) // count)[:count]).images, "noise": noise}
    cells = torch.arange(config.grid, dtype=torch.float32)
    blur = torch.exp(-(cells[:, None] - cells).square() / 3.0**2)  # a field of correlation length 3
    smooth = blur @ noise @ blur
    return {"smooth": smooth / smooth.std(), "noise": noise}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--width", type=float, default=0.125)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, width {asked.width:g}, {asked.seeds} seeds, {asked.images} images")
    print(f"{'backbone':11}{'grid':>5}{'off centre':>12}  {'images':8}{'map':>7}{'pooled':>8}")
    for backbone, sizes in SIZES.items():
        for size in sizes:
            found: dict[str, list[tuple[float, float]]] = {}
            for seed in range(asked.seeds):
                config = TrialConfig.model_validate(
                    {
                        "backbone": backbone,
                        "dataset": DATASETS[backbone],
                        "group": "rotation",
                        "image_size": size,
                        "width": asked.width,
                        "seed": seed,
                    }
                )
                network = build_network(config)
                for name, images in pictures(config, asked.images).items():
                    errors = equivariance_errors(network, images, every_stage=False)
                    found.setdefault(name, []).append(relative(errors))
            for name, pairs in found.items():
                on_map, pooled = (fmean(column) for column in zip(*pairs, strict=True))
                away = off_centre(config.architecture, size)
                print(f"{backbone:11}{size:5}{away:12g}  {name:8}{on_map:7.3f}{pooled:8.3f}", flush=True)


if __name__ == "__main__":
    main()
