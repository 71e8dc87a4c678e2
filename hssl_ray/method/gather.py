"""What the ranks of a process group tell each other inside a forward pass. Alone, each function is the identity."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_apart: ContextVar[bool] = ContextVar("_apart", default=False)


@contextmanager
def alone() -> Iterator[None]:
    """Inside, a rank computes by itself, as a process without a group: for what every rank already has in full."""
    token = _apart.set(True)
    try:
        yield
    finally:
        _apart.reset(token)


def world_size() -> int:
    """Ranks of the process group; 1 without one, and where a rank is `alone`."""
    together = dist.is_available() and dist.is_initialized() and not _apart.get()
    return dist.get_world_size() if together else 1


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)
        return grad.chunk(world_size())[dist.get_rank()]


def all_gather(x: Tensor) -> Tensor:
    """The ranks' (N, ...) tensors in rank order, (ranks * N, ...); every rank must bring the same shape.

    The gradient sums what every rank asks of this rank's rows. If each rank computes the same loss of the gathered
    rows, that is ranks times the gradient of one process, and the mean that DDP takes over ranks makes it equal.
    """
    if world_size() == 1:
        return x
    gathered: Tensor = _AllGather.apply(x)  # type: ignore[no-untyped-call]
    return gathered


def all_views(h1: Tensor, h2: Tensor) -> Tensor:
    """Both views (n, D) of every rank's images in at least float32, (N, 2, D), N of all ranks.

    Raises:
        ValueError: shapes differ, or fewer than two images.
    """
    check_views(h1, h2)
    views = all_gather(torch.stack([h1, h2], dim=1).to(torch.promote_types(h1.dtype, torch.float32)))
    if len(views) < 2:
        raise ValueError(f"views: the objective needs at least 2 images, got {len(views)}")
    return views


def check_views(h1: Tensor, h2: Tensor) -> None:
    """
    Raises:
        ValueError: they are not two batches of vectors of one shape.
    """
    if h1.shape != h2.shape or h1.dim() != 2:
        raise ValueError(f"views: must be two (N, D) batches of one shape, got {tuple(h1.shape)} and {tuple(h2.shape)}")


def all_reduce_sum(x: Tensor) -> Tensor:
    """The sum over ranks, without gradient."""
    total = x.detach().clone()
    if world_size() > 1:
        dist.all_reduce(total)
    return total
