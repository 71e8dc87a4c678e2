"""The paper's Table 1 as data, and how far a study's cell is from the setting that made each number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hssl_ray.data.catalog import CATALOG
from hssl_ray.report.statistics import Summary

RUNS = 3  # "mean ± std over 3 runs"

# Top-1 test accuracy in percent: (data set, group) -> method -> mean, std.
TABLE_1: dict[tuple[str, str], dict[str, tuple[float, float]]] = {
    ("mnist", "rotation"): {
        "a_ssl": (68.2, 2.5), "h_ssl": (70.3, 5.4), "frozen": (87.2, 0.8), "supervised": (99.4, 0.1),
    },
    ("mnist", "translation"): {
        "a_ssl": (95.9, 0.3), "h_ssl": (96.0, 1.3), "frozen": (94.1, 0.3), "supervised": (99.2, 0.1),
    },
    ("mnist", "scale"): {
        "a_ssl": (98.6, 0.1), "h_ssl": (98.3, 0.2), "frozen": (94.7, 0.6), "supervised": (99.3, 0.1),
    },
    ("cifar10", "rotation"): {
        "a_ssl": (46.1, 0.6), "h_ssl": (48.3, 0.5), "frozen": (38.4, 0.1), "supervised": (73.0, 1.1),
    },
    ("cifar10", "translation"): {
        "a_ssl": (39.2, 0.5), "h_ssl": (36.3, 1.1), "frozen": (40.4, 0.2), "supervised": (76.2, 1.4),
    },
    ("cifar10", "scale"): {
        "a_ssl": (59.4, 0.2), "h_ssl": (56.7, 0.4), "frozen": (41.1, 0.6), "supervised": (78.0, 0.2),
    },
    ("tiny-imagenet", "rotation"): {
        "a_ssl": (14.9, 0.3), "h_ssl": (13.5, 0.5), "frozen": (6.1, 0.2), "supervised": (22.5, 0.1),
    },
    ("tiny-imagenet", "scale"): {
        "a_ssl": (16.2, 0.4), "h_ssl": (14.0, 1.3), "frozen": (6.4, 0.2), "supervised": (23.7, 0.2),
    },
}  # fmt: skip

METRIC = "probe/top1"  # the detached classifier trained alongside
MADE_FROM = {"mnist-mini": "mnist"}  # subsets, whose cells are shown beside the full set's
BACKBONE = {"mnist": "mnist_cnn", "cifar10": "resnet20", "tiny-imagenet": "resnet18"}
EPOCHS = {"mnist": 500, "cifar10": 1300, "tiny-imagenet": 1300}
SETTINGS: dict[str, Any] = {  # §4.4, for every data set
    "width": 1.0,
    "optimizer": "lars",
    "learning_rate": 0.1,
    "weight_decay": 1e-4,
    "warmup_epochs": 10,
    "batch_size": 4096,
}
PAIR_SETTINGS: dict[str, Any] = {"objective": "info_nce", "temperature": 0.1}  # where there are pairs to contrast
BASE_SETTINGS: dict[str, Any] = {"base_size": 1, "max_distance": None}  # Table 1; Fig. 3 varies them


@dataclass(frozen=True)
class PaperCell:
    """A printed number as a fraction, and the settings in which the study's cell departs from the paper's."""

    printed: Summary
    departures: tuple[str, ...]


def paper_cell(method: str, settings: Mapping[str, Any], metric: str) -> PaperCell | None:
    """The number printed for this cell of Table 1; None where the paper has none (f_ssl, other base sizes, ...).

    Args:
        settings: values of `TrialConfig` fields; those absent are taken to be the paper's.
    """
    dataset = str(settings.get("dataset"))
    full = MADE_FROM.get(dataset, dataset)
    printed = TABLE_1.get((full, str(settings.get("group"))), {}).get(method)
    has_pairs = method in ("a_ssl", "h_ssl")
    if printed is None or (has_pairs and _departures(settings, BASE_SETTINGS)):
        return None
    wanted = {"dataset": full, "backbone": BACKBONE[full], "epochs": EPOCHS[full], **SETTINGS}
    wanted |= PAIR_SETTINGS if has_pairs else {}
    wanted |= {"augmentation": "paper"} if method == "a_ssl" else {}
    departures = _departures(settings, wanted)
    if settings.get("train_images") not in (None, CATALOG[full].train_images):
        departures.append(f"train_images={settings['train_images']}")
    if metric != METRIC:
        departures.append(f"metric={metric}")
    mean, std = printed
    return PaperCell(Summary(mean / 100, std / 100, RUNS), tuple(departures))


def _departures(settings: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    return [f"{name}={settings[name]}" for name, value in wanted.items() if settings.get(name, value) != value]
