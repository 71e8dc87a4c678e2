"""A trial's images on its device, and this rank's share of every batch.

N images, C channels, H W side of the grid.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hssl_ray.data.store import ImageSet, open_dataset
from hssl_ray.data.subset import balanced_subset
from hssl_ray.method.draws import permutation
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.ranks import Ranks


@dataclass(frozen=True)
class Batch:
    """One rank's share of a global batch: (n, C, H, W) floats, (n,) labels, (n,) numbers of the images."""

    images: Tensor
    labels: Tensor
    indices: Tensor


class Images:
    """Images of one split as uint8, turned into scaled float batches on the trial's grid, on the device.

    On a CPU the bytes stay in the memory-mapped file that all processes of the machine share.
    """

    def __init__(self, split: ImageSet, config: TrialConfig, device: torch.device, keep: Tensor | None = None) -> None:
        over = config.data.size - config.grid
        images = split.images
        if over > 0 and config.image_fit == "crop":
            inner = slice(over // 2, over // 2 + config.grid)
            images = images[:, :, inner, inner]
        self._pixels = images if keep is None else images[keep]
        self._labels = split.labels if keep is None else split.labels[keep]
        if device.type != "cpu":
            self._pixels, self._labels = self._pixels.to(device), self._labels.to(device)
        self.device = device
        self.grid = config.grid
        border = max(0, -over)
        before = border // 2
        self._pad = (before, border - before, before, border - before)
        shape = (1, config.data.channels, 1, 1)
        self._mean = torch.tensor(config.data.mean, device=device).view(shape)
        self._std = torch.tensor(config.data.std, device=device).view(shape)

    def __len__(self) -> int:
        return len(self._labels)

    def take(self, indices: Tensor) -> Batch:
        """The images of these numbers: pixels become (value / 255 - mean) / std, larger images than the grid are
        cropped about the centre or resized with antialiasing, smaller ones padded with zeros.
        """
        where = indices.to(self.device)
        images = (self._pixels[where].float() / 255 - self._mean) / self._std
        if images.shape[-1] > self.grid:
            images = F.interpolate(images, size=(self.grid, self.grid), mode="bilinear", antialias=True)
        return Batch(F.pad(images, self._pad), self._labels[where], indices)

    def spread(self, count: int) -> Tensor:
        """Numbers of `count` images, or of all there are, spaced evenly through the set, int64."""
        count = min(count, len(self))
        return torch.arange(count) * len(self) // count

    def share(self, ranks: Ranks) -> int:
        """How many images `in_order` gives this rank."""
        return len(range(ranks.rank, len(self), ranks.world_size))

    def in_order(self, batch_size: int, ranks: Ranks) -> Iterator[Batch]:
        """This rank's share of all images, each once, in large batches, for evaluation."""
        mine = torch.arange(len(self))[ranks.rank :: ranks.world_size]
        for indices in torch.split(mine, batch_size):
            yield self.take(indices)

    def woven(self, gathered: Tensor, ranks: Ranks) -> Tensor:
        """What the ranks made of their shares of `in_order`, one share below the other, back in the images' order."""
        if ranks.world_size == 1:
            return gathered
        order = torch.cat([torch.arange(len(self))[rank :: ranks.world_size] for rank in range(ranks.world_size)])
        return gathered[order.argsort().to(gathered.device)]


@dataclass(frozen=True)
class TrialData:
    """Training and test images of a trial."""

    train: Images
    test: Images
    digest: str


def open_trial_data(config: TrialConfig, device: torch.device) -> TrialData:
    """The config's data set, cut to its class-balanced `train_images`."""
    dataset = open_dataset(config.dataset)
    keep = None if config.train_images is None else balanced_subset(dataset.train.labels, config.train_images)
    return TrialData(Images(dataset.train, config, device, keep), Images(dataset.test, config, device), dataset.digest)


def training_batches(images: Images, config: TrialConfig, epoch: int, ranks: Ranks) -> Iterator[Batch]:
    """This rank's slice of each global batch of an epoch (from 0), in an order that only seed and epoch decide.

    Slices are contiguous, so gathering the ranks in order gives the global batch back.
    """
    order = permutation(config.seed, epoch, len(images))
    for step in range(config.steps_per_epoch):
        batch = order[step * config.batch_size : (step + 1) * config.batch_size]
        yield images.take(batch.chunk(ranks.world_size)[ranks.rank])
