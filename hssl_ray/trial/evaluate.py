"""What is measured of a network after an epoch, before the first step, and at the end. docs/diagnostics.md lists it.

N images, C channels, G lifted axis, H x W cells, D features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hssl_ray.method.architecture import Architecture
from hssl_ray.method.networks import Network
from hssl_ray.trial.collapse import effective_rank, feature_std
from hssl_ray.trial.data import Images, TrialData
from hssl_ray.trial.equivariance import equivariance_errors, relative, table
from hssl_ray.trial.freed import give_back_freed
from hssl_ray.trial.pairs import pair_metrics
from hssl_ray.trial.precision import autocast
from hssl_ray.trial.probes import knn_top1, linear_top1, top1
from hssl_ray.trial.ranks import Ranks
from hssl_ray.trial.ridge import Ridge, ridge_top1
from hssl_ray.trial.task import VIEWS, Task

EVALUATION_BATCH = 1024
EVALUATION_NUMBERS = {"cpu": 2**23, "cuda": 2**28}
"""Numbers of the largest feature map in a batch. A processor is as fast on few images, and holds less; a GPU is not."""
EQUIVARIANCE_IMAGES = 32
LARGEST_MAP = 8192  # numbers of a map that the ridge probe reads: those of the paper's MNIST network


@dataclass
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

    def give_maps(self) -> Tensor:
        """The maps, which are then the caller's alone: of a whole training set they are large."""
        assert self.maps is not None
        maps, self.maps = self.maps, None
        return maps


@torch.no_grad()
def measure_start(network: Network, data: TrialData) -> dict[str, float]:
    """Equivariance errors before the first step: of every stage and element, and of the whole network."""
    errors = equivariance_errors(network, _first_images(data.test), every_stage=True)
    on_map, pooled = relative(error for error in errors if error.stage == errors[-1].stage)
    start = "equivariance/start"
    return {f"{start}/map": on_map, f"{start}/pooled": pooled} | table(errors, start)


@torch.no_grad()
def evaluate(
    task: Task, data: TrialData, ranks: Ranks, epoch: int, beat: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """Metrics of the network after an epoch, counted from 1. `beat` is called after every batch and every probe.

    Every epoch: the online probe, collapse measures, the equivariance error of the whole network and, for methods with
    pairs, those of `pair_metrics`. Epochs 1, 2, 4, 8, ... and the last: the error of every stage and element. The last:
    the probes that are trained on the training set's features.
    """
    network, config = task.network, task.config
    last = epoch == config.epochs
    probes = _fit_probes(task, data, ranks, beat) if last else None
    with autocast(config, data.test.device):
        test = representations(network, data.test, ranks, with_maps=last, beat=beat)
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
    if probes is not None:
        metrics |= probes.top1(test, beat)
    return metrics


@torch.no_grad()
def representations(
    network: Network,
    images: Images,
    ranks: Ranks,
    *,
    with_maps: bool = False,
    beat: Callable[[], None] = lambda: None,
) -> Representations:
    """What the network makes of all images. The network is put into evaluation mode."""
    network.eval()
    mine = images.share(ranks)
    features, logits, labels, maps = _Rows(mine), _Rows(mine), _Rows(mine), _Rows(mine)
    size = evaluation_batch(network.architecture, images.grid, images.device)
    for batch in images.in_order(size, ranks):
        z = network.backbone(batch.images)
        features.add(network.features(z).float())
        logits.add(network.probe(z).float())
        labels.add(batch.labels)
        if with_maps:
            maps.add(readable_map(z))
        beat()

    def whole(rows: _Rows) -> Tensor:
        return images.woven(ranks.gather(rows.take()), ranks)

    return Representations(whole(features), whole(logits), whole(labels), whole(maps) if with_maps else None)


class _Rows:
    """Rows that come in batches, written where they stay: to put them together at the end would hold them twice."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._rows: Tensor | None = None
        self._filled = 0

    def add(self, batch: Tensor) -> None:
        if self._rows is None:
            self._rows = batch.new_empty(self._count, *batch.shape[1:])
        self._rows[self._filled : self._filled + len(batch)] = batch
        self._filled += len(batch)

    def take(self) -> Tensor:
        """All of them."""
        assert self._rows is not None and self._filled == self._count
        return self._rows


def evaluation_batch(architecture: Architecture, grid: int, device: torch.device) -> int:
    """Images to evaluate at a time: as many as their largest feature map allows, EVALUATION_BATCH at most."""
    largest = max(stage.channels * stage.feature_size**2 for stage in architecture.stage_specs(grid))
    return max(1, min(EVALUATION_BATCH, EVALUATION_NUMBERS[device.type] // (largest * architecture.lifted_order)))


def readable_map(z: Tensor) -> Tensor:
    """What the paper's classifier reads before its own layers, the maximum of z over the lifted axis, flattened.

    A larger map than LARGEST_MAP numbers is averaged over cells to the finest square grid that is not.
    """
    highest = z.amax(2)
    side = highest.shape[-1]
    while side > 1 and highest.shape[1] * side**2 > LARGEST_MAP:
        side -= 1
    return (highest if side == highest.shape[-1] else F.adaptive_avg_pool2d(highest, side)).flatten(1)


@dataclass(frozen=True)
class _Probes:
    """Probes trained on the training images' features, or their maps, which are gone when they are."""

    train: Representations
    of_maps: Ridge
    classes: int

    def top1(self, test: Representations, beat: Callable[[], None]) -> dict[str, float]:
        of_features = (self.train.features, self.train.labels, test.features, test.labels, self.classes)
        probes: dict[str, Callable[[], float]] = {
            "probe/ridge_top1": lambda: ridge_top1(*of_features),
            "probe/map_ridge_top1": lambda: self.of_maps.top1(test.give_maps(), test.labels),
            "probe/knn_top1": lambda: knn_top1(*of_features),
            "probe/linear_top1": lambda: linear_top1(*of_features),
        }
        found = {}
        for name, probe in probes.items():
            found[name] = probe()
            beat()
        return found


def _fit_probes(task: Task, data: TrialData, ranks: Ranks, beat: Callable[[], None]) -> _Probes:
    """Before the test images go through the network, so that maps of both sets are never held together."""
    config = task.config
    give_back_freed()  # what training freed is in pieces that a training set's maps do not fit into
    with autocast(config, data.train.device):
        train = representations(task.network, data.train, ranks, with_maps=True, beat=beat)
    of_maps = Ridge.fit(train.give_maps(), train.labels, config.data.classes)
    beat()
    give_back_freed()
    return _Probes(train, of_maps, config.data.classes)


def _first_images(images: Images) -> Tensor:
    return images.take(torch.arange(min(EQUIVARIANCE_IMAGES, len(images)))).images
