"""torchvision's data sets on a torch without CUDA.

A torchvision built for CUDA beside a CPU torch cannot load its compiled operators. It tolerates that, but for two
functions: its import registers shapes for `nms` and `qnms`, which then do not exist. Their schemas are enough for the
import to go on; nothing here calls them.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

# The schemas of torchvision/csrc/ops/nms.cpp and quantized/cpu/qnms_kernel.cpp.
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
# A Library unregisters what it defined when it is collected, so it is kept.
_defined: list[torch.library.Library] = []


def torchvision_datasets() -> ModuleType:
    """`torchvision.datasets`, imported on first use (it takes seconds).

    Raises:
        ImportError: torchvision is not installed.
        RuntimeError: its import fails for another reason than the absent operators.
    """
    try:
        return importlib.import_module("torchvision.datasets")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for schema in _SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]
    _defined.append(library)
    return importlib.import_module("torchvision.datasets")
