"""`ray start` for a node whose workers start with less work: `python -m hssl_ray.study.ray.start --head ...`.

A study on a Ray that was there before hands its variables to every process of every trial, and each process that is
handed variables imports Ray twice; with a node started by this, once (`lean_workers`), and what it imports costs less
(`first_import`). Settings that all of Ray's processes need are set where they are not.
"""

from __future__ import annotations

import os
import sys

from hssl_ray.study.ray.lean_workers import enter_quickly
from hssl_ray.study.ray.settings import EVERYWHERE, preloading


def main() -> None:
    """`ray start`, with its arguments."""
    for name, value in EVERYWHERE.items():
        os.environ.setdefault(name, value)
    from ray.scripts.scripts import start  # here, because Ray reads part of the environment when imported

    enter_quickly()
    with preloading(os.environ):
        start(sys.argv[1:], prog_name="ray start")


if __name__ == "__main__":
    main()
