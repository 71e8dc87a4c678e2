"""What is measured of a network after an epoch, before the first step, and at the end. docs/diagnostics.md lists it.

N images, C channels, G lifted axis, H x W cells, D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hssl_ray.method.architecture import Architecture
from hssl_ray.method.networks import Network
from hssl_ray.trial.collapse import effective_rank, feature_std
from hssl_ray.trial.data import Images, TrialData
from hssl_ray.trial.equivariance import equivariance_errors, relative, table
from hssl_ray.trial.pairs import pair_metrics
from hssl_ray.trial.precision import autocast
from hssl_ray.trial.probes import knn_top1, linear_top1, top1
from hssl_ray.trial.ranks import Ranks
from hssl_ray.trial.ridge import ridge_top1
from hssl_ray.trial.task import VIEWS, Task

EVALUATION_BATCH = 1024
EVALUATION_NUMBERS = 2**28  # of the largest feature map in a batch, half a gigabyte in half precision
EQUIVARIANCE_IMAGES = 32
LARGEST_MAP = 8192  # numbers of a map that the ridge probe reads: those of the paper's MNIST network


@dataclass(frozen=True)
class Representations:
    """What a network makes of a split's images, in their order, on every rank."""

    features: Tensor
    """The fibers' spatial means, (N, D), float32."""
    logits: Tensor
    """The probe's, (N, K), float32."""
    labels: Tensor
    """(N,)."""
    maps: Tensor | None
    """If asked for, the maximum of z over the lifted axis, flattened, (N, C*H*W), in z's own type."""


@torch.no_grad()
def measure_start(network: Network, data: TrialData) -> dict[str, float]:
    """Equivariance errors before the first step: of every stage and element, and of the whole network."""
    errors = equivariance_errors(network, _first_images(data.test), every_stage=True)
    on_map, pooled = relative(error for error in errors if error.stage == errors[-1].stage)
    start = "equivariance/start"
    return {f"{start}/map": on_map, f"{start}/pooled": pooled} | table(errors, start)


@torch.no_grad()
def evaluate(task: Task, data: TrialData, ranks: Ranks, epoch: int) -> dict[str, float]:
    """Metrics of the network after an epoch, counted from 1.

    Every epoch: the online probe, collapse measures, the equivariance error of the whole network and, for methods with
    pairs, those of `pair_metrics`. Epochs 1, 2, 4, 8, ... and the last: the error of every stage and element. The last:
    the probes that are trained on the training set's features.
    """
    network, config = task.network, task.config
    last = epoch == config.epochs
    with autocast(config, data.test.device):
        test = representations(network, data.test, ranks, with_maps=last)
        train = representations(network, data.train, ranks, with_maps=True) if last else None
    errors = equivariance_errors(network, _first_images(data.test), every_stage=last or epoch.bit_count() == 1)
    on_map, pooled = relative(error for error in errors if error.stage == errors[-1].stage)
    metrics = {
        "probe/top1": top1(test.logits, test.labels),
        "eval/feature_std": feature_std(test.features),
        "eval/effective_rank": effective_rank(test.features),
        "eval/equivariance_error": on_map,
        "eval/equivariance_error_pooled": pooled,
    }
    if last or epoch.bit_count() == 1:
        metrics |= table(errors, "equivariance")
    if config.method in VIEWS:
        metrics |= pair_metrics(task, data.test, ranks)
    if train is not None:
        metrics |= _probes(train, test, config.data.classes)
    return metrics


@torch.no_grad()
def representations(network: Network, images: Images, ranks: Ranks, *, with_maps: bool = False) -> Representations:
    """What the network makes of all images. The network is put into evaluation mode."""
    network.eval()
    features, logits, labels, maps = [], [], [], []
    for batch in images.in_order(evaluation_batch(network.architecture, images.grid), ranks):
        z = network.backbone(batch.images)
        features.append(network.features(z).float())
        logits.append(network.probe(z).float())
        labels.append(batch.labels)
        if with_maps:
            maps.append(readable_map(z))

    def whole(parts: list[Tensor]) -> Tensor:
        return images.woven(ranks.gather(torch.cat(parts)), ranks)

    return Representations(whole(features), whole(logits), whole(labels), whole(maps) if with_maps else None)


def evaluation_batch(architecture: Architecture, grid: int) -> int:
    """Images to evaluate at a time: as many as their largest feature map allows, EVALUATION_BATCH at most."""
    largest = max(stage.channels * stage.feature_size**2 for stage in architecture.stage_specs(grid))
    return max(1, min(EVALUATION_BATCH, EVALUATION_NUMBERS // (largest * architecture.lifted_order)))


def readable_map(z: Tensor) -> Tensor:
    """What the paper's classifier reads before its own layers, the maximum of z over the lifted axis, flattened.

    A larger map than LARGEST_MAP numbers is averaged over cells to the finest square grid that is not.
    """
    highest = z.amax(2)
    side = highest.shape[-1]
    while side > 1 and highest.shape[1] * side**2 > LARGEST_MAP:
        side -= 1
    return (highest if side == highest.shape[-1] else F.adaptive_avg_pool2d(highest, side)).flatten(1)


def _probes(train: Representations, test: Representations, classes: int) -> dict[str, float]:
    """Probes trained on the training images' features, or their maps."""
    assert train.maps is not None and test.maps is not None
    of_features = (train.features, train.labels, test.features, test.labels, classes)
    return {
        "probe/ridge_top1": ridge_top1(*of_features),
        "probe/map_ridge_top1": ridge_top1(train.maps, train.labels, test.maps, test.labels, classes),
        "probe/knn_top1": knn_top1(*of_features),
        "probe/linear_top1": linear_top1(*of_features),
    }


def _first_images(images: Images) -> Tensor:
    return images.take(torch.arange(min(EQUIVARIANCE_IMAGES, len(images)))).images
