"""A checkpoint as a classifier: what training's own evaluation would say, from images as people have them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hssl_ray.data.store import ImageSet
from hssl_ray.method.networks import build_network
from hssl_ray.study.checkpoint_model import CheckpointModel, _load_pyfunc
from hssl_ray.trial.checkpoint_files import CheckpointError
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.data import Images

CONFIG = TrialConfig(width=0.0625, epochs=1, warmup_epochs=0, batch_size=100)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    network = build_network(CONFIG)
    save_file(
        {name: value.contiguous() for name, value in network.state_dict().items()}, tmp_path / "weights.safetensors"
    )
    (tmp_path / "config.json").write_text(CONFIG.model_dump_json())
    return tmp_path


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randint(0, 256, (7, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_it_says_what_the_trials_own_evaluation_says(folder: Path, pixels: torch.Tensor) -> None:
    network = build_network(CONFIG).eval()
    batch = Images(ImageSet(pixels, torch.zeros(7, dtype=torch.int64)), CONFIG, torch.device("cpu"))
    with torch.inference_mode():
        expected = network.probe(network.backbone(batch.take(torch.arange(7)).images)).softmax(1)
    torch.testing.assert_close(torch.from_numpy(_load_pyfunc(str(folder)).predict(pixels.numpy())), expected)


def test_integers_floats_lists_and_images_without_a_channel_axis_are_the_same_images(
    folder: Path, pixels: torch.Tensor
) -> None:
    model = CheckpointModel(folder)
    expected = model.predict(pixels.numpy())
    for same in (pixels.numpy()[:, 0], pixels.numpy() / 255, pixels.tolist(), pixels.numpy().astype(np.int64)):
        np.testing.assert_allclose(model.predict(same), expected, rtol=1e-4, atol=1e-6)
    assert np.abs(model.predict(255 - pixels.numpy()) - expected).max() > 1e-4, "other images, another answer"
    assert model.predict(pixels.numpy()[:0]).shape == (0, 10)


@pytest.mark.parametrize("shape", [(3, 28, 28, 1), (3, 1, 29, 29), (28, 28), (3, 3, 28, 28)])
def test_images_of_another_shape_are_refused_with_both_shapes(folder: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"images: must be numbers of shape \(N, 1, 28, 28\), got uint8"):
        CheckpointModel(folder).predict(np.zeros(shape, np.uint8))


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    config = json.loads(CONFIG.model_dump_json()) | {"width": 0.125}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"backbone\..*: must be torch\.float32 .*, got torch\.float32"):
        CheckpointModel(folder)
