"""How well sampled basis functions stand for the continuous ones, in numbers.

F basis functions, S scales, k kernel size; `functions` is (F, k, k), one scale's part of a basis (F, S, k, k).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def support(functions: Tensor) -> int:
    """Cells a side of the centred square outside which all functions (F, k, k) are zero."""
    size = functions.shape[-1]
    used = functions.abs().amax(0).nonzero()
    return size - 2 * int(torch.minimum(used.min(), size - 1 - used.max()))


def rank_tolerance(functions: Tensor) -> float:
    """Singular values up to this share of the largest count as zero: max(F, k*k) times float64's epsilon."""
    return max(len(functions), functions[0].numel()) * torch.finfo(torch.float64).eps


def rank_and_condition(functions: Tensor) -> tuple[int, float]:
    """Dimension of what the functions (F, k, k) span, and largest over smallest singular value within it.

    Functions beyond the rank are sums of others: their weights add nothing that those could not do.
    """
    singular = torch.linalg.svdvals(functions.flatten(1).double())
    kept = singular[singular > rank_tolerance(functions) * singular[0]]
    return len(kept), (kept[0] / kept[-1]).item()


def kept_energy(order: int, reach: float) -> float:
    """Share of the energy of He_n(t) exp(-t**2 / 2), n = order, that lies within |t| <= reach.

    He_n**2 is a polynomial in t**2, and the integral of t**(2j) exp(-t**2) over |t| <= r is gamma(j + 1/2, r**2), so
    the share is exact to rounding. A function of two orders keeps the product of both shares.
    """
    square = _squared_hermite(order)
    powers = torch.arange(len(square), dtype=torch.float64) + 0.5
    whole = torch.tensor(square, dtype=torch.float64) * torch.exp(torch.lgamma(powers))
    inside = torch.special.gammainc(powers, torch.full_like(powers, reach**2))
    return float((whole * inside).sum() / whole.sum())


def aliased_energy(order: int, scale: float) -> float:
    """Share of the energy of order n's function at a scale, in cells, that lies beyond the grid's highest frequency.

    Its spectrum is w**n exp(-w**2 / 2) at w = scale * frequency, largest at sqrt(n); a grid tells frequencies up to pi
    apart. Sampled, the rest stands for lower frequencies, and for others at another scale.
    """
    power = torch.tensor(order + 0.5, dtype=torch.float64)
    return float(torch.special.gammaincc(power, torch.tensor((math.pi * scale) ** 2, dtype=torch.float64)))


def shift_residual(here: Tensor, there: Tensor, ratio: float, smoothness: float) -> float:
    """Relative error of Eq. 1 of a lifting layer between two scales, in closed form.

        |psi_i * T x - T (psi_j * x)| / |psi_j * x|,   T x(p) = x(p / ratio),   ratio = s_i / s_j <= 1

    The mean square over images x and over random weights, each function weighing as its norm does. x is a random field
    whose pixels at distance d correlate by exp(-d**2 / 2 smoothness**2), known between the pixels too, so no resampling
    enters: what is left is the error of the basis. A filter's response is a weighted sum of the field at the filter's
    cells, so all its moments are sums of that correlation over pairs of cells.

    Args:
        here: functions psi_i (F, k, k) at the smaller scale, which read the shrunk image.
        there: functions psi_j (F, k, k) at the larger scale, which read the image.
        ratio: the shrinking factor.
        smoothness: correlation length of the image, in its pixels.
    """
    cells = _cells(here)
    at_here, at_there = cells / ratio, cells  # a cell of the shrunk image is 1 / ratio pixels of the image wide

    def product(a: Tensor, b: Tensor, at_a: Tensor, at_b: Tensor) -> float:
        correlation = torch.exp(-(at_a[:, None] - at_b).square() / (2 * smoothness**2))  # separable: rows, then columns
        return ((correlation @ b @ correlation.T) * a).sum().item()

    return _relative(
        product(here, here, at_here, at_here),
        product(here, there, at_here, at_there),
        product(there, there, at_there, at_there),
    )


def turn_residual(still: Tensor, turned: Tensor, angle: float, smoothness: float) -> float:
    """As `shift_residual`, between functions (F, k, k) and their copies for the image turned by `angle`.

    Args:
        angle: counter-clockwise, in radians.
    """
    rows, columns = (at.flatten() for at in torch.meshgrid(_cells(still), _cells(still), indexing="ij"))
    at_still = torch.stack([rows, columns], dim=1)
    cos, sin = math.cos(angle), math.sin(angle)
    at_turned = torch.stack([cos * rows + sin * columns, cos * columns - sin * rows], dim=1)  # in the unturned image

    def product(a: Tensor, b: Tensor, at_a: Tensor, at_b: Tensor) -> float:
        correlation = torch.exp(-(at_a[:, None] - at_b).square().sum(2) / (2 * smoothness**2))
        return ((a.flatten(1) @ correlation) * b.flatten(1)).sum().item()

    return _relative(
        product(turned, turned, at_turned, at_turned),
        product(turned, still, at_turned, at_still),
        product(still, still, at_still, at_still),
    )


def _cells(functions: Tensor) -> Tensor:
    """Coordinates of a kernel's cells along one side, about its centre."""
    size = functions.shape[-1]
    return torch.arange(size, dtype=torch.float64) - size // 2


def _relative(mine: float, both: float, theirs: float) -> float:
    """The root mean square of a difference from the mean products of its two parts, relative to the second."""
    return math.sqrt(max(0.0, mine - 2 * both + theirs) / theirs)


def _squared_hermite(order: int) -> list[int]:
    """Coefficients of He_n(t)**2 in powers of t**2, exact integers."""
    before, here = [0], [1]
    for n in range(order):
        raised = [0, *here]
        before, here = (
            here,
            [a - n * b for a, b in zip(raised, before + [0] * (len(raised) - len(before)), strict=True)],
        )
    square = [0] * (2 * order + 1)
    for i, a in enumerate(here):
        for j, b in enumerate(here):
            square[i + j] += a * b
    return square[::2]
