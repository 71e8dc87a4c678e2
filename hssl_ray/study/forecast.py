"""What a study will cost and what it can show, from its file alone: no data is read and nothing is trained."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from hssl_ray.method.criterion_spec import contrastive
from hssl_ray.study.even_grids import expected_error
from hssl_ray.study.file.sections import Range, missing_package
from hssl_ray.study.metrics import LESS_IS_BETTER
from hssl_ray.study.power import detectable_difference, equivalence_power, provable_margin, seeds_for_margin
from hssl_ray.study.search.looks import look_confidence
from hssl_ray.study.spec import Cell, Study
from hssl_ray.trial.config import TrialConfig

DEFAULT_THROUGHPUT = 110.0
"""GMAC/s of two one-thread workers on two cores with AVX-512. The quick-start study runs at 131 with bf16, its start
and evaluation included (19,676 GMAC in 150 s); float32 takes about 1.5 times as long."""

DEFAULT_SD = 0.01
"""Standard deviation between seeds assumed for top-1 accuracy; the paper's cells on MNIST have 0.001 to 0.054."""

FORWARD_PASSES: Mapping[str, int] = {"a_ssl": 2, "f_ssl": 1, "h_ssl": 1, "supervised": 1, "frozen": 1}
"""Times a training step sends each image through the backbone: Eq. 5 has two augmented images, Eq. 6 and 7 have one."""

_BACKWARD = 2  # a backward pass costs about two forward passes
_MOST_CORNERS = 64


@dataclass(frozen=True)
class CellForecast:
    """One cell; of a searched one the dearest corner of its space, so that the cost is at most this."""

    name: str
    trials: int
    grid: int
    parameters: int
    gmac_per_image: float
    forward_passes: int
    epochs: int
    steps_per_epoch: int
    gmac: float
    checkpoint_bytes: int


@dataclass(frozen=True)
class Power:
    """What the study's seeds can show about one pair of cells, if the metric has standard deviation `sd` over seeds."""

    metric: str
    seeds: int
    sd: float
    margin: float
    confidence: float
    detectable_difference: float | None
    provable_margin: float | None
    chance_of_equivalence: float
    seeds_for_margin: int | None


@dataclass(frozen=True)
class Forecast:
    """The plan of a study. `gmac`, `hours` and `checkpoint_bytes` are totals over all trials."""

    cells: list[CellForecast]
    trials: int
    least_trials: int
    """If every pair of a race is decided at the first look; else the same."""
    at_most: bool
    gmac: float
    least_gmac: float
    throughput: float
    hours: float
    checkpoint_bytes: int
    power: Power
    warnings: list[str]

    @property
    def least_hours(self) -> float:
        return self.hours * self.least_gmac / self.gmac


def forecast(study: Study, throughput: float = DEFAULT_THROUGHPUT, sd: float = DEFAULT_SD) -> Forecast:
    """The cost of every cell and of the whole, the power of the comparison, and what looks like a mistake.

    Args:
        throughput: GMAC/s that all trials together reach; hours are for this rate.
        sd: standard deviation of the compared metric between seeds.
    """
    configs = {cell.name: list(corners(study, cell)) for cell in study.cells()}
    cells = [_cell(study, name, corners) for name, corners in configs.items() if corners]
    gmac = sum(cell.gmac for cell in cells)
    starts = len(study.seed_list) * (study.search.trials if study.search else 1)
    return Forecast(
        cells=cells,
        trials=study.trial_count,
        least_trials=study.least_trial_count,
        at_most=study.search is not None or study.early_stop is not None or study.race is not None,
        gmac=gmac,
        least_gmac=sum(cell.gmac * starts / cell.trials for cell in cells),
        throughput=throughput,
        hours=gmac / throughput / 3600,
        checkpoint_bytes=sum(cell.trials * study.checkpoints.most * cell.checkpoint_bytes for cell in cells),
        power=_power(study, sd),
        warnings=[*_study_warnings(study, configs), *_cell_warnings(configs)],
    )


def dearest_trial(study: Study) -> TrialConfig:
    """The trial with the most work in it, which a probe of the machine's speed should measure."""
    return max((config for cell in study.cells() for config in corners(study, cell)), key=training_gmac)


def training_gmac(config: TrialConfig) -> float:
    """GMAC of one trial in the backbone: steps forward and backward, a test pass every epoch, a last probe of all."""
    macs = config.architecture.cost(config.grid).macs
    per_image = FORWARD_PASSES[config.method] * (1 if config.method == "frozen" else 1 + _BACKWARD)
    per_image += config.method == "a_ssl" and config.probe_images == "clean"
    trained = config.steps_per_epoch * config.batch_size * config.epochs * per_image
    probed = config.data.test_images * config.epochs + (config.train_images or config.data.train_images)
    return macs * (trained + probed) / 1e9


def checkpoint_bytes(config: TrialConfig) -> int:
    """Bytes of one checkpoint: float32 weights of backbone, head, probe and criterion, with the optimiser's state."""
    architecture = config.architecture
    head = architecture.head_parameters(config.base_size)
    probe = architecture.probe_parameters(config.grid, config.data.classes)
    learned = config.criterion.parameters(architecture.head_sizes[-1])
    if config.layerwise:
        for stage in architecture.stage_specs(config.grid)[:-1]:
            head += architecture.head_parameters(config.base_size, stage.channels)
            learned += config.criterion.parameters(architecture.stage_head_sizes(stage.channels)[-1])
    weights = architecture.cost(config.grid).parameters + head + probe + learned
    states = 2 if config.optimizer == "adamw" else 1
    return 4 * weights * (1 + states)


def corners(study: Study, cell: Cell) -> Iterator[TrialConfig]:
    """The cell's configuration, or those of the valid corners of the space searched in it."""
    space = study.search.space if study.search else {}
    ends = [[axis.low, axis.high] if isinstance(axis, Range) else axis for axis in space.values()]
    for values in itertools.islice(itertools.product(*ends), _MOST_CORNERS):
        try:
            yield TrialConfig(**{**cell.settings, **dict(zip(space, values, strict=True))})
        except ValidationError:
            continue  # the sampler passes it over too


def _cell(study: Study, name: str, corners: list[TrialConfig]) -> CellForecast:
    dearest = max(corners, key=training_gmac)
    cost = dearest.architecture.cost(dearest.grid)
    trials = len(study.seed_list) * (study.search.trials if study.search else 1)
    if study.race is not None and any(name == raced.name for pair in study.pairs for raced in pair):
        trials = study.race.at_most
    return CellForecast(
        name=name,
        trials=trials,
        grid=dearest.grid,
        parameters=cost.parameters,
        gmac_per_image=cost.macs / 1e9,
        forward_passes=FORWARD_PASSES[dearest.method],
        epochs=dearest.epochs,
        steps_per_epoch=dearest.steps_per_epoch,
        gmac=trials * training_gmac(dearest),
        checkpoint_bytes=max(map(checkpoint_bytes, corners)),
    )


def _power(study: Study, sd: float) -> Power:
    """Of a race at its last look, with every pair undecided until then."""
    seeds, compare = len(study.seed_list), study.compare
    confidence = compare.confidence
    if (race := study.race) is not None:
        seeds, confidence = race.at_most, look_confidence(race, race.at_most, confidence)
    return Power(
        metric=compare.metric,
        seeds=seeds,
        sd=sd,
        margin=compare.margin,
        confidence=confidence,
        detectable_difference=detectable_difference(seeds, sd, confidence),
        provable_margin=provable_margin(seeds, sd, confidence),
        chance_of_equivalence=equivalence_power(seeds, sd, compare.margin, confidence),
        seeds_for_margin=seeds_for_margin(sd, compare.margin, confidence),
    )


def _study_warnings(study: Study, configs: Mapping[str, list[TrialConfig]]) -> Iterator[str]:
    methods = {config.method for corners in configs.values() for config in corners}
    if absent := sorted({study.compare.baseline, study.compare.against} - methods):
        yield f"compare: nothing to compare, the study has no {' and no '.join(absent)}"
    if len(study.seed_list) == 1:
        yield "seeds: one seed gives no spread, so no interval and no verdict"
    if (search := study.search) is not None:
        if package := missing_package(search.sampler):
            yield f"search.sampler: {search.sampler} needs the package {package}, which is not installed here"
        if (points := _point_count(search.space)) is not None and points < search.trials:
            yield f"search.trials: the space has {points} points, so {search.trials} suggestions are not reached"
        yield from _goal_warning("search", search.metric, search.goal)
    if (stop := study.early_stop) is not None:
        if search is None:
            yield "early_stop: without a search it stops seeds of the cells that are compared, so n differs"
        if all(stop.grace_epochs >= config.epochs for corners in configs.values() for config in corners):
            yield f"early_stop.grace_epochs: no trial is longer than {stop.grace_epochs} epochs, so none is stopped"
        yield from _goal_warning("early_stop", stop.metric, stop.goal)


def _goal_warning(section: str, metric: str, goal: str) -> Iterator[str]:
    if (metric in LESS_IS_BETTER) == (goal == "maximize"):
        yield f"{section}.goal: {goal} {metric} looks the wrong way round"


def _point_count(space: Mapping[str, Any]) -> int | None:
    """Points of a space without continuous axes."""
    count = 1
    for axis in space.values():
        if isinstance(axis, Range) and not isinstance(axis.low, int):
            return None
        count *= (axis.high - axis.low) // (axis.step or 1) + 1 if isinstance(axis, Range) else len(axis)
    return count


def _cell_warnings(configs: Mapping[str, list[TrialConfig]]) -> Iterator[str]:
    """Equal warnings of several cells as one."""
    found: dict[str, list[str]] = {}
    for name, corners in configs.items():
        for message in dict.fromkeys(w for config in corners for w in _config_warnings(config)):
            found.setdefault(message, []).append(name)
    for message, names in found.items():
        yield f"{message} (cell {names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''})"


def _config_warnings(config: TrialConfig) -> Iterator[str]:
    if (error := expected_error(config)) is not None:
        exact = config.architecture.exact_size(min(config.data.size, config.grid))
        yield (
            f"image_size: on {config.grid} x {config.grid} cells a quarter turn does not commute with the strided"
            f" layers, so A-SSL and H-SSL differ by construction: Eq. 1 is off by about {error.on_map:.2f} of the"
            f" feature map's norm, {error.pooled:.2f} after pooling (random weights); {exact} is exact"
        )
    default = TrialConfig.model_fields["temperature"].default
    if not contrastive(config.objective) and config.temperature != default:
        yield f"temperature: {config.objective} has none, so {config.temperature:g} makes other trials of the same kind"
    images = config.train_images or config.data.train_images
    if (left := images - config.steps_per_epoch * config.batch_size) > images / 10:
        yield f"batch_size: {left:,} of {images:,} training images are left out of every epoch"
