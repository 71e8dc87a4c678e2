"""Ray Train's trainer with fewer processes around the ranks; each of them imports Ray Train on the ranks' cores."""

from __future__ import annotations

from typing import Any

from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer


class GroupTrainer(DataParallelTrainer):
    """Without the manager of Ray data sets, which ours are not, and with the cleaner started last."""

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()
        return [
            _LateCleaner() if type(callback) is PlacementGroupCleanerCallback else callback
            for callback in callbacks
            if not isinstance(callback, DatasetsCallback)
        ]


class _LateCleaner(PlacementGroupCleanerCallback):
    """Starts the process that gives back the ranks' CPUs if Train's controller dies, once the ranks train.

    Ray starts it before the ranks, and tells it of their CPUs after they have joined their group.
    """

    def after_controller_start(self, train_run_context: Any) -> None:
        self._train_run_context = train_run_context

    def after_worker_group_start(self, worker_group: Any) -> None:
        """Nothing yet."""

    def after_worker_group_training_start(self, worker_group: Any) -> None:
        """Returns when the cleaner knows what it has to clean."""
        super().after_controller_start(self._train_run_context)
        super().after_worker_group_start(worker_group)
