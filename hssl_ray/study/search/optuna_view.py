"""A study's suggestions as an Optuna database in its folder, for optuna-dashboard and for whoever analyses with Optuna.

The ledger is the source of truth: nothing is ever drawn from this file. What it lacks is added when the study runs
again, and a file that is damaged, of another version of Optuna, or says something else than the ledger is made anew. A
thread writes it, so that no trial waits for it, and no error of it ends a study.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from hssl_ray.study.file.sections import Search
from hssl_ray.study.search.search import Past, axes_of, optuna_trial

log = logging.getLogger(__name__)

VIEW = "optuna.db"
FORMAT = 1
_CLOSE_SECONDS = 10.0
_NUMBER = "suggestion"
_SOURCE = "hssl_ray"


@dataclass(frozen=True)
class CellHistory:
    """The suggestions of one cell, as the ledger has them."""

    cell: str
    digest: str
    """Of the search and the cell; see `sampled.search_digest`."""
    past: Sequence[Past]


class _Differs(Exception):
    """The file says something that the ledger does not."""


@dataclass
class _Shown:
    """One cell's Optuna study, and the newest trial of each suggestion in it."""

    study_id: int
    trials: dict[int, FrozenTrial] = field(default_factory=dict)


class OptunaView:
    """Writes suggestions and their outcomes into `optuna.db`, one Optuna study a cell.

    A suggestion that failed and is tried again has a trial for each try, as Optuna's own retries have. One that is cut
    short waits: no trial is left running when the study ends.

    Args:
        folder: of the study.
        study: its name.
        search: its search.
        histories: of all cells, as they stand.
    """

    def __init__(self, folder: Path, study: str, search: Search, histories: Sequence[CellHistory]) -> None:
        self._path = folder / VIEW
        self._study = study
        self._search = search
        self._axes: dict[str, BaseDistribution] = axes_of(search.space)
        self._cells: dict[str, _Shown] = {}
        self._storage: optuna.storages.RDBStorage | None = None
        self._waiting: queue.SimpleQueue[tuple[str, Past] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, args=(list(histories),), name="optuna-view", daemon=True)
        self._thread.start()

    def put(self, cell: str, past: Past) -> None:
        """A suggestion as it is now. Returns at once."""
        self._waiting.put((cell, past))

    def close(self) -> None:
        """Write what is left; wait for it ten seconds at most. The next run adds what is missing then."""
        self._waiting.put(None)
        self._thread.join(_CLOSE_SECONDS)
        if self._thread.is_alive():
            log.warning("%s: is not written to its end; the next run of the study does that", self._path)

    # ---- in the thread

    def _write(self, histories: list[CellHistory]) -> None:
        try:
            self._open(histories)
            while (item := self._waiting.get()) is not None:
                cell, past = item
                self._show(self._cells[cell], past)
            for shown in self._cells.values():
                for number, trial in shown.trials.items():
                    if trial.state == TrialState.RUNNING:
                        self._set(shown, number, trial, TrialState.WAITING)
        except Exception as error:
            log.warning("%s: cannot be written, the study goes on without it (%s)", self._path, _line(error))
        finally:
            self._let_go()

    def _open(self, histories: list[CellHistory]) -> None:
        """The file as it is, with what it lacks; or a new one."""
        existed = self._path.exists()
        try:
            self._catch_up(histories)
        except Exception as error:
            if not existed:
                raise
            log.warning("%s: is made anew from the ledger (%s)", self._path, _line(error))
            self._let_go()
            for path in self._path.parent.glob(f"{VIEW}*"):  # with SQLite's own files beside it
                path.unlink()
            self._catch_up(histories)

    def _catch_up(self, histories: list[CellHistory]) -> None:
        self._storage = optuna.storages.RDBStorage(f"sqlite:///{self._path}", engine_kwargs={"creator": self._connect})
        self._cells = {}
        known = {study.study_name: study for study in self._storage.get_all_studies()}
        wanted = {f"{self._study}/{history.cell}" for history in histories}
        if not known.keys() <= wanted:
            raise _Differs("it has other cells")
        for history in histories:
            name = f"{self._study}/{history.cell}"
            marks = {"format": FORMAT, "search": history.digest, "metric": self._search.metric}
            if name not in known:
                self._cells[history.cell] = self._new(name, marks)
            elif known[name].user_attrs.get(_SOURCE) != marks:
                raise _Differs("its search is another one")
            else:
                self._cells[history.cell] = self._read(known[name]._study_id)
        for history in histories:
            shown, past = self._cells[history.cell], {one.suggestion.number: one for one in history.past}
            for number, trial in shown.trials.items():
                if number not in past or not _agrees(trial, past[number]):
                    raise _Differs(f"suggestion {number} of {history.cell} is another one")
            for one in history.past:
                self._show(shown, one)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=_CLOSE_SECONDS, check_same_thread=False)
        connection.execute("PRAGMA synchronous=OFF")  # a file that a power cut damages is made anew
        return connection

    def _new(self, name: str, marks: Mapping[str, Any]) -> _Shown:
        assert self._storage is not None
        study = optuna.create_study(storage=self._storage, study_name=name, direction=self._search.goal)
        self._storage.set_study_user_attr(study._study_id, _SOURCE, marks)
        return _Shown(study._study_id)

    def _read(self, study_id: int) -> _Shown:
        assert self._storage is not None
        shown = _Shown(study_id)
        for trial in self._storage.get_all_trials(study_id, deepcopy=False):
            shown.trials[int(trial.user_attrs[_NUMBER])] = trial
        return shown

    def _show(self, shown: _Shown, past: Past) -> None:
        """Bring the trial of a suggestion up to what is known of it."""
        number = past.suggestion.number
        wanted = optuna_trial(past, self._axes, 0)
        trial = shown.trials.get(number)
        if trial is None or (trial.state.is_finished() and not _same_end(trial, wanted)):
            self._add(shown, number, wanted)
        elif not trial.state.is_finished() and trial.state != wanted.state:
            assert self._storage is not None
            for step, value in wanted.intermediate_values.items():
                self._storage.set_trial_intermediate_value(trial._trial_id, step, value)
            self._set(shown, number, trial, wanted.state, wanted.values)

    def _add(self, shown: _Shown, number: int, wanted: FrozenTrial) -> None:
        assert self._storage is not None
        trial = optuna.trial.create_trial(
            state=wanted.state,
            values=wanted.values,
            params=wanted.params,
            distributions=wanted.distributions,
            user_attrs={_NUMBER: number},
            intermediate_values=wanted.intermediate_values,
        )
        trial._trial_id = self._storage.create_new_trial(shown.study_id, trial)
        shown.trials[number] = trial

    def _set(
        self,
        shown: _Shown,
        number: int,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None = None,
    ) -> None:
        assert self._storage is not None
        self._storage.set_trial_state_values(trial._trial_id, state, values)
        trial.state = state
        trial.values = None if values is None else list(values)

    def _let_go(self) -> None:
        if self._storage is not None:
            self._storage.remove_session()
            self._storage.engine.dispose()
            self._storage = None


def _agrees(trial: FrozenTrial, past: Past) -> bool:
    """Whether a trial of the file can be an earlier state of the suggestion, or the present one."""
    if trial.params != dict(past.suggestion.settings):
        return False
    return trial.state in (TrialState.RUNNING, TrialState.WAITING, TrialState.FAIL) or _same_end(
        trial, optuna_trial(past, trial.distributions, 0)
    )


def _same_end(trial: FrozenTrial, wanted: FrozenTrial) -> bool:
    return (trial.state, trial.values, trial.intermediate_values) == (
        wanted.state,
        wanted.values,
        wanted.intermediate_values,
    )


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]
