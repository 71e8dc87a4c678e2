"""Where a user's data, trials and studies live."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The directory of everything that outlives a run: `$HSSL_HOME`, else `~/.hssl_ray`; always absolute."""
    return Path(os.environ.get("HSSL_HOME") or Path.home() / ".hssl_ray").expanduser().absolute()
