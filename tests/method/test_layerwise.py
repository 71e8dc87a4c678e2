"""Greedy layerwise learning: every stage has its own loss, and learns from nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from hssl_ray.method.architecture import BackboneName
from hssl_ray.method.draws import Draw
from hssl_ray.method.geometry import GroupName
from hssl_ray.method.layerwise import isolated_maps
from hssl_ray.method.networks import build_network
from hssl_ray.trial.config import TrialConfig
from hssl_ray.trial.task import StageDraws, Task

Images = Callable[..., Tensor]
LABELS, INDICES = torch.arange(12) % 10, torch.arange(12)


def make_task(method: str = "h_ssl", group: str = "rotation", **changes: object) -> Task:
    settings = {"width": 0.0625, "layerwise": True, "method": method, "group": group}
    config = TrialConfig.model_validate(settings | changes)
    return Task(build_network(config), config).double().train()


def touched(task: Task, loss: Tensor) -> set[str]:
    """The parts of the network that a loss has a gradient in."""
    task.zero_grad()
    loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    with_gradient = [n for n, p in task.network.named_parameters() if p.grad is not None and p.grad.abs().max() > 0]
    return {".".join(name.split(".")[: 3 if name.startswith("backbone") else 2]) for name in with_gradient}


CASES = [
    ("h_ssl", "rotation", {}),
    ("a_ssl", "scale", {}),
    ("a_ssl", "translation", {"augmentation": "matched"}),
    ("f_ssl", "translation", {"objective": "simsiam", "base_size": 4}),
    ("h_ssl", "translation", {"backbone": "mlp", "structure": "none"}),
    ("h_ssl", "scale", {"structure": "none", "similarity": "log_bilinear"}),
    ("h_ssl", "rotation", {"backbone": "resnet18", "width": 0.03, "objective": "vicreg"}),
]


@pytest.mark.parametrize(("method", "group", "changes"), CASES)
def test_a_stage_learns_from_its_own_loss_alone(
    method: str, group: str, changes: dict[str, object], make_images: Images
) -> None:
    """Each stage's loss has a gradient in that stage and in its own head and criterion, and nowhere else."""
    task = make_task(method, group, **changes)
    draw = task.draw(0, INDICES)
    assert isinstance(draw, StageDraws)
    z, losses = task._stage_losses(make_images(12, task.config.grid), draw)
    assert z.shape[-1] == task.config.architecture.feature_size(task.config.grid)
    for stage, loss in enumerate(losses):
        found = touched(task, loss)
        assert {name for name in found if name.startswith("backbone")} == {f"backbone.stages.{stage}"}
        beside = {name.rsplit(".", 1)[0] if name.startswith("stage") else name.split(".")[0] for name in found}
        last = stage == len(losses) - 1
        own = {"projection_head", "criterion"} if last else {"stage_losses"}
        assert beside - {f"backbone.stages.{stage}", "backbone"} <= own
        if not last:
            assert f"stage_losses.{stage}" in found
            assert not any(name.startswith("stage_losses") and name != f"stage_losses.{stage}" for name in found)


def test_an_ordinary_loss_reaches_every_stage(make_images: Images) -> None:
    """Negative control of the test above."""
    task = make_task(layerwise=False)
    draw = task.draw(0, INDICES)
    assert draw is not None and not isinstance(draw, StageDraws)
    _, loss = task._pair_loss(make_images(12), draw)
    assert {f"backbone.stages.{stage}" for stage in range(3)} < touched(task, loss)


def test_the_last_stage_has_the_ordinary_loss_of_its_input(make_images: Images) -> None:
    """Value and gradient of the last stage are those of an ordinary network whose earlier stages are held still."""
    task, plain = make_task("h_ssl", "scale"), make_task("h_ssl", "scale", layerwise=False)
    x, draw = make_images(12), task.draw(0, INDICES)
    assert isinstance(draw, StageDraws)
    plain.network.backbone.stages[:2].requires_grad_(False)
    plain_draw = plain.draw(0, INDICES)
    assert plain_draw is not None
    losses, expected = task(x, LABELS, draw), plain(x, LABELS, plain_draw)
    torch.testing.assert_close(losses.stages[-1], expected.method)
    torch.testing.assert_close(losses.method, losses.stages.sum())
    assert expected.stages.shape == (0,) and losses.stages.shape == (3,)
    losses.total.backward()
    expected.total.backward()
    gradients = dict(task.network.named_parameters())
    compared = [n for n, p in plain.network.named_parameters() if p.grad is not None]
    assert len(compared) == 3 + 9 + 3
    for name in compared:
        torch.testing.assert_close(gradients[name].grad, dict(plain.network.named_parameters())[name].grad)


def test_isolation_changes_no_value(make_images: Images) -> None:
    task, x = make_task().eval(), make_images(4)
    pairs = zip(isolated_maps(task.network.backbone.stages, x), task.network.backbone.stage_maps(x), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("group", ["rotation", "scale"])
def test_every_stage_reads_at_the_same_elements(group: str) -> None:
    draw = make_task("h_ssl", group).draw(0, INDICES)
    assert isinstance(draw, StageDraws)
    for early in draw.early:
        assert all(torch.equal(getattr(early, name), getattr(draw, name)) for name in ("g0", "g1", "g2"))


def test_on_a_grid_every_stage_reads_at_its_own_cells() -> None:
    """The same uniforms, so about the same place of the image; and all cells of a stage's own grid can be drawn."""
    task = make_task("h_ssl", "translation")
    draw = task.draw(0, torch.arange(2000))
    assert isinstance(draw, StageDraws)
    sides = [group.geometry.side for group in task.network.groups]
    assert sides == [29, 15, 8]
    drawn = [early.g1 for early in draw.early] + [draw.g1]
    for side, g1 in zip(sides, drawn, strict=True):
        assert side**2 - 5 <= int(g1.max()) < side**2
        assert ((g1 // side) / side - (drawn[-1] // 8) / 8).abs().max() < 0.2


def test_both_views_of_a_ssl_are_one_transformation_to_all_stages(make_images: Images) -> None:
    """Drawing other cells for the first stage changes its loss and no other."""
    task = make_task("a_ssl", "translation")
    draw, x = task.draw(0, INDICES), make_images(12)
    assert isinstance(draw, StageDraws)
    assert all(torch.equal(early.g1, draw.g1) and torch.equal(early.g2, draw.g2) for early in draw.early)
    first, *others = draw.early
    moved = StageDraws(draw.g0, draw.g1, draw.g2, (Draw(first.g0.flip(0), first.g1, first.g2), *others))
    one, other = (task._stage_losses(x, which)[1].detach() for which in (draw, moved))
    assert one[0] != other[0] and torch.equal(one[1:], other[1:])


def test_a_ssl_is_h_ssl_at_every_stage(make_images: Images) -> None:
    """Exact equivariance and one draw for all stages: each stage's loss and gradient agree; on 28 cells they do not."""
    found = {}
    for size in (29, 28):
        tasks = [make_task(method, image_size=size, augmentation="matched") for method in ("a_ssl", "h_ssl")]
        draw, x = tasks[0].draw(0, INDICES), make_images(12, size)
        assert isinstance(draw, StageDraws)
        losses, gradients = [], []
        for task in tasks:
            step = task._stage_losses(x, draw)[1]
            step.sum().backward()  # type: ignore[no-untyped-call]
            losses.append(step.detach())
            weights = [p for n, p in task.network.named_parameters() if not n.startswith("probe")]
            gradients.append(torch.cat([p.grad.flatten() for p in weights if p.grad is not None]))
        found[size] = [((one - other).norm() / other.norm()).item() for one, other in (losses, gradients)]
    assert max(found[29]) < 1e-10
    assert min(found[28]) > 1e-4


def test_a_base_that_fits_the_last_stage_fits_every_stage() -> None:
    """Grids only shrink from stage to stage, so the plan's rule for z covers the others."""
    shapes: list[tuple[BackboneName, dict[str, object]]] = [
        (name, {"structure": "none"} if name == "mlp" else {}) for name in get_args(BackboneName)
    ]
    for (name, changes), group in itertools.product(shapes, get_args(GroupName)):
        if name == "mlp" and group != "translation":
            continue
        config = TrialConfig.model_validate({"backbone": name, "group": group, "width": 0.25, **changes})
        last = config.geometry.order
        for stage in config.architecture.stage_specs(config.grid):
            geometry = config.geometry_on(stage.feature_size)
            assert geometry.order >= last and geometry.diameter >= config.geometry.diameter
            assert all(geometry.base_side(size) for size in (1, 4 if group == "translation" else 2))


def test_stage_losses_are_sized_for_their_stage() -> None:
    """Heads in proportion to the paper's, which widen in the middle for ResNets; Eq. 4 fits every stage."""
    config = TrialConfig(backbone="resnet20", width=0.0625, layerwise=True, objective="negative_cosine")
    network = build_network(config)
    for stage, loss in zip(config.architecture.stage_specs(config.grid), network.stage_losses, strict=False):
        linears = [layer for layer in loss.modules() if isinstance(layer, nn.Linear)]
        sizes = [(layer.in_features, layer.out_features) for layer in linears]
        c = stage.channels
        assert sizes == [(c, c), (c, 4 * c), (4 * c, c)]
    assert len(network.stage_losses) == 3
