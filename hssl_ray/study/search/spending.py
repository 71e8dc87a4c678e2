"""What a study has used of its budget, over all of its runs, and so whether another trial may start."""

from __future__ import annotations

from hssl_ray.study.file.sections import Budget
from hssl_ray.study.layout import trial_folder
from hssl_ray.study.ledger import Ledger, Outcome
from hssl_ray.trial.journal import JOURNAL, StoredRecords, last_metrics

BROKEN = ("failed", "diverged")


class Spending:
    """Counts from the ledger on.

    Attempts that a killed driver left without an end are ended here, as killed: what their journals say they trained is
    spent too.

    Args:
        budget: of the study.
        ledger: of the study, open.
    """

    def __init__(self, budget: Budget, ledger: Ledger) -> None:
        self._budget, self._ledger = budget, ledger
        for trial_id, since in list(ledger.history.started.items()):
            records = list(StoredRecords(trial_folder(ledger.home, trial_id) / JOURNAL))
            attempt = ledger.history.attempts[trial_id]
            seconds = max((record.time - since for record in records if record.attempt == attempt), default=0.0)
            reason = "interrupted: the driver is gone"
            outcome = Outcome("killed", reason, last_metrics(records), attempt, max(0.0, seconds))
            ledger.ended(trial_id, outcome)
        outcomes = ledger.history.outcomes
        self._begun = set(ledger.history.attempts)
        self._broken = {trial_id for trial_id, outcome in outcomes.items() if outcome.state in BROKEN}

    def refusal(self, trial_id: str | None, running_seconds: float) -> str | None:
        """Why a trial may not start; None where it may, and then it counts as begun.

        Args:
            trial_id: None for one that is not known yet.
            running_seconds: what the trials that run now have taken so far.
        """
        budget, spent = self._budget, self._ledger.history.seconds + running_seconds
        if budget.hours is not None and spent >= 3600 * budget.hours:
            return f"budget.hours: {spent / 3600:.2f} of {budget.hours:g} are spent"
        if budget.failed_trials is not None and len(self._broken) >= budget.failed_trials:
            return f"budget.failed_trials: {len(self._broken)} have failed or diverged"
        if budget.trials is not None and trial_id not in self._begun and len(self._begun) >= budget.trials:
            return f"budget.trials: {len(self._begun)} of {budget.trials} have begun"
        if trial_id is not None:
            self._begun.add(trial_id)
            self._broken.discard(trial_id)
        return None

    def closed(self, trial_id: str, outcome: Outcome) -> None:
        """A trial is over for this run."""
        if outcome.state in BROKEN:
            self._broken.add(trial_id)
