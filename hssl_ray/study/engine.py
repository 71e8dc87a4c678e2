"""What a sweep and its surroundings ask of one another: engines run trials, observers hear of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hssl_ray.study.file.sections import Resources
from hssl_ray.study.ledger import Outcome
from hssl_ray.study.spec import PlannedTrial, Study
from hssl_ray.trial.checkpoint_files import KEEP_NEWEST, Retention
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.journal import Record

if TYPE_CHECKING:
    from hssl_ray.study.sweep import Sweep

log = logging.getLogger(__name__)

Report = Callable[[dict[str, float], Path | None], None]


class ClusterError(ValueError):
    """The place where trials should run does not answer, or can never hold one of them."""


class Train(Protocol):
    """`hssl_ray.trial.train.train_trial`, or a stand-in for it."""

    def __call__(
        self,
        config: TrialConfig,
        report: Report,
        resume: Path | None = None,
        *,
        workdir: Path,
        checkpoint_every: int,
        beat: Callable[[], None],
    ) -> None: ...


@dataclass(frozen=True)
class TrialProgram:
    """What an engine runs for each trial. The functions are found again by import in the processes of a cluster."""

    train: Train
    latest_checkpoint: Callable[[Path], Path | None]
    """The newest valid checkpoint in a trial's folder; `hssl_ray.trial.checkpoint_files.latest_valid`."""
    modules: tuple[str, ...] = ()
    """What `train` will import; processes of a cluster import it before there is a trial for them."""


@dataclass(frozen=True)
class TrialOptions:
    """What every trial of a sweep is given besides its config."""

    home: Path
    scratch: Path
    """A folder for what an engine needs while it runs; emptied by it before and after."""
    checkpoint_every: int = 5
    keep: Retention = KEEP_NEWEST
    hang_seconds: float = 1800.0
    """A worker that gives no sign for so long is taken to hang; see `trial.pulse`."""
    mark: Path | None = None
    """A file that the driver has just made in its home; None where trials run on its machine alone."""


class Engine(Protocol):
    """Runs what a sweep hands out, until it hands out no more."""

    def run(self, sweep: Sweep, resources: Resources, options: TrialOptions) -> None:
        """Run trials until `sweep.next()` is None.

        Raises:
            ClusterError: nothing answers, or no trial ever fits; raised before the first one.
        """


@dataclass(frozen=True)
class Summary:
    """How a run of a study ended."""

    counts: dict[str, int] = field(default_factory=dict)
    """Trials by state, `planned` for those not tried."""
    seconds: float = 0.0
    interrupted: int | None = None
    """The signal that ended it, if one did; a shell's exit code is 128 plus that."""
    stopped: str | None = None
    """What of its budget is used up, if that left trials undone."""

    @property
    def ended_well(self) -> bool:
        """Whether every trial was trained to its end or stopped early."""
        return not any(count for state, count in self.counts.items() if state not in ("finished", "pruned"))


class Observer(Protocol):
    """Hears of everything that happens to a study, in the driver, in order."""

    def study_opened(self, study: Study, planned_count: int) -> None:
        """Before the first trial; `planned_count` includes the trials a search may still suggest."""

    def replay(self, planned: PlannedTrial, records: Iterable[Record], outcome: Outcome | None) -> None:
        """Once for each trial that an earlier run began: its journal, and how its last attempt ended, if it did.

        The journal is read when the records are gone through, at once or later, as often as that is done. Of the
        outcome's metrics only those are there that the study's search asks for. What the earlier run was told and could
        not pass on, because it was killed, is in the journal.
        """

    def trial_started(self, planned: PlannedTrial, attempt: int) -> None:
        """Before an attempt. The epochs of earlier attempts follow as `trial_reported`, so some come twice."""

    def trial_reported(self, planned: PlannedTrial, record: Record) -> None:
        """After every epoch."""

    def trial_ended(self, planned: PlannedTrial, outcome: Outcome) -> None:
        """After an attempt; a failed one may be followed by another."""

    def study_closed(self, summary: Summary) -> None:
        """After the last trial, also when interrupted."""


class NoObserver:
    """Hears and does nothing."""

    def study_opened(self, study: Study, planned_count: int) -> None: ...

    def replay(self, planned: PlannedTrial, records: Iterable[Record], outcome: Outcome | None) -> None: ...

    def trial_started(self, planned: PlannedTrial, attempt: int) -> None: ...

    def trial_reported(self, planned: PlannedTrial, record: Record) -> None: ...

    def trial_ended(self, planned: PlannedTrial, outcome: Outcome) -> None: ...

    def study_closed(self, summary: Summary) -> None: ...


class Observers:
    """Several observers as one. What one of them raises is logged and reaches nobody else: no observer ends a sweep."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        self._observers = tuple(observers)

    def _tell(self, message: Callable[[Observer], None]) -> None:
        for observer in self._observers:
            try:
                message(observer)
            except Exception:
                log.exception("observer %s failed; the study goes on", type(observer).__name__)

    def study_opened(self, study: Study, planned_count: int) -> None:
        self._tell(lambda observer: observer.study_opened(study, planned_count))

    def replay(self, planned: PlannedTrial, records: Iterable[Record], outcome: Outcome | None) -> None:
        self._tell(lambda observer: observer.replay(planned, records, outcome))

    def trial_started(self, planned: PlannedTrial, attempt: int) -> None:
        self._tell(lambda observer: observer.trial_started(planned, attempt))

    def trial_reported(self, planned: PlannedTrial, record: Record) -> None:
        self._tell(lambda observer: observer.trial_reported(planned, record))

    def trial_ended(self, planned: PlannedTrial, outcome: Outcome) -> None:
        self._tell(lambda observer: observer.trial_ended(planned, outcome))

    def study_closed(self, summary: Summary) -> None:
        self._tell(lambda observer: observer.study_closed(summary))
