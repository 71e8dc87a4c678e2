"""torch's optimisers without torch's compiler."""

from __future__ import annotations

from torch.optim import Optimizer

_GUARDED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


def leave_compiler_out() -> None:
    """Let optimisers be made and used in this process without importing `torch._dynamo`.

    These methods import the compiler when first called, only to tell it to leave them alone: 70 MB and a second in
    every process of a trial, none of which compiles anything. Each asks this attribute before it imports; a torch that
    asks no longer ignores it.
    """
    for name in _GUARDED:
        method = getattr(getattr(Optimizer, name), "__wrapped__", None)
        if method is not None:
            vars(method).setdefault("__dynamo_disable", method)
