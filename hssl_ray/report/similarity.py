"""How alike the networks of two methods became: linear CKA and orbit Procrustes by stage, beside what to expect anyway.

Unlike the other reports this one reads checkpoints and computes, so it imports torch.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from hssl_ray.method.networks import Network, build_network
from hssl_ray.report.compare import compare
from hssl_ray.report.comparison import Cell, Pair, Question
from hssl_ray.report.text_table import NOTHING, TextTable
from hssl_ray.report.wording import method_name
from hssl_ray.study.layout import trial_folder
from hssl_ray.study.statistics import Summary, summarise
from hssl_ray.trial.checkpoint import load_network
from hssl_ray.trial.checkpoint_files import CheckpointError, of_epoch, verify
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.data import TrialData, open_trial_data
from hssl_ray.trial.similarity import StageSimilarity, orbits, stage_similarities

SCHEMA = "hssl-ray/similarity/1"
UNTRAINED = "untrained"


class NoPair(ValueError):
    """The study plans no setting with both methods."""


class NothingFinished(ValueError):
    """No seed of any setting has finished with both methods."""


@dataclass(frozen=True)
class Likeness:
    """Two kinds of networks of one setting, compared pair by pair, stage by stage."""

    setting: str
    between: tuple[str, str]
    """Methods, or `untrained`."""
    seeds: tuple[tuple[int, int], ...]
    """Of each pair of networks; equal where the two share a seed."""
    stages: tuple[tuple[StageSimilarity, ...], ...]
    """For each pair its stages."""

    @property
    def label(self) -> str:
        """`A-SSL – H-SSL, same seed`."""
        same = all(one == other for one, other in self.seeds)
        return f"{' – '.join(map(method_name, self.between))}, {'same seed' if same else 'two seeds'}"

    def cka(self) -> list[Summary | None]:
        """Over the pairs, by stage."""
        return [_summary(stage.cka for stage in column) for column in zip(*self.stages, strict=True)]

    def residual(self) -> list[Summary | None]:
        """Over the pairs, by stage."""
        return [_summary(stage.residual for stage in column) for column in zip(*self.stages, strict=True)]


@dataclass(frozen=True)
class Similarity:
    """What the networks of a study have in common; `notes` name what could not be read."""

    question: Question
    rows: tuple[Likeness, ...]
    notes: tuple[str, ...]

    def tables(self) -> list[TextTable]:
        """CKA and residuals, a row for what is compared and a column for each stage."""
        stages = max(len(row.cka()) for row in self.rows)
        header = ("setting", "between", "pairs", *(f"stage {n + 1}" for n in range(stages)))

        def table(title: str, values: Mapping[int, list[Summary | None]]) -> TextTable:
            lines = []
            for index, row in enumerate(self.rows):
                cells = [_written(value) for value in values[index]]
                cells += [NOTHING] * (stages - len(cells))
                lines.append((row.setting, row.label, str(len(row.seeds)), *cells))
            return TextTable(title, header, tuple(lines))

        return [
            table("Linear CKA (unbiased): 1 is alike, 0 unrelated", {i: r.cka() for i, r in enumerate(self.rows)}),
            table(
                "Orbit Procrustes residual: 0 is equal up to a turn of the channels, 1 unrelated",
                {i: r.residual() for i, r in enumerate(self.rows)},
            ),
        ]

    def to_json(self) -> str:
        """The whole as JSON, schema `SCHEMA`; a value that is no number is null."""
        data = {
            "schema": SCHEMA,
            "study": self.question.study,
            "baseline": self.question.baseline,
            "against": self.question.against,
            "rows": [
                {
                    "setting": row.setting,
                    "between": list(row.between),
                    "seeds": [list(pair) for pair in row.seeds],
                    "stages": [
                        {"stage": n + 1, "cka": _plain(cka), "residual": _plain(residual)}
                        for n, (cka, residual) in enumerate(zip(row.cka(), row.residual(), strict=True))
                    ],
                }
                for row in self.rows
            ],
            "notes": list(self.notes),
        }
        return json.dumps(data, indent=2, allow_nan=False)


@dataclass
class _Networks:
    """Orbits of the networks of one setting, by method and seed."""

    trained: dict[str, dict[int, list[Tensor]]] = field(default_factory=dict)
    untrained: dict[int, list[Tensor]] = field(default_factory=dict)


def similarity(results: pa.Table, question: Question, home: Path) -> Similarity:
    """Compare the networks of the question's two methods, setting by setting, on the same test images.

    Networks are those of the last epoch's checkpoints. Beside the pairs of one seed stand pairs of two seeds of the
    same method and pairs with the untrained network of the same seed: how alike networks are that differ by chance
    alone, and how alike that share their weights' start alone. Under a search, a method stands with its best
    suggestion, as in `compare`.

    Args:
        results: one row per trial, as `compare` reads it.

    Raises:
        NoPair: the study has no setting with both methods.
        NothingFinished: no seed has finished with both.
        DataError: the data set is missing or damaged.
    """
    pairs = [pair for pair in compare(results, question).pairs if pair.baseline and pair.against]
    if not pairs:
        raise NoPair(f"{question.study}: has no setting with both {question.baseline} and {question.against}")
    rows: list[Likeness] = []
    notes: list[str] = []
    for pair in pairs:
        rows += _likenesses(pair, _networks(pair, results, question, home, notes), question)
    if not rows:
        missing = f": {'; '.join(notes)}" if notes else ""
        raise NothingFinished(
            f"{question.study}: no seed has finished with both {question.baseline} and {question.against}{missing}"
        )
    return Similarity(question, tuple(rows), tuple(notes))


def _likenesses(pair: Pair, networks: _Networks, question: Question) -> list[Likeness]:
    """What is compared in a setting: the two methods at one seed, and if there is such a pair, the rows beside it."""
    baseline, against = (networks.trained.get(method, {}) for method in (question.baseline, question.against))
    common = sorted(baseline.keys() & against.keys())
    if not common:
        return []
    compared = [_likeness(pair, (question.baseline, question.against), [(s, s) for s in common], baseline, against)]
    for method, own in networks.trained.items():
        if len(own) > 1:
            several = list(itertools.combinations(sorted(own), 2))
            compared.append(_likeness(pair, (method, method), several, own, own))
    for method, own in networks.trained.items():
        compared.append(_likeness(pair, (method, UNTRAINED), [(s, s) for s in sorted(own)], own, networks.untrained))
    return compared


def _likeness(
    pair: Pair,
    between: tuple[str, str],
    seeds: Sequence[tuple[int, int]],
    these: Mapping[int, list[Tensor]],
    those: Mapping[int, list[Tensor]],
) -> Likeness:
    stages = tuple(tuple(stage_similarities(these[one], those[other])) for one, other in seeds)
    return Likeness(pair.label, between, tuple(seeds), stages)


def _networks(pair: Pair, results: pa.Table, question: Question, home: Path, notes: list[str]) -> _Networks:
    """The orbits of a setting's finished trials; the others are named in the notes."""
    found = _Networks()
    data: TrialData | None = None
    for cell in (pair.baseline, pair.against):
        assert cell is not None
        for row in _trials(cell, results, question):
            if row["state"] != "finished":
                notes.append(f"{row['name']} is {row['state']} and left out")
                continue
            path = of_epoch(trial_folder(home, row["trial_id"]), row["epochs"])
            try:
                verify(path)
            except CheckpointError as error:
                notes.append(f"{row['name']} is left out: {error}")
                continue
            config, network = load_network(path)
            data = data or open_trial_data(config, _device())
            found.trained.setdefault(cell.method, {})[config.seed] = _orbits(network, data)
            if config.seed not in found.untrained:
                found.untrained[config.seed] = _orbits(_untrained(config), data)
    return found


def _trials(cell: Cell, results: pa.Table, question: Question) -> list[dict[str, Any]]:
    """The rows of a cell, of its chosen suggestion if it has several, by seed."""
    columns = ["trial_id", "name", "cell", "state", "seed", "epochs", *question.sampled]
    rows = [
        row
        for row in results.select([*dict.fromkeys(columns)]).to_pylist()
        if row["cell"] == cell.name and all(row[name] == cell.settings[name] for name in question.sampled)
    ]
    return sorted(rows, key=lambda row: int(row["seed"]))


def _untrained(config: TrialConfig) -> Network:
    """What training started from; BatchNorm's running statistics are still 0 and 1."""
    return build_network(config)


def _orbits(network: Network, data: TrialData) -> list[Tensor]:
    return orbits(network.to(data.test.device), data.test)


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _summary(values: Iterable[float]) -> Summary | None:
    """Over the values that are numbers."""
    known = [value for value in values if math.isfinite(value)]
    return summarise(known) if known else None


def _written(summary: Summary | None) -> str:
    if summary is None:
        return NOTHING
    return f"{summary.mean:.3f}" + ("" if summary.std is None else f" ± {summary.std:.3f}")


def _plain(summary: Summary | None) -> dict[str, Any] | None:
    return None if summary is None else {"mean": summary.mean, "std": summary.std, "n": summary.n}
