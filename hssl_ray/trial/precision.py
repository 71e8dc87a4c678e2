"""Which number type a trial computes in (reading A21 of "half precision")."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch.amp import GradScaler

from hssl_ray.trial.config import TrialConfig

FIRST_LOSS_SCALE = 2.0**10
"""torch's own 2**16 overflows on these networks, and loses the first steps until it is halved often enough."""


def computes_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware; emulated bf16 is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def autocast(config: TrialConfig, device: torch.device) -> AbstractContextManager[None]:
    """The trial's autocast: the half type asked for, bfloat16 where `auto` finds hardware for it, else float32."""
    if config.precision == "fp16":
        return torch.autocast(device.type, dtype=torch.float16)
    enabled = config.precision == "bf16" or (config.precision == "auto" and computes_bf16(device))
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def loss_scaler(config: TrialConfig, device: torch.device) -> GradScaler:
    """Keeps float16's gradients from vanishing: scales the loss, skips a step that overflows. Else does nothing."""
    return GradScaler(device.type, init_scale=FIRST_LOSS_SCALE, enabled=config.precision == "fp16")
