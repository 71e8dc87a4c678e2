"""How the ranks of a trial find one another: Ray Train's own set-up, with torch imported by the ranks alone.

`ray.train.torch` imports torch wherever it is mentioned: in the process that watches the trial and in Train's
controller, one after the other, before the first rank is even started.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import ray
from ray.train.backend import Backend, BackendConfig
from ray.util import get_node_ip_address

LEAVE_SECONDS = 5.0
COLLECTIVE_LIMIT = timedelta(minutes=30)  # a rank may wait so long for the others


@dataclass
class ProcessGroup(BackendConfig):
    """torch.distributed over all ranks: `nccl` where each has a GPU, else `gloo`."""

    gpus: bool
    hang_seconds: float
    """See `TrialOptions`."""

    @property
    def backend_cls(self) -> type[Backend]:
        return _ProcessGroupBackend


class _ProcessGroupBackend(Backend):
    share_cuda_visible_devices = True  # NCCL connects the GPUs of a node directly only where each rank sees all of them

    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        assert isinstance(backend_config, ProcessGroup)
        address, port = worker_group.execute_single(0, _address)
        kind = "nccl" if backend_config.gpus else "gloo"
        size = len(worker_group)
        # Longer than whoever watches the trial waits: only that one knows which of the ranks hangs.
        limit = max(COLLECTIVE_LIMIT, timedelta(seconds=2 * backend_config.hang_seconds))
        ray.get(
            [
                worker_group.execute_single_async(rank, _join, kind, address, port, rank, size, limit)
                for rank in range(size)
            ]
        )

    def on_shutdown(self, worker_group: Any, backend_config: BackendConfig) -> None:
        calls = worker_group.execute_async(_leave)
        ray.wait(calls, num_returns=len(calls), timeout=LEAVE_SECONDS)


def _address() -> tuple[str, int]:
    """Where the first rank will listen."""
    host = str(get_node_ip_address())  # type: ignore[no-untyped-call]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        return host, int(probe.getsockname()[1])


def _join(kind: str, address: str, port: int, rank: int, size: int, limit: timedelta) -> None:
    """In a rank: connect to the others."""
    import torch.distributed as dist  # here, because only a rank needs torch

    os.environ |= {"MASTER_ADDR": address, "MASTER_PORT": str(port)}
    dist.init_process_group(kind, rank=rank, world_size=size, timeout=limit)


def _leave() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()
