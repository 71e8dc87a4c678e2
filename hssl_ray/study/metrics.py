"""The metrics a trial reports: the names a study may search, stop or compare by."""

from __future__ import annotations

from typing import Literal, get_args

EpochMetric = Literal[
    "train/loss",
    "train/probe_loss",
    "train/learning_rate",
    "probe/top1",
    "eval/equivariance_error",
    "eval/feature_std",
    "eval/effective_rank",
    "perf/images_per_second",
    "perf/epoch_seconds",
]
"""Reported once per epoch."""

FinalMetric = Literal["probe/ridge_top1"]
"""Reported with the last epoch alone."""

Metric = Literal[EpochMetric, FinalMetric]
Goal = Literal["maximize", "minimize"]

EPOCH_METRICS: tuple[str, ...] = get_args(EpochMetric)
METRICS: tuple[str, ...] = get_args(Metric)
