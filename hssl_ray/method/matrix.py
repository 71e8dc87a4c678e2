"""Convolutions as matrix products over blocks of images that stay in a core's cache."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK_BYTES = 2_000_000
"""Of a block's matrix, about."""
BLOCK_ROWS = 1024
"""Of a block's matrix, about, where its bytes would be fewer rows: gradients of weights are summed up once a block."""

_ONEDNN = hasattr(torch.ops.mkldnn, "_linear_pointwise")  # in torch builds that have oneDNN


def image_blocks(images: int, places: int, bytes_of_place: int) -> Iterator[slice]:
    """Slices of the images, with `places` rows of the matrix for each image; even, since threads cannot share the
    few images of a last, small one.
    """
    size = max(1, BLOCK_BYTES // (places * bytes_of_place), -(-BLOCK_ROWS // places))
    blocks = min(images, max(1, round(images / size)))
    return (slice(images * block // blocks, images * (block + 1) // blocks) for block in range(blocks))


def product(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """a b, written to `out` if given.

    oneDNN multiplies float32 matrices with all of a processor's vector width where torch's own library may not; torch
    itself reaches it for narrower types alone.
    """
    if a.dtype is torch.float32 and a.device.type == "cpu" and _ONEDNN:
        found: Tensor = torch.ops.mkldnn._linear_pointwise(a, b.T, None, "none", [], "")
        return found if out is None else out.copy_(found)
    return torch.mm(a, b) if out is None else torch.mm(a, b, out=out)


def autocast_type(x: Tensor) -> torch.dtype:
    """What autocast has x computed in."""
    on = torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64
    return torch.get_autocast_dtype(x.device.type) if on else x.dtype
