"""Number types that a benchmark measures: bfloat16 only where the processor has it, as training does."""

from __future__ import annotations

import argparse
import sys

import torch

from hssl_ray.trial.precision import computes_bf16

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def add_types(parser: argparse.ArgumentParser) -> None:
    help = "default: all that this processor computes in hardware"
    parser.add_argument("--types", nargs="+", choices=TYPES, default=None, help=help)


def chosen_types(asked: list[str] | None) -> list[str]:
    """Those asked for, else those this processor computes; says what is left out."""
    if asked is not None:
        return asked
    if computes_bf16(torch.device("cpu")):
        return list(TYPES)
    print("no bfloat16 in hardware, and so not measured; --types measures it all the same", file=sys.stderr)
    return ["fp32"]
