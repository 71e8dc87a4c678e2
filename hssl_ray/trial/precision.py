"""Which number type a trial computes in."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from hssl_ray.trial.config import TrialConfig


def computes_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware; emulated bf16 is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def autocast(config: TrialConfig, device: torch.device) -> AbstractContextManager[None]:
    """The trial's autocast: bfloat16 if asked for, or where `auto` finds hardware for it; else float32 throughout."""
    enabled = config.precision == "bf16" or (config.precision == "auto" and computes_bf16(device))
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)
