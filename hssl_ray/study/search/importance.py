"""How much each searched field mattered, by Optuna's estimates."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator

from hssl_ray.study.file.sections import Search
from hssl_ray.study.search.optuna_history import OptunaHistory
from hssl_ray.study.search.search import Past, Suggestion, axes_of, optuna_trial

BEST = 0.25
"""The share of the suggestions that PED-ANOVA asks about: of ten, Optuna's own tenth is a single one."""


@dataclass(frozen=True)
class Importance:
    """A field's shares, which sum to 1 over the fields.

    `fanova`: of the variance over the whole space, by a random forest (Hutter et al. 2014). `ped_anova`: of what sets
    the best quarter apart from all (Watanabe et al. 2023); None where the suggestions do not tell.
    """

    field: str
    fanova: float
    ped_anova: float | None


def importance(search: Search, points: Sequence[tuple[Mapping[str, Any], float]], seed: int = 0) -> list[Importance]:
    """The searched fields, the most important by fANOVA first; empty where all points have the same value.

    Args:
        points: settings of the searched fields, with what they were worth.
    """
    if len(points) < 2 or len({value for _, value in points}) < 2:
        return []
    axes = axes_of(search.space)
    trials = [
        optuna_trial(Past(Suggestion(number, settings), "finished", value), axes, number)
        for number, (settings, value) in enumerate(points)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(storage=OptunaHistory(trials), direction=search.goal)
        shares = FanovaImportanceEvaluator(seed=seed).evaluate(study)
        better = PedAnovaImportanceEvaluator(target_quantile=BEST).evaluate(study)
    told = sum(better.values())
    whole = sum(shares.values())
    return [
        Importance(name, shares[name] / whole, better[name] / told if told > 0 and name in better else None)
        for name in sorted(shares, key=lambda name: (-shares[name], name))
        if whole > 0
    ]
