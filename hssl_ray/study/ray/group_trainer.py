"""Ray Train's trainer with two processes less around the ranks, which would import Ray on the ranks' cores."""

from __future__ import annotations

from typing import Any

from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.execution.context import TrainRunContext
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer


class FixedGroup(FixedScalingPolicy):
    """As many ranks as asked for, without Ray's coordinator of requests to an autoscaler.

    The coordinator shares a cluster between Ray data sets and trainers. Here are no data sets, and an autoscaler sees
    the ranks' placement group.
    """

    def after_controller_start(self, train_run_context: TrainRunContext) -> None:
        """Asks nobody."""

    def _maybe_send_resource_request(self) -> None:
        """Asks nobody."""


class GroupTrainer(DataParallelTrainer):
    """Without the manager of Ray data sets, which ours are not, and with a `FixedGroup`."""

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()
        return [callback for callback in callbacks if not isinstance(callback, DatasetsCallback)]

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        parts["scaling_policy"] = FixedGroup(self.scaling_config)  # type: ignore[arg-type]  # V2's
        return super()._initialize_and_run_controller(**parts)
