"""Which checkpoints of a trial MLflow is to have as models: the last one and, where the study keeps it, the best."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hssl_ray.trial.checkpoint_files import WEIGHTS, Best, best_of

LAST, BEST = "model", "best"
"""The models' names; one that is both is there once, as the last."""
LAST_EPOCH, BEST_EPOCH, BEST_METRIC = "hssl.model_epoch", "hssl.best_epoch", "hssl.best_metric"


@dataclass(frozen=True)
class KeptCheckpoints:
    """Folders of a trial's checkpoints that can be read from here."""

    last: Path
    best: Path | None = None
    rule: Best | None = None
    """What the best one is best at; None if the study does not ask."""

    @classmethod
    def of(cls, workdir: Path, last: str, rule: Best | None) -> KeptCheckpoints | None:
        """Those of a trial's folder; None if its weights lie on another machine's disk, or were cleared away.

        Args:
            last: the last checkpoint, as the journal names it.
            rule: which one is the best, if the study asks.
        """
        best = None if rule is None else best_of(workdir, rule)
        if not (workdir / last / WEIGHTS).is_file():
            return None
        return cls(workdir / last, best if best is not None and (best / WEIGHTS).is_file() else None, rule)

    @property
    def models(self) -> dict[str, Path | None]:
        """The folder of each model by its name; None for one that must not be there."""
        if self.rule is None:
            return {LAST: self.last}
        return {LAST: self.last, BEST: None if self.best == self.last else self.best}

    @property
    def epochs(self) -> set[str]:
        """Of all models."""
        return {str(epoch_of(path)) for path in self.models.values() if path is not None}

    @property
    def run_tags(self) -> dict[str, str]:
        """What the trial's run says of them."""
        best = {} if self.best is None else {BEST_EPOCH: str(epoch_of(self.best)), **self._metric()}
        return {LAST_EPOCH: str(epoch_of(self.last)), **best}

    def model_tags(self, name: str) -> dict[str, str]:
        """What a model says of itself: whether it is the last checkpoint, the best one or both, and best at what."""
        roles = [role for role, path in (("last", self.last), ("best", self.best)) if path == self.models[name]]
        return {"hssl.checkpoint": ", ".join(roles), **(self._metric() if "best" in roles else {})}

    def _metric(self) -> dict[str, str]:
        return {} if self.rule is None else {BEST_METRIC: f"{self.rule.goal} {self.rule.metric}"}


def epoch_of(checkpoint: Path) -> int:
    """The epoch in a checkpoint's name."""
    return int(checkpoint.name.rpartition("-")[2])
