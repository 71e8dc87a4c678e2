"""What a study file asks, as reports take it; apart from `readers`, because comparisons import scipy."""

from __future__ import annotations

from hssl_ray.report.comparison import Question
from hssl_ray.study.spec import Study


def question_of(study: Study) -> Question:
    """The study's `compare` section as the question a comparison answers."""
    asked, search = study.compare, study.search
    return Question(
        study=study.study,
        baseline=asked.baseline,
        against=asked.against,
        metric=asked.metric,
        margin=asked.margin,
        confidence=asked.confidence,
        sampled=tuple(search.space) if search else (),
        search_metric=search.metric if search else None,
        race=study.race,
        maximize=search.goal == "maximize" if search else True,
    )
