"""How sure an answer can be: p values, and the chances that as many seeds had of showing what they were run for."""

from __future__ import annotations

from hssl_ray.report.comparison import Answer, Comparison, Question
from hssl_ray.report.power import Outcome, power
from hssl_ray.report.text_table import NOTHING, TextTable
from hssl_ray.report.wording import Scale, p_value


def power_table(comparison: Comparison) -> TextTable | None:
    """One row per answered pair; None if there is none.

    The chances are those of the observed spread and number of seeds: to show equivalence were the true difference 0,
    and to find a difference were the true one as large as the margin. They say what the study could have found, so
    they do not depend on what it did find.
    """
    question, scale = comparison.question, Scale(comparison.question.metric)
    answered = [(pair, pair.answer) for pair in comparison.pairs if pair.answer]
    if not answered:
        return None
    corrected = any(answer.verdict_holm for _, answer in answered)
    margin = f"{scale.margin(question.margin)}{scale.points}"
    header = (
        "setting",
        f"{100 * (2 * question.confidence - 1):g} % interval",
        "p different",
        f"p beyond ±{scale.margin(question.margin)}",
        *(("verdict (Holm)",) if corrected else ()),
        "spread of seeds",
        "chance to show none",
        f"chance to find {margin}",
        "seeds for 80 %",
    )
    rows = tuple(
        (
            pair.label,
            scale.change_interval(answer.equivalence_interval),
            p_value(answer.p_different),
            p_value(answer.p_equivalent),
            *((answer.verdict_holm or NOTHING,) if corrected else ()),
            scale.value(answer.difference.spread),
            _chance("equivalent", answer, question, 0.0),
            _chance("different", answer, question, question.margin),
            NOTHING if answer.seeds_if_equal is None else str(answer.seeds_if_equal),
        )
        for pair, answer in answered
    )
    return TextTable("How sure", header, rows)


def _chance(outcome: Outcome, answer: Answer, question: Question, truth: float) -> str:
    """At a look of a race, at that look's level."""
    difference = answer.difference
    chance = power(
        outcome,
        difference.n,
        spread=difference.spread,
        freedom_per_seed=difference.freedom_per_seed,
        true_difference=truth,
        margin=question.margin,
        confidence=1 - answer.look.level if answer.look else question.confidence,
    )
    return f"{100 * chance:.0f} %"
