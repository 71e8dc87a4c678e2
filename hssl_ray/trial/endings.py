"""The two ways a trial ends before its last epoch without anything being broken."""

from __future__ import annotations


class TrialDiverged(RuntimeError):
    """The loss is no longer a finite number. The same config would diverge again, so it is not tried again."""


class TrialStopped(RuntimeError):
    """Raised by `report` to end a trial early; its last checkpoint stays."""
