"""The metrics a trial reports: the names a study may search, stop or compare by."""

from __future__ import annotations

from typing import Literal, get_args

EpochMetric = Literal[
    "train/loss",
    "train/probe_loss",
    "train/learning_rate",
    "probe/top1",
    "eval/equivariance_error",
    "eval/equivariance_error_pooled",
    "eval/loss_a_ssl",
    "eval/loss_h_ssl",
    "eval/loss_gap",
    "eval/alignment",
    "eval/uniformity",
    "eval/feature_std",
    "eval/effective_rank",
    "perf/images_per_second",
    "perf/epoch_seconds",
    "perf/evaluation_seconds",
]
"""Reported once per epoch; what is about pairs, by methods that have them."""

FinalMetric = Literal["probe/ridge_top1", "probe/map_ridge_top1", "probe/linear_top1", "probe/knn_top1"]
"""Reported with the last epoch alone."""

Metric = Literal[EpochMetric, FinalMetric]
Goal = Literal["maximize", "minimize"]

EPOCH_METRICS: tuple[str, ...] = get_args(EpochMetric)
FINAL_METRICS: tuple[str, ...] = get_args(FinalMetric)
METRICS: tuple[str, ...] = get_args(Metric)

LESS_IS_BETTER = frozenset(
    {
        "train/loss",
        "train/probe_loss",
        "eval/equivariance_error",
        "eval/equivariance_error_pooled",
        "eval/loss_a_ssl",
        "eval/loss_h_ssl",
        "eval/loss_gap",
        "eval/alignment",
        "eval/uniformity",
        "perf/epoch_seconds",
        "perf/evaluation_seconds",
    }
)

TABLES = "equivariance/"
"""Metrics of this prefix are the cells of large tables (a stage, an element, a reading): for charts of one trial, not
for people's tables and not for curves over seeds."""
