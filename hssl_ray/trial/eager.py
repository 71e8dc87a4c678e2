"""torch's optimisers and DDP without torch's compiler: 70 MB and a second or two in every process of a trial, none of
which compiles anything.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

_GUARDED = {
    Optimizer: ("add_param_group", "zero_grad", "state_dict", "load_state_dict"),
    DistributedDataParallel: ("_inside_ddp_forward",),
}


def leave_compiler_out() -> None:
    """Let optimisers be made, and optimisers and DDP be used, in this process without importing `torch._dynamo`.

    These methods import the compiler when first called, only to tell it to leave them alone. Each asks this attribute
    before it imports; a torch that asks no longer ignores it.
    """
    for owner, names in _GUARDED.items():
        for name in filter(owner.__dict__.__contains__, names):
            method = inspect.unwrap(getattr(owner, name))
            vars(method).setdefault("__dynamo_disable", method)


def data_parallel(module: nn.Module) -> DistributedDataParallel:
    """A module as the ranks of the process group train it: gradients are averaged, buffers are every rank's own."""
    leave_compiler_out()
    with _compiler_unasked():
        return DistributedDataParallel(module, forward_sync_buffers=False, gradient_as_bucket_view=True)


@contextmanager
def _compiler_unasked() -> Iterator[None]:
    """`DistributedDataParallel` imports the compiler to ask in which of its ways it would cut a graph."""
    if "_dynamo" in vars(torch):
        yield
        return
    answer = SimpleNamespace(utils=SimpleNamespace(get_optimize_ddp_mode=lambda: "no_optimization"))
    vars(torch)["_dynamo"] = answer
    try:
        yield
    finally:
        if vars(torch).get("_dynamo") is answer:  # else something imported it after all
            del vars(torch)["_dynamo"]
