"""The lifted axis folded into the batch: how a feature map lies in memory, in one place.

N images, C channels, G lifted elements, H x W cells. A feature map is (N, C, G, H, W) to everyone; in memory it is
G-major and channels-last, so that each element's maps are one dense channels-last batch and folding is a view.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def fold(z: Tensor) -> Tensor:
    """(N, C, G, H, W) -> (G*N, C, H, W); a view if z lies as `unfold` made it, else a copy."""
    return z.permute(2, 0, 1, 3, 4).flatten(0, 1)


def unfold(folded: Tensor, lifted_order: int) -> Tensor:
    """(G*N, C, H, W) -> (N, C, G, H, W), a view."""
    return folded.view(lifted_order, -1, *folded.shape[1:]).permute(1, 2, 0, 3, 4)


def spatial_mean(z: Tensor) -> Tensor:
    """The mean over H x W of every fiber, (N, C, G, H, W) -> (N, G, C), in at least float32."""
    cells = fold(z).permute(0, 2, 3, 1)  # channels last, so that the gradient is spread in the layout of z
    means: Tensor = _CellMean.apply(cells)  # type: ignore[no-untyped-call]
    return means.view(z.shape[2], -1, z.shape[1]).transpose(0, 1)


class _CellMean(torch.autograd.Function):
    """(M, H, W, C) -> (M, C). torch's own spreads the gradient in float32 and then makes it narrow: three passes over a
    feature map where one does.
    """

    @staticmethod
    def forward(ctx: Any, cells: Tensor) -> Tensor:
        ctx.shape, ctx.kind = cells.shape, cells.dtype
        means: Tensor = cells.mean((1, 2), dtype=torch.promote_types(cells.dtype, torch.float32))
        return means

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        _, height, width, _ = ctx.shape
        share = (grad / (height * width)).to(ctx.kind)
        spread: Tensor = share[:, None, None].expand(ctx.shape).contiguous()
        return spread


def rows_of(x: Tensor) -> Tensor:
    """(N, C, ...) -> (N, P, C), P places of an image: a view of a channels-last map."""
    return x.movedim(1, -1).flatten(1, -2) if x.dim() > 2 else x[:, None]
