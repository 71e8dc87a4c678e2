"""The paper's Tables 1 and 2 as data, and how far a study's cell is from the setting that made each number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from hssl_ray.data.catalog import CATALOG
from hssl_ray.report.paper.readings import concerns
from hssl_ray.study.statistics import Summary
from hssl_ray.trial.config import PAIRS, TrialConfig

RUNS = 3  # "mean ± std over 3 runs"

Printed = dict[tuple[str, str], dict[str, tuple[float, float]]]
"""Top-1 test accuracy in percent: (data set, group) -> method -> mean, std."""

TABLE_1: Printed = {
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

# Without equivariance: an MLP whose output is read as 16 fibers, CNNs with 6 times the channels.
TABLE_2: Printed = {
    ("mnist", "translation"): {
        "a_ssl": (87.6, 0.2), "h_ssl": (58.2, 0.5), "frozen": (83.0, 0.8), "supervised": (98.6, 0.1),
    },
    ("mnist", "scale"): {
        "a_ssl": (95.2, 0.1), "h_ssl": (87.2, 2.4), "frozen": (87.2, 0.6), "supervised": (99.3, 0.1),
    },
    ("cifar10", "scale"): {
        "a_ssl": (53.6, 0.2), "h_ssl": (37.5, 0.1), "frozen": (43.6, 0.3), "supervised": (67.9, 2.1),
    },
}  # fmt: skip

METRIC = "probe/top1"  # the detached classifier trained alongside
MADE_FROM = {"mnist-mini": "mnist"}  # subsets, whose cells are shown beside the full set's
BACKBONE = {"mnist": "mnist_cnn", "cifar10": "resnet20", "tiny-imagenet": "resnet18"}
ALIKE = {"fashion-mnist": "mnist"}  # not the paper's, but of the same shape and so with the same network
EPOCHS = {"mnist": 500, "cifar10": 1300, "tiny-imagenet": 1300}
SETTINGS: dict[str, Any] = {  # §4.4, for every data set
    "width": 1.0,
    "mixing": 1,
    "optimizer": "lars",
    "learning_rate": 0.1,
    "weight_decay": 1e-4,
    "warmup_epochs": 10,
    "batch_size": 4096,
}
PAIR_SETTINGS: dict[str, Any] = {  # where there are pairs to contrast
    "objective": "info_nce",
    "similarity": "cosine",
    "temperature": 0.1,
    "layerwise": False,
}
BASE_SETTINGS: dict[str, Any] = {  # both tables; Fig. 3 varies them
    "base_size": 1,
    "max_distance": None,
    "min_distance": None,
}


class RowKey(NamedTuple):
    """A row of a table: the network and the transformation. `structure` is `none` for the twins of Table 2."""

    dataset: str
    group: str
    backbone: str
    structure: str = "equivariant"

    @property
    def label(self) -> str:
        """What tells the row from the others, without what follows from its data set."""
        own = "" if self.backbone == paper_backbone(self.dataset, self.group, self.structure) else f" {self.backbone}"
        return f"{self.dataset} {self.group}{own}{' without structure' if self.structure == 'none' else ''}"


@dataclass(frozen=True)
class PaperCell:
    """A printed number as a fraction, and the settings in which the study's cell departs from the paper's."""

    printed: Summary
    departures: tuple[str, ...]


def paper_backbone(dataset: str, group: str, structure: str) -> str:
    """The network of a data set (App. A), of one made from it, or of one alike; a trial's default for any other."""
    if structure == "none" and group == "translation":
        return "mlp"
    default: str = TrialConfig.model_fields["backbone"].default
    return BACKBONE.get((MADE_FROM | ALIKE).get(dataset, dataset), default)


def paper_rows(structure: str) -> list[RowKey]:
    """The rows of Table 1 (`equivariant`) or Table 2 (`none`), in the paper's order."""
    printed = TABLE_2 if structure == "none" else TABLE_1
    return [RowKey(d, g, paper_backbone(d, g, structure), structure) for d, g in printed]


def printed_number(key: RowKey, method: str) -> Summary | None:
    """The printed mean and deviation of a cell, as fractions; None where the paper has no such cell."""
    table = TABLE_2 if key.structure == "none" else TABLE_1
    found = table.get((key.dataset, key.group), {}).get(method)
    return Summary(round(found[0] / 100, 4), round(found[1] / 100, 4), RUNS) if found else None


def paper_cell(method: str, settings: Mapping[str, Any], metric: str) -> PaperCell | None:
    """The number printed for this cell; None where the paper has none (f_ssl, other base sizes, ...).

    Args:
        settings: values of `TrialConfig` fields; those absent are taken to be the paper's.
    """
    dataset = str(settings.get("dataset"))
    key = RowKey(MADE_FROM.get(dataset, dataset), str(settings.get("group")), "", structure_of(settings))
    printed = printed_number(key, method)
    if printed is None or _departures(settings, _base_settings(method, settings)):
        return None
    return PaperCell(printed, departures(method, settings, metric))


def departures(method: str, settings: Mapping[str, Any], metric: str) -> tuple[str, ...]:
    """In what a cell departs from §4.4 and App. A; the epochs are named where the paper has no such data set."""
    dataset, group = str(settings.get("dataset")), str(settings.get("group"))
    full = MADE_FROM.get(dataset, dataset)
    wanted: dict[str, Any] = {"dataset": full, "backbone": paper_backbone(dataset, group, structure_of(settings))}
    wanted |= {"epochs": EPOCHS.get(full), **SETTINGS}
    wanted |= {**(PAIR_SETTINGS if method in PAIRS else {}), **_base_settings(method, settings)}
    wanted |= {"augmentation": "paper"} if method == "a_ssl" else {}
    found = _departures(settings, wanted)
    if settings.get("train_images") not in (None, CATALOG[full].train_images):
        found.append(f"train_images={settings['train_images']}")
    if metric != METRIC:
        found.append(f"metric={metric}")
    return tuple(found)


def _base_settings(method: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The paper's base size and distances, as far as they can change the cell."""
    cell = {**settings, "method": method}
    return {name: value for name, value in BASE_SETTINGS.items() if concerns(name, cell)}


def structure_of(settings: Mapping[str, Any]) -> str:
    """Whether a trial's network is equivariant or a twin of Table 2."""
    return str(settings.get("structure", "equivariant"))


def _departures(settings: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    differing = [(name, settings[name]) for name, value in wanted.items() if settings.get(name, value) != value]
    # A search draws numbers of seventeen digits.
    return [f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in differing]
