"""A look at a running study in words: where it stands, what runs, how fast, what is best, and what to do."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hssl_ray.report.progress import Progress, progress_of
from hssl_ray.report.text_table import NOTHING, TextTable
from hssl_ray.study.lease import SILENT_SECONDS
from hssl_ray.study.ledger import Outcome
from hssl_ray.study.spec import PlannedTrial
from hssl_ray.study.watch import Look, Running

MOST_RUNNING = 12
"""Running trials that are listed; those of a large cluster would push all else off the terminal."""
SHOWN = ("train/loss", "probe/top1")
"""Of a running trial, beside what the study compares."""


@dataclass(frozen=True)
class Commands:
    """What a reader may type next."""

    run: str
    compare: str


@dataclass(frozen=True)
class Watched:
    """What to show of a look.

    Args:
        study: the study's name.
        total: its trials; at most so many where a search or a race adds them as it goes.
        open_ended: whether it is such a study.
        metric: what is compared.
        counted: see `count`.
    """

    study: str
    total: int
    open_ended: bool
    metric: str
    look: Look
    counted: Progress
    commands: Commands

    @property
    def done(self) -> bool:
        """Whether nobody runs the study and nothing of it is left."""
        return bool(self.look.trials) and not self.look.alive and self.counted.left == 0

    def sentences(self) -> list[str]:
        """Where it stands, how fast it goes, and who runs it."""
        found = [self._standing()]
        if speed := self._speed():
            found.append(speed)
        found.append(self.driver())
        if (outbox := self._outbox()) is not None:
            found.append(outbox)
        return found

    def driver(self) -> str:
        """Who runs the study, and what to do if nobody does."""
        driver, silence = self.look.driver, self.look.silence
        if driver is not None and not driver.ended:
            if silence < SILENT_SECONDS:
                return f"Run by {driver.name}."
            if driver.here:
                return (
                    f"Run by {driver.name}, which has given no sign of life for {duration(silence)}: it is stopped, or "
                    "its disk does not answer."
                )
            return (
                f"Run by {driver.name}, of which nothing has been heard for {duration(silence)}. If it is dead, go on "
                f"from any machine: {self.commands.run}"
            )
        if self.done:
            return f"Done. Compare: {self.commands.compare}"
        if driver is not None:
            return f"{driver.name} ran it and is gone. Go on: {self.commands.run}"
        if not self.look.trials:
            return f"It has not been run. Start it: {self.commands.run}"
        return f"Nobody runs it. Go on: {self.commands.run}"

    def tables(self) -> list[TextTable]:
        """What runs, what is best, the cells, and what ended badly."""
        return [*self._running(), *self._best(), *self.counted.tables()]

    def _standing(self) -> str:
        said = self.counted.sentence() if self.look.trials else f"0 of {self.total} trials finished."
        if self.open_ended and self.look.trials and self.total > self.counted.trials:
            said += f" Up to {self.total} in all."
        return f"{said} Stopped by {self.counted.stopped}." if self.counted.stopped else said

    def _speed(self) -> str:
        done, seconds = self.look.done, self.look.seconds
        if not done or not seconds:
            return ""
        unsampled = max(0, self.total - self.counted.trials)
        left = self.look.left + unsampled
        rate = (
            f"{done / seconds * 60:.2g} trials a minute" if done < seconds else f"{done / seconds:.2g} trials a second"
        )
        if not left:
            return f"{rate}."
        most = "at most" if self.open_ended else "about"
        return f"{rate}; {most} {duration(seconds / done * left)} left."

    def _outbox(self) -> str | None:
        driver = self.look.driver
        if driver is None or not driver.unsynced:
            return None
        return f"MLflow lacks {driver.unsynced:,} writes, which wait."

    def _running(self) -> list[TextTable]:
        """The trials that run, those that have got farthest first."""
        running = sorted(self.look.running, key=lambda one: (-one.share, one.trial.name))
        if not running:
            return []
        names = [name for name in dict.fromkeys((*SHOWN, self.metric)) if any(name in one.metrics for one in running)]
        rows = tuple(
            (
                one.trial.name,
                str(one.attempt),
                f"{one.epoch} of {one.trial.config.epochs}",
                *(number(one.metrics.get(name)) for name in names),
            )
            for one in running[:MOST_RUNNING]
        )
        more = len(running) - len(rows)
        left_out = f"... and {more:,} more" if more > 0 else ""
        return [TextTable("Running", ("trial", "attempt", "epoch", *names), rows, left_out=left_out)]

    def _best(self) -> list[TextTable]:
        if not self.look.best:
            return []
        rows = tuple((method, number(best.value), best.trial.name) for method, best in sorted(self.look.best.items()))
        return [TextTable("Best of each method", ("method", self.metric, "trial"), rows)]


def count(look: Look, study: str) -> Progress:
    """The trials of a look by state and cell. As costly as there are trials; needed anew when `states` is."""
    history = look.history
    epochs = {one.trial.trial_id: float(one.epoch) for one in look.running}
    rows = []
    for trial_id, trial in look.trials.items():
        state, reason = look.states[trial_id]
        outcome = history.outcomes.get(trial_id)
        rows.append(
            {
                "trial_id": trial_id,
                "name": trial.name,
                "cell": trial.cell,
                "state": state,
                "reason": reason,
                "attempt": outcome.attempt if outcome else history.attempts.get(trial_id, 0),
                "seconds": outcome.seconds if outcome else None,
                "epoch": epochs.get(trial_id),
                "epochs": trial.config.epochs,
            }
        )
    return progress_of(rows, study, history.notes.get("stopped"))


def news(before: Watched | None, now: Watched) -> list[str]:
    """What happened between two looks, a line each; the first look is told in sentences."""
    if before is None:
        return now.sentences()
    lines = []
    if (said := now.driver()) != before.driver():
        lines.append(said)
    ran = {one.trial.trial_id: one for one in before.look.running}
    total = max(now.total, now.counted.trials)
    over = now.counted.trials - sum(now.counted.states.get(state, 0) for state in ("planned", "running"))
    first = over - len(now.look.ended) + 1
    for place, (trial, outcome) in enumerate(now.look.ended, start=max(1, first)):
        lines.append(f"[{place}/{total}] {_ended(trial, outcome, now)}")
    for one in now.look.running:
        lines += _moved(ran.get(one.trial.trial_id), one, now.metric)
    return lines


def _moved(before: Running | None, now: Running, metric: str) -> list[str]:
    at = f"epoch {now.epoch} of {now.trial.config.epochs}"
    if before is None or before.attempt != now.attempt:
        again = f", attempt {now.attempt}" if now.attempt > 1 else ""
        return [f"{now.trial.name}: started{again}" + (f", at {at}" if now.epoch else "")]
    if now.epoch == before.epoch:
        return []
    values = [f"{name} {number(now.metrics[name])}" for name in dict.fromkeys((*SHOWN, metric)) if name in now.metrics]
    return [" ".join([f"{now.trial.name}: {at}", *values])]


def _ended(trial: PlannedTrial, outcome: Outcome, now: Watched) -> str:
    value = outcome.metrics.get(now.metric)
    shown = "" if value is None else f"  {now.metric} {number(value)}"
    why = f"  ({outcome.reason})" if outcome.reason else ""
    return f"{trial.name}: {outcome.state}{shown}{why}"


def number(value: float | None) -> str:
    """A metric, short."""
    return NOTHING if value is None or not math.isfinite(value) else f"{value:.4g}"


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 20 min`, `2 d 4 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"
