"""Where a training step's time goes: torch's profiler, its operators summed by the part of the step they belong to.

A part's backward time is that of the autograd nodes its forward pass made, found by their sequence numbers, so that no
name of an operator decides.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from hssl_ray.method.blocks import FreeConv2d, PointwiseConv2d
from hssl_ray.method.normalisation import BatchNorm
from hssl_ray.method.steerable import GroupConv2d, LiftingConv2d
from hssl_ray.trial.data import TrialData
from hssl_ray.trial.task import Task

PREFIX = "part: "
REST = "rest"
BACKBONE = {"convolutions", "norms", "convolutions, backward", "norms, backward"}
"""All else is what the issue's bar calls outside convolutions and norms."""

P, R = ParamSpec("P"), TypeVar("R")


def label_parts(task: Task, data: TrialData) -> None:
    """Name the parts of this task's step to the profiler. The probe's convolution belongs to the probe, and the head's
    norms to the loss.
    """
    network = task.network
    for module in network.backbone.modules():
        if isinstance(module, (LiftingConv2d, GroupConv2d, FreeConv2d, PointwiseConv2d)):
            _label_module(module, "convolutions")
        elif isinstance(module, BatchNorm):
            _label_module(module, "norms")
    _label_module(network.probe, "probe")
    _label_module(network.criterion, "head and loss")
    data.train.take = _labelled(data.train.take, "data")  # type: ignore[method-assign]
    task.draw = _labelled(task.draw, "draw")  # type: ignore[method-assign]
    group = network.group
    group.transform_input = _labelled(group.transform_input, "augmentation")  # type: ignore[method-assign]
    for name in ("fibers", "read"):
        setattr(group, name, _labelled(getattr(group, name), "views"))


def seconds_by_part(run: Callable[[], Any]) -> dict[str, float]:
    """What `run` spends in each labelled part, forward and backward, and in the optimiser; largest first."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        run()
    events = profiler.events()
    assert events is not None
    made_by = {
        event.sequence_nr: _forward_part(event)
        for event in sorted(events, key=lambda event: event.time_range.start)
        if event.sequence_nr >= 0 and not _is_backward(event)
    }  # the last event of a number made the node: those before only saw it coming
    found: dict[str, float] = defaultdict(float)
    for event in events:
        found[_part(event, made_by)] += event.self_cpu_time_total / 1e6
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _label_module(module: nn.Module, part: str) -> None:
    open_ranges: list[record_function] = []

    def enter(_module: nn.Module, _inputs: Any) -> None:
        open_ranges.append(record_function(PREFIX + part))
        open_ranges[-1].__enter__()

    def leave(_module: nn.Module, _inputs: Any, _output: Any) -> None:
        open_ranges.pop().__exit__(None, None, None)

    module.register_forward_pre_hook(enter)
    module.register_forward_hook(leave)


def _labelled(function: Callable[P, R], part: str) -> Callable[P, R]:
    @wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        with record_function(PREFIX + part):
            return function(*args, **kwargs)

    return inside


def _ancestors(event: Any) -> Iterable[Any]:
    """The event and those around it, innermost first."""
    while event is not None:
        yield event
        event = event.cpu_parent


def _is_backward(event: Any) -> bool:
    return any(around.name.startswith("autograd::engine::") for around in _ancestors(event))


def _forward_part(event: Any) -> str:
    outermost = REST
    for around in _ancestors(event):
        if around.name.startswith(PREFIX):
            outermost = around.name.removeprefix(PREFIX)
        elif around.name.startswith("Optimizer."):
            outermost = "optimiser"
    return outermost


def _part(event: Any, made_by: dict[int, str]) -> str:
    for around in _ancestors(event):
        if around.name.startswith("autograd::engine::evaluate_function"):
            part = made_by.get(around.sequence_nr)
            return "gradients kept" if part is None else f"{part}, backward"
    return _forward_part(event)


def share_outside(found: dict[str, float]) -> float:
    """Share of the time outside the backbone's convolutions and norms."""
    return sum(seconds for part, seconds in found.items() if part not in BACKBONE) / sum(found.values())
