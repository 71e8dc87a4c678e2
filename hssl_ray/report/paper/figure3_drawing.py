"""Figure 3 as a picture: one half for a page, both side by side for a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hssl_ray.report.drawing import (
    GRID,
    INK,
    METHODS,
    MUTED,
    SETTINGS,
    Colour,
    Paint,
    canvases,
    printed,
    themed,
    to_png,
    to_svg,
)
from hssl_ray.report.paper.figure3 import Curve, Figure3, Panel
from hssl_ray.report.paper.figure3_wording import axis_name, value_name

STYLES = tuple(METHODS.values())  # one for each row, in turn
HEIGHT = 3.2


def panel_svg(figure: Figure3, panel: Panel) -> str:
    """One half as one `<svg>` element."""
    with mpl.rc_context(SETTINGS):
        return to_svg(_drawn(figure, [panel], themed), f"{value_name(figure, panel)} by {axis_name(panel)}")


def figure_svg(figure: Figure3) -> str:
    """Both halves as one SVG that stands alone."""
    with mpl.rc_context(SETTINGS):
        return to_svg(_drawn(figure, figure.panels, themed), "Figure 3: H-SSL by base size and by largest distance")


def figure_png(figure: Figure3) -> bytes:
    """Both halves as a PNG file."""
    with mpl.rc_context(SETTINGS):
        return to_png(_drawn(figure, figure.panels, printed))


def _drawn(figure: Figure3, panels: Sequence[Panel], paint: Paint) -> Figure:
    canvas, several = canvases(HEIGHT, len(panels), paint)
    for axes, panel in zip(several, panels, strict=True):
        _draw(axes, figure, panel, paint)
    return canvas


def _draw(axes: Axes, figure: Figure3, panel: Panel, paint: Paint) -> None:
    """Means with their intervals; %-changes about a line at zero, base sizes evenly by their logarithm."""
    if panel.axis == "base_size":
        axes.axhline(0, color=paint(MUTED), linewidth=0.8)
        axes.set_xscale("log", base=2)
        sizes = sorted({point.x for curve in panel.curves for point in curve.points})
        axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
        axes.minorticks_off()
    keys = sorted({curve.key for curve in figure.curves})  # a curve looks the same in both halves
    styles = {key: STYLES[number % len(STYLES)] for number, key in enumerate(keys)}
    factor = 100 if _in_percent(figure, panel) else 1
    for number, curve in enumerate(panel.curves):
        _draw_curve(axes, curve, styles[curve.key], _aside(panel, number), factor, paint)
    axes.grid(axis="y", color=paint(GRID), linewidth=0.6)
    axes.set_xlabel(axis_name(panel), color=paint(INK))
    axes.set_title(value_name(figure, panel), color=paint(INK))
    if panel.curves:
        below = (0.5, -0.2)
        axes.legend(
            loc="upper center",
            bbox_to_anchor=below,
            ncols=2,
            frameon=False,
            labelcolor=paint(INK),
            handlelength=1.6,
        )
    else:
        axes.text(0.5, 0.5, "no curve in the store", color=paint(MUTED), ha="center", transform=axes.transAxes)


def _aside(panel: Panel, number: int) -> Callable[[float], float]:
    """Where a curve's points are drawn: a little beside their place, so that intervals do not hide one another."""
    shift = number - (len(panel.curves) - 1) / 2
    if panel.axis == "base_size":
        return lambda x: x * 1.03**shift
    reach = max(point.x for curve in panel.curves for point in curve.points)
    return lambda x: x + 0.008 * reach * shift


def _draw_curve(
    axes: Axes, curve: Curve, style: tuple[Colour, str], aside: Callable[[float], float], factor: float, paint: Paint
) -> None:
    colour, marker = style
    xs = [aside(point.x) for point in curve.points]
    means = [factor * point.value for point in curve.points]
    axes.plot(xs, means, color=paint(colour), marker=marker, markersize=4.5, linewidth=1.5, label=curve.key.label)
    for x, point in zip(xs, curve.points, strict=True):
        if point.interval:
            ends = [factor * point.interval.low, factor * point.interval.high]
            axes.plot([x, x], ends, color=paint(colour), linewidth=1.1, alpha=0.75)


def _in_percent(figure: Figure3, panel: Panel) -> bool:
    return panel.axis == "base_size" or value_name(figure, panel).endswith("%")
