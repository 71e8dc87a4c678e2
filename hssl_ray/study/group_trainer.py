"""Ray Train's trainer with one process less around the ranks, which would import Ray Train on the ranks' cores."""

from __future__ import annotations

from typing import Any

from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer


class GroupTrainer(DataParallelTrainer):
    """Without the manager of Ray data sets, which ours are not."""

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()
        return [callback for callback in callbacks if not isinstance(callback, DatasetsCallback)]
