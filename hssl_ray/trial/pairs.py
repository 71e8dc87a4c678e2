"""A-SSL and H-SSL on the same images and the same draw: how far the two losses are apart, and how the pairs lie.

N images, C channels, B = base_size fibers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hssl_ray.method.draws import DRAW_COLUMNS, Stream, pair_draw, uniforms
from hssl_ray.method.gather import alone
from hssl_ray.method.views import Views, a_ssl_views, h_ssl_views
from hssl_ray.trial.collapse import alignment, uniformity
from hssl_ray.trial.data import Images
from hssl_ray.trial.ranks import Ranks
from hssl_ray.trial.task import Task

PAIR_IMAGES = 128


@torch.no_grad()
def pair_metrics(task: Task, images: Images, ranks: Ranks) -> dict[str, float]:
    """Losses of A-SSL (Eq. 5) and H-SSL (Eq. 7) on one batch and one draw of matched transformations, the same in every
    epoch, and alignment and uniformity of the method's own projected views of it.

    The gap is 0 for an exactly equivariant network. In float32, the network in evaluation mode; ranks share the forward
    passes. Only for methods with pairs: the others never train the projection head.
    """
    network, config = task.network, task.config
    network.eval()
    indices = images.spread(min(config.batch_size, PAIR_IMAGES))
    mine = indices.tensor_split(ranks.world_size)[ranks.rank]
    u = uniforms(config.seed, 0, Stream.DIAGNOSTICS, mine, DRAW_COLUMNS)
    draw = pair_draw(network.group, u, config.base_size, config.max_distance, config.min_distance)
    x = images.take(mine).images
    with torch.autocast(x.device.type, enabled=False):
        a_ssl = _gathered(a_ssl_views(network.backbone, x, network.group, draw, config.base_size), ranks)
        h_ssl = _gathered(h_ssl_views(network.backbone, x, network.group, draw, config.base_size), ranks)
        with alone():  # every rank has the whole batch now
            of_a, of_h = _loss(task, a_ssl), _loss(task, h_ssl)
            h1, h2 = (network.projection_head(v) for v in (a_ssl if config.method == "a_ssl" else h_ssl))
    return {
        "eval/loss_a_ssl": of_a,
        "eval/loss_h_ssl": of_h,
        "eval/loss_gap": abs(of_a - of_h),
        "eval/alignment": alignment(h1, h2),
        "eval/uniformity": (uniformity(h1) + uniformity(h2)) / 2,
    }


def _gathered(views: Views, ranks: Ranks) -> Views:
    return ranks.gather(views[0]), ranks.gather(views[1])


def _loss(task: Task, views: Views) -> float:
    """What training minimises of the last stage, of two views (N, C*B)."""
    loss: Tensor = task.network.criterion(task.network.projection_head, *views)
    return loss.item()
