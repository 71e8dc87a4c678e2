"""Loads a tracked checkpoint as a classifier, for `mlflow.pyfunc.load_model`. Weights are safetensors: no pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hssl_ray.data.store import ImageSet
from hssl_ray.trial.checkpoint import load_network
from hssl_ray.trial.data import Images

BATCH = 512


class CheckpointModel:
    """The probe of a trained network as a classifier of images of the trial's data set."""

    def __init__(self, folder: Path) -> None:
        """
        Args:
            folder: holds `weights.safetensors` and `config.json`.

        Raises:
            OSError: a file is missing.
            pydantic.ValidationError: the config is not one of a trial.
            RuntimeError: the weights do not fit the config's network.
        """
        self.config, self._network = load_network(folder)

    @torch.inference_mode()
    def predict(self, images: Any, params: dict[str, Any] | None = None) -> NDArray[np.float32]:
        """Class probabilities.

        Args:
            images: (N, C, H, W), or (N, H, W) if the data set has one channel, at the data set's own size. Integers
                are pixels from 0 to 255, floats from 0 to 1.
            params: MLflow hands it over; there are none.

        Returns:
            (N, classes) float32, rows of sum 1; `.argmax(1)` is the predicted class.

        Raises:
            ValueError: the images have another shape or type than the data set's.
        """
        data = self.config.data
        array = np.asarray(images)
        if array.ndim == 3 and data.channels == 1:
            array = array[:, None]
        expected = (data.channels, data.size, data.size)
        if array.ndim != 4 or array.shape[1:] != expected or array.dtype.kind not in "uif":
            shape = ", ".join(map(str, expected))
            raise ValueError(f"images: must be numbers of shape (N, {shape}), got {array.dtype} {array.shape}")
        pixels = torch.from_numpy(array * 255.0 if array.dtype.kind == "f" else array.astype(np.float64))
        batches = Images(
            ImageSet(pixels, torch.zeros(len(pixels), dtype=torch.int64)), self.config, torch.device("cpu")
        )
        probabilities = torch.empty(len(pixels), data.classes)
        for start in range(0, len(pixels), BATCH):
            part = torch.arange(start, min(start + BATCH, len(pixels)))
            logits = self._network.probe(self._network.backbone(batches.take(part).images))
            probabilities[part] = logits.float().softmax(1)
        return probabilities.numpy()


def _load_pyfunc(path: str) -> CheckpointModel:
    """MLflow's entry: the model whose data lies at `path`."""
    return CheckpointModel(Path(path))
