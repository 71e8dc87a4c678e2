"""What the driver keeps of a trial that has ended, and what it reads of a study that is finished."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hssl_ray.study.engine import NoObserver, Report, TrialProgram
from hssl_ray.study.inline_engine import InlineEngine
from hssl_ray.study.ledger import Outcome, read_history
from hssl_ray.study.run import run_study
from hssl_ray.study.spec import PlannedTrial, Study
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.durable import iterate_log
from hssl_ray.trial.journal import Record

METRICS = 60


def train(config: TrialConfig, report: Report, resume: Path | None = None, **settings: Any) -> None:
    """Reports as many metrics as a real trial, no two equal."""
    for epoch in range(1, config.epochs + 1):
        report({"epoch": float(epoch)} | {f"m{k}": config.seed + k + epoch / 7 for k in range(METRICS)}, None)


PROGRAM = TrialProgram(train, lambda workdir: None)


def study(seeds: int) -> Study:
    return Study(study="fake", base={"epochs": 2, "warmup_epochs": 0}, seeds=seeds)


@dataclass
class Counts(NoObserver):
    """Outcomes that still have their metrics, at the end of every trial."""

    after: list[int] = field(default_factory=list)

    def trial_ended(self, planned: PlannedTrial, outcome: Outcome) -> None:
        gc.collect()
        self.after.append(sum(type(one) is Outcome and len(one.metrics) > 0 for one in gc.get_objects()))


@dataclass
class Keeps(Counts):
    """An observer that keeps every outcome, as a driver should not."""

    outcomes: list[Outcome] = field(default_factory=list)

    def trial_ended(self, planned: PlannedTrial, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        super().trial_ended(planned, outcome)


def test_no_metrics_of_ended_trials_stay_in_the_driver(tmp_path: Path) -> None:
    counts = Counts()
    run_study(study(12), home=tmp_path, engine=InlineEngine(PROGRAM), observers=[counts])
    assert counts.after[-1] == counts.after[1]
    assert len(read_history(tmp_path, "fake").outcomes[TrialConfig(**study(1).base).trial_id].metrics) == METRICS + 1


def test_the_count_above_sees_what_is_kept(tmp_path: Path) -> None:
    counts = Keeps()
    run_study(study(12), home=tmp_path, engine=InlineEngine(PROGRAM), observers=[counts])
    assert counts.after[-1] == counts.after[1] + 10


class Reads(NoObserver):
    """Goes through every record that is told again."""

    def replay(self, planned: PlannedTrial, records: Iterable[Record], outcome: Outcome | None) -> None:
        assert [record.epoch for record in records] == [1, 2]
        assert [record.epoch for record in records] == [1, 2]  # as often as it likes


@pytest.mark.parametrize(("observer", "read"), [(NoObserver(), 0), (Reads(), 10)])
def test_a_finished_study_is_run_again_without_its_journals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, observer: NoObserver, read: int
) -> None:
    """Unless somebody asks for the records: then they are read, for each who asks."""
    run_study(study(5), home=tmp_path, engine=InlineEngine(PROGRAM))
    opened: list[Path] = []

    def reading(path: Path) -> Iterator[dict[str, Any]]:
        opened.append(path)
        return iterate_log(path)

    monkeypatch.setattr("hssl_ray.trial.journal.iterate_log", reading)
    run_study(study(5), home=tmp_path, engine=InlineEngine(PROGRAM), observers=[observer])
    assert len(opened) == read


def test_a_study_as_it_was_planned_is_not_planned_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_study(study(3), home=tmp_path, engine=InlineEngine(PROGRAM))
    calls: list[str] = []
    original = Study.planned

    def planned(one: Study) -> Iterator[PlannedTrial]:
        calls.append(one.study)
        return original(one)

    monkeypatch.setattr(Study, "planned", planned)
    assert run_study(study(3), home=tmp_path, engine=InlineEngine(PROGRAM)).counts == {"finished": 3}
    assert not calls
    assert run_study(study(4), home=tmp_path, engine=InlineEngine(PROGRAM)).counts == {"finished": 4}
    assert len(calls) == 1
