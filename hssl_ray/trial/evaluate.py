"""What is measured of a network after an epoch, before the first step, and at the end. docs/diagnostics.md lists it.

N images, C channels, G lifted axis, H x W cells, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
from hssl_ray.trial.ridge import Ridge, RidgeMoments, ridge_top1
from hssl_ray.trial.task import VIEWS, Task

EVALUATION_BATCH = 1024
EVALUATION_NUMBERS = {"cpu": 2**23, "cuda": 2**28}
"""Numbers of the largest feature map in a batch. A processor is as fast on few images, and holds less; a GPU is not."""
EQUIVARIANCE_IMAGES = 32
LARGEST_MAP = 8192  # numbers of a map that the ridge probe reads: those of the paper's MNIST network
HELD_MAPS = 2**26
"""Bytes of maps that are held for the ridge probe. A training set with more goes through the network a second time."""


@dataclass
class Representations:
    """What a network makes of a split's images, in their order, on every rank."""

    features: Tensor
    """The fibers' spatial means, (N, D), float32."""
    logits: Tensor
    """The probe's, (N, K), float32."""
    labels: Tensor
    """(N,)."""


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
    map_logits = _Rows(data.test.share(ranks))
    with autocast(config, data.test.device):
        reads = None if probes is None else lambda z, _: map_logits.add(probes.of_maps.logits(readable_map(z)))
        test = representations(network, data.test, ranks, reads, beat)
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
        metrics |= probes.top1(test, data.test.woven(ranks.gather(map_logits.take()), ranks), beat)
    return metrics


@torch.no_grad()
def representations(
    network: Network,
    images: Images,
    ranks: Ranks,
    reads: Callable[[Tensor, Tensor], None] | None = None,
    beat: Callable[[], None] = lambda: None,
) -> Representations:
    """What the network makes of all images. The network is put into evaluation mode.

    Args:
        reads: given z and the labels of every batch of this rank's share.
        beat: called after every batch.
    """
    mine = images.share(ranks)
    features, logits, labels = _Rows(mine), _Rows(mine), _Rows(mine)
    for z, of_batch in _maps(network, images, ranks):
        features.add(network.features(z).float())
        logits.add(network.probe(z).float())
        labels.add(of_batch)
        if reads is not None:
            reads(z, of_batch)
        beat()
    return Representations(*(images.woven(ranks.gather(rows.take()), ranks) for rows in (features, logits, labels)))


@torch.no_grad()
def _maps(network: Network, images: Images, ranks: Ranks) -> Iterator[tuple[Tensor, Tensor]]:
    """z and labels of this rank's share of all images, batch by batch. The network is put into evaluation mode."""
    network.eval()
    for batch in images.in_order(evaluation_batch(network.architecture, images.grid, images.device), ranks):
        yield network.backbone(batch.images), batch.labels


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

    def top1(self, test: Representations, map_logits: Tensor, beat: Callable[[], None]) -> dict[str, float]:
        of_features = (self.train.features, self.train.labels, test.features, test.labels, self.classes)
        found = {"probe/map_ridge_top1": top1(map_logits, test.labels)}
        for name, probe in {"ridge": ridge_top1, "knn": knn_top1, "linear": linear_top1}.items():
            give_back_freed()
            found[f"probe/{name}_top1"] = probe(*of_features)
            beat()
        return found


def _fit_probes(task: Task, data: TrialData, ranks: Ranks, beat: Callable[[], None]) -> _Probes:
    """Before the test images go through the network, so that maps of both sets are never held together."""
    network, images, classes = task.network.eval(), data.train, task.config.data.classes
    give_back_freed()  # what training freed is in pieces that a training set's features do not fit into
    with autocast(task.config, images.device):
        one = readable_map(network.backbone(images.take(torch.arange(1)).images))
    if len(images) < one.numel() or len(images) * one.nbytes <= HELD_MAPS:
        held = _Rows(images.share(ranks))
        with autocast(task.config, images.device):
            train = representations(network, images, ranks, lambda z, _: held.add(readable_map(z)), beat)
        of_maps = Ridge.fit(images.woven(ranks.gather(held.take()), ranks), train.labels, classes)
    else:
        moments = RidgeMoments(classes)
        with autocast(task.config, images.device):
            train = representations(
                network, images, ranks, lambda z, labels: moments.add(readable_map(z), labels, ranks), beat
            )
        give_back_freed()
        choice = moments.choice(ranks)
        with autocast(task.config, images.device):
            for z, labels in _maps(network, images, ranks):
                choice.add(readable_map(z), labels)
                beat()
        of_maps = choice.best(ranks)
    beat()
    give_back_freed()
    return _Probes(train, of_maps, classes)


def _first_images(images: Images) -> Tensor:
    return images.take(torch.arange(min(EQUIVARIANCE_IMAGES, len(images)))).images
