"""Trials on every objective: they train, resume exactly, leave baselines alone, and old ones start as they did."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from hssl_ray.method.criterion_spec import CONTRASTIVE
from hssl_ray.method.networks import build_network
from hssl_ray.study.forecast import checkpoint_bytes, forecast
from hssl_ray.study.spec import Study
from hssl_ray.trial import data
from hssl_ray.trial.checkpoint_files import latest_valid
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.endings import TrialStopped
from hssl_ray.trial.optim import parameter_groups
from hssl_ray.trial.train import train_trial

TINY: dict[str, object] = {
    "train_images": 60, "batch_size": 20, "width": 0.0625, "epochs": 2, "warmup_epochs": 0,
    "optimizer": "adamw", "learning_rate": 0.003, "precision": "fp32",
}  # fmt: skip
Metrics = dict[str, float]


def tiny(**changes: object) -> TrialConfig:
    return TrialConfig.model_validate(TINY | changes)


def train(
    config: TrialConfig, workdir: Path, stop_after: int | None = None, resume: Path | None = None
) -> list[Metrics]:
    """Every epoch's metrics without those of speed, of a trial that may be stopped."""
    told: list[Metrics] = []

    def report(metrics: Metrics, _committed: Path | None) -> None:
        told.append({name: value for name, value in metrics.items() if not name.startswith("perf/")})
        if len(told) == stop_after:
            raise TrialStopped("enough")

    try:
        train_trial(config, report, resume, workdir=workdir, checkpoint_every=1)
    except TrialStopped:
        assert stop_after is not None
    return told


def weights(workdir: Path) -> dict[str, torch.Tensor]:
    path = latest_valid(workdir)
    assert path is not None
    return load_file(path / "weights.safetensors")


@pytest.fixture(autouse=True)
def _few_test_images(monkeypatch: pytest.MonkeyPatch) -> None:
    whole: Callable[[data.Images], int] = data.Images.__len__
    monkeypatch.setattr(data.Images, "__len__", lambda images: min(60, whole(images)))


LEARNING: list[dict[str, object]] = [
    {"objective": "simsiam", "optimizer": "lars", "learning_rate": 0.1},
    {"objective": "dcl", "similarity": "log_bilinear", "temperature": 1.0},
    {"objective": "simsiam", "layerwise": True, "method": "a_ssl", "group": "translation"},
]


@pytest.mark.parametrize("changes", LEARNING, ids=lambda c: "-".join(map(str, c.values())))
def test_interrupted_and_resumed_is_uninterrupted_with_what_an_objective_learns(
    changes: dict[str, object], tmp_path: Path
) -> None:
    config = tiny(**changes)
    whole = train(config, tmp_path / "whole")
    first = train(config, tmp_path / "cut", stop_after=1)
    resumed = train(config, tmp_path / "cut", resume=latest_valid(tmp_path / "cut"))
    assert whole == first + resumed
    expected, got = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    start = build_network(config).state_dict()
    learned = [name for name in expected if name.startswith(("criterion.", "stage_losses."))]
    assert learned and all(not torch.equal(expected[name], start[name]) for name in learned)


@pytest.mark.parametrize("objective", ["negative_cosine", "simsiam", "vicreg", "barlow_twins", "dcl"])
def test_every_objective_falls_in_training(objective: str, tmp_path: Path) -> None:
    told = train(tiny(objective=objective, epochs=4), tmp_path)
    assert told[-1]["train/loss"] < told[0]["train/loss"]


def test_layerwise_trials_report_the_loss_of_every_stage(tmp_path: Path) -> None:
    told = train(tiny(layerwise=True, epochs=3), tmp_path / "layerwise")
    stages = [f"train/loss_stage{stage}" for stage in (1, 2, 3)]
    for metrics in told:
        assert sum(metrics[name] for name in stages) == pytest.approx(metrics["train/loss"], rel=1e-5)
    assert all(told[-1][name] < told[0][name] for name in stages)
    plain = train(tiny(epochs=1), tmp_path / "plain")
    assert not any(name.startswith("train/loss_stage") for name in plain[0])


@pytest.mark.parametrize("method", ["frozen", "supervised"])
def test_baselines_leave_objectives_alone(method: str, tmp_path: Path) -> None:
    """A grid over methods may hold them: they train as they do without, and what the objective learns stays."""
    config = tiny(method=method, objective="simsiam", layerwise=True, epochs=1)
    plain = tiny(method=method, epochs=1)
    assert train(config, tmp_path / "with") == train(plain, tmp_path / "without")
    start, after = build_network(config).state_dict(), weights(tmp_path / "with")
    untouched = [name for name in start if name.startswith(("criterion.", "stage_losses.", "projection_head."))]
    assert untouched and all(torch.equal(start[name], after[name]) for name in untouched)


def test_what_an_objective_learns_is_optimised_like_the_head() -> None:
    """W and the predictor's matrices are decayed and adapted, its BatchNorm and bias are neither; none is left out."""
    network = build_network(tiny(objective="simsiam", layerwise=True))
    matrices, vectors, probe = parameter_groups(network, network.probe, tiny())
    kinds = {id(p): kind for kind, group in enumerate((matrices, vectors, probe)) for p in group["params"]}
    assert len(kinds) == len(list(network.parameters()))
    learned = {name: p for name, p in network.named_parameters() if "predictor" in name}
    assert len(learned) == 3 * 5
    assert {kinds[id(p)] == 0 for p in learned.values() if p.dim() > 1} == {True}
    assert {kinds[id(p)] == 1 for p in learned.values() if p.dim() == 1} == {True}
    assert matrices["adapt"] and matrices["weight_decay"] > 0 and not vectors["adapt"]
    bilinear = build_network(tiny(similarity="log_bilinear"))
    (w,) = bilinear.criterion.parameters()
    assert any(p is w for p in parameter_groups(bilinear, bilinear.probe, tiny())[0]["params"])


def test_first_weights_of_released_configs_stay() -> None:
    """Weights are drawn in one order: backbone, head, probe, then all that came later. Pinned numbers of seed 0."""
    state = build_network(TrialConfig(width=0.125)).state_dict()
    pinned = {
        "backbone.stages.0.0.weight": (-0.0006806200253777206, 0.0474400632083416),
        "backbone.stages.2.0.weight": (0.06460577994585037, 0.09216560423374176),
        "projection_head.4.weight": (0.2271689772605896, 0.0007958412170410156),
        "probe.0.weight": (-0.04248584434390068, -0.020231932401657104),
        "probe.3.weight": (-0.22891029715538025, 0.09827771782875061),
    }
    for name, ends in pinned.items():
        values = state[name].flatten()
        assert (values[0].item(), values[-1].item()) == ends, name


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"objective": "vicreg", "similarity": "log_bilinear"}, "similarity: must be cosine for vicreg"),
        ({"objective": "negative_cosine", "base_size": 2}, "a view of 256 numbers with its projection to 128"),
        ({"objective": "infonce"}, "'info_nce', 'nt_xent', 'dcl'"),
        ({"layerwise": 1}, "valid boolean"),
    ],
)
def test_objectives_that_cannot_be_are_refused(values: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TrialConfig.model_validate(values)
    assert says in str(caught.value)


@pytest.mark.parametrize("changes", [{}, *LEARNING], ids=lambda c: "-".join(map(str, c.values())) or "plain")
def test_the_plan_weighs_what_an_objective_learns(changes: dict[str, object], tmp_path: Path) -> None:
    """Bytes of a checkpoint, to BatchNorm's buffers and the files' headers."""
    config = tiny(**changes)
    parameters = sum(p.numel() for p in build_network(config).parameters())
    states = 2 if config.optimizer == "adamw" else 1
    assert checkpoint_bytes(config) == pytest.approx(4 * parameters * (1 + states), abs=4 * 10 * (1 + states))


def test_a_temperature_that_changes_nothing_is_said() -> None:
    """A grid over objectives keeps one temperature; the plan says for which of them it is idle."""
    base = {"epochs": 5, "warmup_epochs": 1, "batch_size": 250, "temperature": 0.3}
    grid = {"method": ["a_ssl", "h_ssl"], "objective": ["info_nce", "vicreg"]}
    study = {"study": "s", "base": base, "grid": grid, "seeds": 3}
    (warning,) = forecast(Study.model_validate(study)).warnings
    assert warning.startswith("temperature: vicreg has none, so 0.3 makes other trials of the same kind (cell a_ssl")
    contrastive = study | {"grid": {**grid, "objective": list(CONTRASTIVE)}}
    assert forecast(Study.model_validate(contrastive)).warnings == []
    assert forecast(Study.model_validate(study | {"base": {**base, "temperature": 0.1}})).warnings == []


def test_new_fields_at_their_defaults_leave_identities() -> None:
    named = TrialConfig(epochs=20, objective="info_nce", similarity="cosine", layerwise=False)
    assert named.trial_id == TrialConfig(epochs=20).trial_id == "93165ac3f37e9e4b"
    old = TrialConfig(objective="nt_xent", method="a_ssl", group="scale", epochs=20)
    assert old.trial_id == "a2101a217d1a53a9"
    assert json.loads(named.model_dump_json())["layerwise"] is False
