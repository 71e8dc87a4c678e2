"""Exit codes, for commands that must start before anything of the product is imported."""

from __future__ import annotations

UNEXPECTED = 1
INVALID = 2
DATA = 3
SOME_FAILED = 4
NOT_SYNCED = 5
INCOMPATIBLE = 6
BUDGET_SPENT = 7
