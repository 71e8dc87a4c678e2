"""What a person sees while a study runs: bars on a terminal, one line per event elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from hssl_ray.study.engine import Summary
from hssl_ray.study.ledger import Outcome
from hssl_ray.study.spec import PlannedTrial, Study
from hssl_ray.trial.journal import Record


class StudyProgress:
    """Shows trials done, those running with their newest metrics, and the time left; an `Observer`.

    Args:
        console: where to show it.
        metric: the metric that the study compares, shown when a trial ends.
    """

    def __init__(self, console: Console, metric: str) -> None:
        self._console = console
        self._metric = metric
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._whole: TaskID | None = None
        self._rows: dict[str, TaskID] = {}
        self._shares: dict[str, float] = {}  # of each trial, how much is done
        self._done = 0.0  # their sum
        self._ended: set[str] = set()
        self._planned = self._before = 0  # trials of the study; those of them that were done when it opened
        self._began = time.monotonic()

    def study_opened(self, study: Study, planned_count: int) -> None:
        self._planned, self._began = planned_count, time.monotonic()
        if self._console.is_terminal:
            self._whole = self._bars.add_task(f"[bold]{study.study}", total=max(1, planned_count), detail="")
            self._bars.start()
        else:
            self._console.print(f"study {study.study}: {planned_count} trials")

    def replay(self, planned: PlannedTrial, records: Iterable[Record], outcome: Outcome | None) -> None:
        if outcome is not None and outcome.state in ("finished", "pruned", "diverged"):
            self._before += 1
            self._share(planned, 1.0)
            self._ended.add(planned.trial_id)
            self._show_whole()

    def trial_started(self, planned: PlannedTrial, attempt: int) -> None:
        if self._whole is not None:
            self._rows[planned.trial_id] = self._bars.add_task(planned.name, total=planned.config.epochs, detail="")
        elif attempt > 1:
            self._console.print(f"{planned.name}: attempt {attempt}")
        else:
            self._console.print(f"{planned.name}: started")

    def trial_reported(self, planned: PlannedTrial, record: Record) -> None:
        self._share(planned, record.epoch / planned.config.epochs)
        if (row := self._rows.get(planned.trial_id)) is not None:
            detail = " ".join(
                f"{name.split('/')[1]} {record.metrics[name]:.3g}"
                for name in ("train/loss", "probe/top1")
                if name in record.metrics
            )
            text = f"epoch {record.epoch}/{planned.config.epochs} {detail}"
            self._bars.update(row, completed=record.epoch, detail=text)
            self._show_whole()

    def trial_ended(self, planned: PlannedTrial, outcome: Outcome) -> None:
        self._share(planned, 1.0)
        self._ended.add(planned.trial_id)
        if (row := self._rows.pop(planned.trial_id, None)) is not None:
            self._bars.remove_task(row)
            self._show_whole()
        value = outcome.metrics.get(self._metric)
        shown = "" if value is None else f"  {self._metric} {value:.4g}"
        why = f"  ({outcome.reason})" if outcome.reason else ""
        self._console.print(
            f"[{len(self._ended)}/{self._planned}] {planned.name}: {outcome.state}{shown}{why}  {self._time_left()}",
            highlight=False,
            markup=False,
        )

    def study_closed(self, summary: Summary) -> None:
        self._bars.stop()

    def _share(self, planned: PlannedTrial, share: float) -> None:
        self._done += share - self._shares.get(planned.trial_id, 0.0)
        self._shares[planned.trial_id] = share

    def _show_whole(self) -> None:
        if self._whole is not None:
            detail = f"{len(self._ended)}/{self._planned} trials"
            self._bars.update(self._whole, completed=self._done, detail=detail)

    def _time_left(self) -> str:
        done, seconds = self._done - self._before, time.monotonic() - self._began
        left = self._planned - self._before - done
        return f"{seconds:.0f} s" + (f", about {seconds / done * left:.0f} s left" if done and left > 0 else "")
