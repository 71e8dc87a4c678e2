"""From the results of a study's trials to its answer: cells over seeds, pairs of cells, verdicts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from hssl_ray.report.comparison import Answer, Cell, Comparison, Gap, Look, Pair, Question
from hssl_ray.report.paper.printed import paper_cell
from hssl_ray.report.paper.readings import concerns
from hssl_ray.report.power import seeds_needed
from hssl_ray.study.metrics import TABLES
from hssl_ray.study.search.looks import look_confidence
from hssl_ray.study.statistics import (
    Difference,
    holm,
    paired_difference,
    summarise,
    verdict,
    welch_difference,
)
from hssl_ray.trial.config import PAIRS, TrialConfig

OPEN = ("planned", "running", "killed")  # states of trials that a race waits for

Row = Mapping[str, Any]
Setting = tuple[tuple[str, Any], ...]


def compare(results: pa.Table, question: Question) -> Comparison:
    """Answer the study's question from its results table (one row per trial, finished or not).

    A cell is every seed of one setting; a pair is two cells whose settings differ in the method alone, or besides in
    what does not concern one of the two: a frozen backbone has no base space, and H-SSL no augmentation. Where a study
    samples settings, a cell is represented by its best suggestion. Nothing is dropped in silence: unfinished trials,
    missing partners and single seeds are named in the notes.
    """
    rows = _rows(results, question)
    varying = _varying(rows, question)
    settings: dict[Setting, dict[str, list[Row]]] = {}
    for row in rows:
        setting = tuple((field, row[field]) for field in varying)
        settings.setdefault(setting, {}).setdefault(row["method"], []).append(row)
    settings = _completed(settings)
    pairs = with_holm([_planned_pair(setting, methods, question) for setting, methods in settings.items()], question)
    return Comparison(question, tuple(pairs), tuple(_notes(pairs, rows, question)))


def pair_of(label: str, settings: Mapping[str, Any], methods: Mapping[str, list[Row]], question: Question) -> Pair:
    """The cells of one setting from the trials of each method, gains over frozen, and the question's answer."""
    cells = {method: _cell(rows, dict(settings), question) for method, rows in methods.items()}
    frozen = cells.get("frozen")
    if frozen:
        for method in set(cells) & set(PAIRS):
            gain = answer_of(frozen, cells[method], question)
            cells[method] = replace(cells[method], gain=gain)
    baseline, against = cells.pop(question.baseline, None), cells.pop(question.against, None)
    look = _look(baseline, against, question) if baseline and against else None
    answer = answer_of(baseline, against, question, look) if baseline and against else None
    notes = _seed_notes(baseline, against, answer, question)
    notes += [note for cell in (baseline, against, *cells.values()) if cell for note in _cell_notes(cell)]
    return Pair(label, dict(settings), baseline, against, tuple(cells.values()), answer, tuple(notes))


def difference_of(baseline: Cell, against: Cell) -> Difference | None:
    """against - baseline, paired by seed when both cells were planned with the same seeds, else Welch's.

    Trials of one seed share initial weights, data order and draws, so the two arms are not independent. The paired
    test is right whatever that dependence is; Welch's assumes there is none, which makes it too wide if seeds help
    or hurt both arms alike, and too narrow if they pull apart. The price of pairing is half of the degrees of freedom
    (2 for 4 at three seeds: 90 % intervals 1.4 times as wide if the seeds turn out not to matter, 1.15 at five).
    The plan decides, never the values: the design that happens to look better would be right too seldom. A seed that
    has finished on one side only is left out. None if fewer than two values remain.
    """
    if set(baseline.seeds) == set(against.seeds):
        common = sorted(baseline.values.keys() & against.values.keys())
        return paired_difference([baseline.values[s] for s in common], [against.values[s] for s in common])
    return _welch(baseline, against)


def cell_curves(history: pa.Table, confidence: float = 0.95) -> pa.Table:
    """Training curves over seeds: (cell, epoch, metric, mean, std, n, low, high), low and high the mean's t interval.

    Args:
        history: (trial_id, cell, method, seed, epoch, metric, value), as `study.results.history_table` gives it.
            Null and non-finite values and `TABLES` are left out; std, low and high are null where n is 1.
    """
    points: dict[tuple[str, str, int], list[float]] = {}
    for row in history.select(["cell", "epoch", "metric", "value"]).to_pylist():
        if row["value"] is not None and math.isfinite(row["value"]) and not row["metric"].startswith(TABLES):
            points.setdefault((row["cell"], row["metric"], int(row["epoch"])), []).append(row["value"])
    curves = []
    for (cell, metric, epoch), values in sorted(points.items()):
        summary = summarise(values)
        interval = summary.interval(confidence)
        low, high = (interval.low, interval.high) if interval else (None, None)
        point = (cell, epoch, metric, summary.mean, summary.std, summary.n, low, high)
        curves.append(dict(zip(_CURVES.names, point, strict=True)))
    return pa.Table.from_pylist(curves, _CURVES)


_CURVES = pa.schema(
    {
        "cell": pa.string(),
        "epoch": pa.int64(),
        "metric": pa.string(),
        "mean": pa.float64(),
        "std": pa.float64(),
        "n": pa.int64(),
        "low": pa.float64(),
        "high": pa.float64(),
    }
)


def _rows(results: pa.Table, question: Question) -> list[Row]:
    """The columns a comparison reads, as rows; a metric that no trial has yet is null in all."""
    wanted = {"trial_id", "name", "cell", "method", "seed", "state", "reason", question.metric, question.search_metric}
    wanted |= set(TrialConfig.model_fields)
    rows = results.select([name for name in results.column_names if name in wanted]).to_pylist()
    return [{question.metric: None, "reason": None, **row} for row in rows]


def _varying(rows: Sequence[Row], question: Question) -> list[str]:
    """Fields by which settings differ: what the grid varies, without method, seed and what the search samples.

    The group is always among them: it is what a reader asks for first.
    """
    fields = [field for field in TrialConfig.model_fields if rows and field in rows[0]]
    left_out = {"method", "seed", *question.sampled}
    return [f for f in fields if f not in left_out and (f == "group" or len({row[f] for row in rows}) > 1)]


def _completed(settings: dict[Setting, dict[str, list[Row]]]) -> dict[Setting, dict[str, list[Row]]]:
    """Settings with the cells they lack borrowed from settings that differ in nothing that concerns those cells'
    method.

    A setting that then says nothing more than another is left out.
    """
    holders: dict[str, list[Setting]] = {}
    for setting, cells in settings.items():
        for method in cells:
            holders.setdefault(method, []).append(setting)
    completed = {setting: dict(cells) for setting, cells in settings.items()}
    for setting, cells in completed.items():
        for method in holders.keys() - cells.keys():
            lender = next((h for h in holders[method] if _serves(settings[h][method][0], h, setting)), None)
            if lender is not None:
                cells[method] = settings[lender][method]
    return _without_repetitions(completed)


def _without_repetitions(settings: dict[Setting, dict[str, list[Row]]]) -> dict[Setting, dict[str, list[Row]]]:
    """Settings without those all of whose cells, borrowed ones too, stand in another; of two alike the first stays."""
    stands_in: dict[int, set[Setting]] = {}
    for setting, cells in settings.items():
        for rows in cells.values():
            stands_in.setdefault(id(rows), set()).add(setting)
    kept = dict(settings)
    for setting, cells in reversed(settings.items()):
        if len(set.intersection(*(stands_in[id(rows)] for rows in cells.values()))) > 1:
            del kept[setting]
            for rows in cells.values():
                stands_in[id(rows)].discard(setting)
    return kept


def _serves(row: Row, own: Setting, wanted: Setting) -> bool:
    """Whether a cell would be the same in the setting that is wanted: nothing in which the two differ concerns it."""
    differing = {field for (field, a), (_, b) in zip(own, wanted, strict=True) if a != b}
    return not any(concerns(field, row) for field in differing)


def _planned_pair(setting: Setting, methods: Mapping[str, list[Row]], question: Question) -> Pair:
    pair = pair_of(_label(setting), dict(setting), methods, question)
    return replace(pair, notes=(*_partner_notes(pair.baseline, pair.against, question), *pair.notes))


def _cell(rows: list[Row], setting: dict[str, Any], question: Question) -> Cell:
    """One method's cell of a setting; under a search, the best suggestion stands for it."""
    candidates: dict[Setting, list[Row]] = {}
    for row in rows:
        candidates.setdefault(tuple((field, row[field]) for field in question.sampled), []).append(row)
    chosen = max(candidates, key=lambda sampled: _rank(candidates[sampled], question))
    values, gaps = {}, []
    for row in sorted(candidates[chosen], key=lambda row: int(row["seed"])):
        if _has_value(row, question.metric):
            values[row["seed"]] = float(row[question.metric])
        else:
            reason = row["reason"] or (f"no {question.metric}" if row["state"] == "finished" else None)
            gaps.append(Gap(row["trial_id"], row["name"], row["cell"], row["seed"], row["state"], reason))
    summary = summarise(list(values.values())) if values else None
    first = candidates[chosen][0]
    paper = paper_cell(first["method"], first, question.metric)
    to_paper = welch_difference(paper.printed, summary) if paper and summary else None
    return Cell(
        name=first["cell"],
        method=first["method"],
        settings={**setting, **dict(chosen)},
        seeds=tuple(sorted({int(row["seed"]) for row in candidates[chosen]})),
        values=values,
        gaps=tuple(gaps),
        summary=summary,
        interval=summary.interval(question.confidence) if summary else None,
        paper=paper,
        paper_interval=to_paper.interval(question.confidence) if to_paper else None,
        suggestions=len(candidates) if question.sampled else None,
    )


def _rank(rows: Iterable[Row], question: Question) -> tuple[int, float]:
    """Order of a search's suggestions: more finished seeds first, then the better mean of the search's metric."""
    metric = question.search_metric or question.metric
    values = [float(row[metric]) for row in rows if _has_value(row, metric)]
    if not values:
        return 0, 0.0
    mean = summarise(values).mean
    return len(values), mean if question.maximize else -mean


def _has_value(row: Row, metric: str) -> bool:
    value = row.get(metric)
    return row["state"] == "finished" and value is not None and math.isfinite(value)


def _welch(baseline: Cell, against: Cell) -> Difference | None:
    if baseline.summary is None or against.summary is None:
        return None
    return welch_difference(baseline.summary, against.summary)


def _look(baseline: Cell, against: Cell, question: Question) -> Look | None:
    """Where a race of seeds stands between two cells; None where the study runs none."""
    if (race := question.race) is None:
        return None
    seeds = min(len(baseline.seeds), len(against.seeds))
    number = max(1, sum(look <= seeds for look in race.looks))
    level = 1 - look_confidence(race, seeds, question.confidence)
    complete = not any(gap.state in OPEN for cell in (baseline, against) for gap in cell.gaps)
    return Look(number, len(race.looks), seeds, race.at_most, level, complete)


def answer_of(baseline: Cell, against: Cell, question: Question, look: Look | None = None) -> Answer | None:
    """What the difference of two cells decides at the question's margin; None where there is no difference.

    At a look of a race everything has that look's level.
    """
    difference = difference_of(baseline, against)
    if difference is None:
        return None
    margin, confidence = question.margin, 1 - look.level if look else question.confidence
    unpaired = _welch(baseline, against) if difference.design == "paired" else None
    return Answer(
        difference,
        interval=difference.interval(confidence),
        equivalence_interval=difference.equivalence_interval(confidence),
        p_different=difference.p_different,
        p_equivalent=difference.p_equivalent(margin),
        verdict="undecided" if look and not look.complete else difference.verdict(margin, confidence),
        seeds_to_decide=seeds_needed("decided", difference, margin, confidence),
        seeds_if_equal=seeds_needed("equivalent", difference, margin, confidence, true_difference=0),
        other_design=("welch", unpaired.verdict(margin, confidence)) if unpaired else None,
        look=look,
    )


def with_holm(pairs: list[Pair], question: Question) -> list[Pair]:
    """The pairs with p values corrected for how many questions the study asks, where it asks several."""
    answers = [pair.answer for pair in pairs if pair.answer]
    if len(answers) < 2:
        return pairs
    corrected = iter(
        replace(
            answer,
            p_different_holm=different,
            p_equivalent_holm=equivalent,
            verdict_holm=verdict(equivalent, different, 1 - answer.look.level if answer.look else question.confidence),
        )
        for answer, different, equivalent in zip(
            answers, holm([a.p_different for a in answers]), holm([a.p_equivalent for a in answers]), strict=True
        )
    )
    return [replace(pair, answer=next(corrected)) if pair.answer else pair for pair in pairs]


def _label(setting: Setting) -> str:
    return ", ".join(
        str(value) if field in ("dataset", "group") else f"{field}={'none' if value is None else value}"
        for field, value in setting
    )


def _partner_notes(baseline: Cell | None, against: Cell | None, question: Question) -> list[str]:
    """Which side of the pair the study does not plan."""
    absent = [m for m, cell in ((question.baseline, baseline), (question.against, against)) if cell is None]
    return [f"{method}: the study has no cell with this setting, so there is no pair" for method in absent]


def _seed_notes(baseline: Cell | None, against: Cell | None, answer: Answer | None, question: Question) -> list[str]:
    """How many seeds the difference rests on, where that is fewer than a reader would think."""
    if baseline is None or against is None:
        return []
    common = sorted(baseline.values.keys() & against.values.keys())
    if answer is None:
        n = len(common) if set(baseline.seeds) == set(against.seeds) else min(len(baseline.values), len(against.values))
        return [f"n = {n}: no interval, at least 2 seeds of both methods are needed"]
    notes = [_look_note(answer.look, question)] if answer.look else []
    alone = sorted(baseline.values.keys() ^ against.values.keys())
    if answer.difference.design == "welch":
        notes.append("the methods have different seeds, so they are compared unpaired (Welch)")
    elif alone:
        notes.append(f"compared on seeds {_listed(common)}; only one method has finished on {_listed(alone)}")
    if answer.difference.spread == 0:
        notes.append("all seeds give the same difference, so its interval has no width; more seeds would show a spread")
    return notes


def _look_note(look: Look, question: Question) -> str:
    note = f"look {look.number} of at most {look.of}, {look.seeds} of at most {look.at_most} seeds: "
    if not look.complete:
        return note + "its trials have not all ended, so there is no verdict yet"
    return (
        note + f"tested at level {look.level:.2g}, its intervals too, so that all looks together are wrong at most "
        f"{100 * (1 - question.confidence):.2g} % of the time (alpha (n/N)² spent by look n, Bonferroni)"
    )


def _cell_notes(cell: Cell) -> list[str]:
    notes = []
    if cell.gaps:
        each = _listed(f"seed {gap.seed} {gap.state}" + (f" ({gap.reason})" if gap.reason else "") for gap in cell.gaps)
        notes.append(f"{cell.method}: {len(cell.gaps)} of {len(cell.seeds)} seeds without a result: {each}")
    if cell.suggestions and cell.suggestions > 1:
        notes.append(
            f"{cell.method}: the best of {cell.suggestions} suggestions on these seeds, so its mean is optimistic"
        )
    return notes


def _notes(pairs: Sequence[Pair], rows: Sequence[Row], question: Question) -> list[str]:
    if not rows:
        return ["no trials: nothing of this study has been planned or run here"]
    notes = []
    for method in (question.baseline, question.against):
        if not any(row["method"] == method for row in rows):
            notes.append(f"the study has no {method} cell, so there is nothing to compare")
    return notes + holm_notes(pairs)


def holm_notes(pairs: Sequence[Pair]) -> list[str]:
    """What asking several questions does to the verdicts of pairs that `with_holm` gave."""
    answered = [pair for pair in pairs if pair.answer]
    if len(answered) < 2:
        return []
    changed = [p.label for p in answered if p.answer and p.answer.verdict_holm not in (None, p.answer.verdict)]
    effect = f"would change the verdict of {_listed(changed)}" if changed else "changes no verdict"
    return [f"{len(answered)} pairs, each judged alone; Holm's correction for asking so many {effect}"]


def _listed(items: Iterable[object]) -> str:
    return ", ".join(str(item) for item in items)
