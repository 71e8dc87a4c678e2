"""What was suggested and what became of it, as Optuna's samplers read it: one study whose trials are given to it.

A sampler asks its storage for all trials. Making them anew for every suggestion took a third of a second with 3,000 of
them; here they are made once, and a storage that holds them costs as much as a list of them.
"""

from __future__ import annotations

import copy
from collections.abc import Container, Iterable, Sequence
from typing import Any, NoReturn

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

_STUDY = 0


class OptunaHistory(BaseStorage):
    """The storage of one study, in memory. The id of a trial is its number.

    Args:
        trials: the history, in the order of its numbers. They are not changed: what is asked for and told here stays
            here.
    """

    def __init__(self, trials: Iterable[FrozenTrial] = ()) -> None:
        self._trials = {trial.number: trial for trial in trials}
        self._directions: list[StudyDirection] = []
        self._attributes: dict[str, Any] = {}

    def copy(self) -> OptunaHistory:
        """A storage that goes on from here by itself."""
        other = OptunaHistory(self._trials.values())
        other._directions, other._attributes = self._directions, self._attributes
        return other

    # ---- the study

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        self._directions = list(directions)
        return _STUDY

    def get_study_id_from_name(self, study_name: str) -> int:
        return _STUDY

    def get_study_name_from_id(self, study_id: int) -> str:
        return "history"

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self._directions

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return {}

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self._attributes

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self._attributes = {**self._attributes, key: value}

    # ---- its trials

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        trial = copy.copy(template_trial or create_trial(state=TrialState.RUNNING))
        trial.number = trial._trial_id = max(self._trials, default=-1) + 1
        self._trials[trial.number] = trial
        return trial.number

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return self._trials[trial_id]

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return [trial for trial in self._trials.values() if states is None or trial.state in states]

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        trial = self._trials[trial_id]
        value = distribution.to_external_repr(param_value_internal)
        axes = {**trial.distributions, param_name: distribution}
        self._change(trial_id, params={**trial.params, param_name: value}, distributions=axes)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        if state == TrialState.RUNNING and self._trials[trial_id].state != TrialState.WAITING:
            return False
        self._change(trial_id, state=state, values=None if values is None else list(values))
        return True

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._change(trial_id, system_attrs={**self._trials[trial_id].system_attrs, key: value})

    def _change(self, trial_id: int, **changes: Any) -> None:
        """Trials are shared with other storages, so one that changes is copied first."""
        trial = copy.copy(self._trials[trial_id])
        for name, value in changes.items():
            setattr(trial, name, value)
        self._trials[trial_id] = trial

    # ---- what no sampler asks for

    def get_all_studies(self) -> NoReturn:
        raise NotImplementedError

    def delete_study(self, study_id: int) -> NoReturn:
        raise NotImplementedError

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> NoReturn:
        raise NotImplementedError

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> NoReturn:
        raise NotImplementedError

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> NoReturn:
        raise NotImplementedError
