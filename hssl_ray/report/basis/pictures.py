"""Basis functions as pictures: all of them at every scale, and what the supports cut off."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from torch import Tensor

from hssl_ray.method.basis_report import BasisReport
from hssl_ray.method.basis_sweep import Candidate
from hssl_ray.method.steerable import hermite_polynomial
from hssl_ray.report.basis.tables import basis_name
from hssl_ray.report.drawing import BAND, GRID, INK, METHODS, MUTED, Drawing, Paint, canvas, file_name, themed

_SHOWN = 7  # orders a side: more are too small to see
_PANEL = 1.3  # inches
_LINES = tuple(METHODS.values())  # colours and markers told apart with every common colour blindness


def mosaic_figure(reports: Sequence[BasisReport], paint: Paint = themed) -> Figure:
    """A row for each basis, a panel for each scale and turn: functions (n, m) as tiles, n across and m down.

    Red is positive. Each tile has its own contrast, so that shapes can be compared.
    """
    columns = max(len(report.scales) * report.spec.rotations for report in reports)
    figure = Figure(figsize=(0.3 + _PANEL * columns, 0.15 + (_PANEL + 0.42) * len(reports)), layout="constrained")
    figure.patch.set_alpha(0)
    parts = figure.subfigures(len(reports), 1, squeeze=False)[:, 0]
    for part, report in zip(parts, reports, strict=True):
        part.patch.set_alpha(0)
        part.suptitle(basis_name(report.spec), color=paint(INK), fontsize=9, x=0.01, ha="left")
        for axes, (title, functions) in zip(part.subplots(1, columns, squeeze=False)[0], _panels(report), strict=False):
            axes.imshow(_mosaic(functions).numpy(), cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
            axes.set_title(title, color=paint(INK), fontsize=8)
        for axes in part.axes:
            axes.set_axis_off()
    return figure


def mosaic_drawing(report: BasisReport, uses: str) -> Drawing:
    """One basis for a study's page, with what uses it in words."""
    name = basis_name(report.spec)
    return Drawing(
        file_name("basis", name),
        f"Basis functions of {name} at every scale",
        lambda paint: mosaic_figure([report], paint),
        f"{uses}. Functions (n, m), n across and m down, each with its own contrast; red is positive.",
    )


def _panels(report: BasisReport) -> Iterator[tuple[str, Tensor]]:
    """A title and the functions (F, k, k) of each turn and scale."""
    for angle, copy in report.spec.copies():
        turned = f", {math.degrees(angle):g}°" if report.spec.rotations > 1 else ""
        for row, functions in zip(report.scales, copy.unbind(1), strict=True):
            yield f"σ {row.scale:g}: {row.support} cells{turned}", functions


def _mosaic(functions: Tensor) -> Tensor:
    """Functions (F, k, k) of kind A's order (n, m), or the first of another's, as one picture with gaps between."""
    side = round(len(functions) ** 0.5)
    shown = min(side, _SHOWN)
    tiles = functions.view(side, side, *functions.shape[1:])[:shown, :shown]
    tiles = tiles / tiles.abs().amax((2, 3), keepdim=True).clamp_min(1e-30)
    gap = torch.nn.functional.pad(tiles, (0, 1, 0, 1), value=torch.nan)  # (n, m, y, x)
    return gap.permute(1, 2, 0, 3).flatten(2).flatten(0, 1)[:-1, :-1]


def profile_figure(report: BasisReport, order: int) -> Figure:
    """Order `order` along one side at every scale: the continuous function, the cells that sample it (dots), and the
    support (shaded). What lies outside is cut off.
    """
    columns = len(report.scales)
    figure = Figure(figsize=(0.3 + _PANEL * columns, 1.35), layout="constrained")
    figure.patch.set_alpha(0)
    edge = report.spec.kernel_size / 2 + 1
    fine = torch.linspace(-edge, edge, 241, dtype=torch.float64)
    for axes, row in zip(figure.subplots(1, columns, sharey=True, squeeze=False)[0], report.scales, strict=True):
        axes.patch.set_alpha(0)
        cells = torch.arange(row.support, dtype=torch.float64) - row.support // 2
        axes.axvspan(-row.support / 2, row.support / 2, color=BAND.drawn, linewidth=0)
        axes.axhline(0, color=GRID.drawn, linewidth=0.6)
        axes.plot(fine.numpy(), _profile(fine / row.scale, order), color=MUTED.drawn, linewidth=1)
        axes.plot(cells.numpy(), _profile(cells / row.scale, order), "o", color=_LINES[0][0].drawn, markersize=2.5)
        axes.set_title(f"σ {row.scale:g}: {row.kept_energy[order]:.3f}", color=INK.drawn, fontsize=8)
        axes.set_axis_off()
    return figure


def _profile(t: Tensor, order: int) -> npt.NDArray[np.float64]:
    values: npt.NDArray[np.float64] = (torch.exp(-(t**2) / 2) * hermite_polynomial(t, order)).numpy()
    return values


def sweep_figure(candidates: Sequence[Candidate]) -> Figure:
    """Residual against cost on logarithmic axes, a colour for each effective size, rings around the unbeaten."""
    figure, axes = canvas(3.0)
    sizes = sorted({c.effective_size for c in candidates})
    for index, size in enumerate(sizes):
        colour, marker = _LINES[index % len(_LINES)]
        own = sorted((c for c in candidates if c.effective_size == size), key=lambda c: c.macs)
        across, up = [c.macs for c in own], [max(c.mean_residual, 1e-6) for c in own]
        axes.plot(across, up, color=colour.drawn, marker=marker, markersize=3.5, linewidth=0.8, label=f"e{size}")
    best = [c for c in candidates if c.on_front]
    axes.plot(
        [c.macs for c in best],
        [max(c.mean_residual, 1e-6) for c in best],
        "o",
        color=INK.drawn,
        markerfacecolor="none",
        markersize=7,
        linewidth=0,
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.grid(color=GRID.drawn, linewidth=0.6)
    axes.set_xlabel("MAC a cell and pair of channels, all scales", color=INK.drawn)
    axes.set_title("mean residual to the first scale", color=INK.drawn)
    figure.legend(loc="outside lower center", ncols=6, frameon=False, labelcolor=INK.drawn, handlelength=1.6)
    return figure
