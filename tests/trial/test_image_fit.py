"""Images on the trial's grid: padded, cropped about the centre, or resized, always the same for the same number."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hssl_ray.data.catalog import CATALOG
from hssl_ray.data.store import ImageSet
from hssl_ray.method.networks import build_network
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.data import Images

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _plain_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels come out as value / 255."""
    plain = replace(CATALOG["cifar10"], mean=(0.0,) * 3, std=(1.0,) * 3)
    monkeypatch.setitem(CATALOG, "cifar10", plain)


def fitted(pixels: Tensor, **changes: object) -> Tensor:
    config = TrialConfig.model_validate({"dataset": "cifar10", "backbone": "resnet20", **changes})
    images = Images(ImageSet(pixels, torch.zeros(len(pixels), dtype=torch.int64)), config, CPU)
    return images.take(torch.arange(len(pixels))).images * 255


@pytest.fixture
def noise() -> Tensor:
    return torch.randint(0, 256, (3, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_a_crop_keeps_the_centre(noise: Tensor) -> None:
    torch.testing.assert_close(fitted(noise, image_size=28), noise[:, :, 2:30, 2:30].float())
    torch.testing.assert_close(fitted(noise, image_size=25), noise[:, :, 3:28, 3:28].float())


def test_a_larger_grid_is_zero_around_the_image(noise: Tensor) -> None:
    padded = fitted(noise)
    assert padded.shape[-1] == 33
    torch.testing.assert_close(padded[:, :, :32, :32], noise.float())
    assert not padded[:, :, 32].any() and not padded[..., 32].any()


def test_subsets_are_cropped_too(noise: Tensor) -> None:
    config = TrialConfig(dataset="cifar10", backbone="resnet20", image_size=28)
    images = Images(ImageSet(noise, torch.arange(3)), config, CPU, keep=torch.tensor([2]))
    torch.testing.assert_close(images.take(torch.tensor([0])).images * 255, noise[2:, :, 2:30, 2:30].float())


def test_resizing_by_whole_blocks_keeps_their_means() -> None:
    """Antialiased: half the size is a weighted mean of neighbours, which keeps linear ramps and forgets stripes."""
    ramp = torch.arange(32, dtype=torch.uint8).expand(1, 3, 32, 32)
    inner = slice(2, 14)
    small = fitted(ramp, image_size=16, image_fit="resize")
    assert small.shape == (1, 3, 16, 16)
    torch.testing.assert_close(small[0, 0, 0, inner], torch.arange(16)[inner] * 2 + 0.5)
    stripes = (torch.arange(32) % 2 * 200).to(torch.uint8).expand(1, 3, 32, 32)
    assert (fitted(stripes, image_size=16, image_fit="resize")[..., inner] - 100).abs().max() < 1e-3
    assert fitted(stripes, image_size=16).std() > 90  # negative control: a crop keeps them


def test_a_resized_image_does_not_depend_on_its_batch(noise: Tensor) -> None:
    together = fitted(noise, image_size=29, image_fit="resize")
    alone = fitted(noise[1:2], image_size=29, image_fit="resize")
    assert torch.equal(together[1:2], alone)


def test_a_translation_reaches_a_fifth_of_what_is_seen() -> None:
    """A-SSL shifts by up to 20 % of the image before padding, or of the crop."""
    for image_size, reach in ((None, 6), (28, 5), (48, 6)):
        config = TrialConfig(
            dataset="cifar10", backbone="resnet20", group="translation", width=0.01, image_size=image_size
        )
        shifts = build_network(config).group.augmentation(torch.tensor([[0.0, 0.9999]]))
        assert shifts.tolist() == [[-reach, reach]]
