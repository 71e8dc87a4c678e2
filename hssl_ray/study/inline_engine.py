"""The engine without a cluster: one process, one trial after the other, with a stack trace and a debugger."""

from __future__ import annotations

import time

from hssl_ray.study.attempt import Decision, run_attempt
from hssl_ray.study.engine import ClusterError, TrialOptions, TrialProgram
from hssl_ray.study.file.sections import Resources
from hssl_ray.study.sweep import Sweep, Wait
from hssl_ray.trial.journal import Record


class InlineEngine:
    """Runs a sweep's trials here, in order; `resources` ask for nothing that it would have to find.

    Nobody watches for a trial that hangs: whoever runs trials in one process may be looking at one in a debugger.

    Args:
        program: what to run for each trial.
    """

    def __init__(self, program: TrialProgram) -> None:
        self._program = program

    def run(self, sweep: Sweep, resources: Resources, options: TrialOptions) -> None:
        """See `Engine.run`.

        Raises:
            ClusterError: a trial wants more than one worker.
        """
        if resources.workers != 1:
            raise ClusterError(f"resources.workers: the inline engine has 1, got {resources.workers}")
        while (assignment := sweep.next()) is not None:
            if isinstance(assignment, Wait):
                assert assignment.seconds is not None, "nothing runs here that could be waited for"
                with sweep.interruptible():
                    time.sleep(assignment.seconds)
                continue
            trial_id = assignment.trial.trial_id

            def tell(record: Record, trial_id: str = trial_id) -> Decision:
                return sweep.reported(trial_id, record)

            sweep.started(trial_id)
            with sweep.interruptible():
                ending = run_attempt(assignment.trial.config, assignment.attempt, self._program, options, tell)
            sweep.ended(trial_id, ending)
