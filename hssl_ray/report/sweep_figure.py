"""A sweep as a picture, in the manner of the paper's Figure 3: every method along the axis, means with intervals."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hssl_ray.report.comparison import Question
from hssl_ray.report.drawing import GRID, INK, METHODS, Drawing, Paint, canvas, file_name
from hssl_ray.report.sweeps import Series, Sweep
from hssl_ray.report.wording import Scale, method_name


def sweep_figure(sweep: Sweep, question: Question) -> Drawing:
    """Means of every place with their intervals; a method that the axis does not concern is a dashed line."""
    scale = Scale(question.metric)
    factor = 100 if scale.percent else 1

    def drawn(paint: Paint) -> Figure:
        figure, axes = canvas(2.9, paint)
        if sweep.doubling:
            axes.set_xscale("log", base=2)
        settings = {place.x: place.setting for series in sweep.series for place in series.places}
        axes.set_xticks(list(settings), [_tick(x, setting) for x, setting in settings.items()])
        axes.minorticks_off()
        for number, series in enumerate(sweep.series):
            _draw(axes, series, number - (len(sweep.series) - 1) / 2, sweep.doubling, factor, paint)
        axes.grid(axis="y", color=paint(GRID), linewidth=0.6)
        axes.set_xlabel(sweep.axis, color=paint(INK))
        axes.set_title(question.metric + (", %" if scale.percent else ""), color=paint(INK))
        figure.legend(loc="outside lower center", ncols=4, frameon=False, labelcolor=paint(INK), handlelength=1.6)
        return figure

    label = f"{sweep.label}: " if sweep.label else ""
    return Drawing(
        file_name("sweep", sweep.axis, sweep.label) if sweep.label else file_name("sweep", sweep.axis),
        f"{label}{question.metric} by {sweep.axis}",
        drawn,
        f"{label}mean over seeds with its {100 * question.confidence:g} % interval by {sweep.axis}. "
        "Dashed: the axis does not concern the method.",
    )


def _draw(axes: Axes, series: Series, aside: float, doubling: bool, factor: float, paint: Paint) -> None:
    colour, marker = METHODS[series.method]
    first = series.places[0]
    assert first.cell.summary is not None
    if series.level:
        mean = factor * first.cell.summary.mean
        axes.axhline(mean, color=paint(colour), linewidth=1.2, linestyle=(0, (4, 3)), label=method_name(series.method))
        return
    reach = max(place.x for place in series.places)
    xs = [place.x * 1.02**aside if doubling else place.x + 0.008 * reach * aside for place in series.places]
    means = [factor * place.cell.summary.mean for place in series.places if place.cell.summary]
    name = method_name(series.method)
    axes.plot(xs, means, color=paint(colour), marker=marker, markersize=4.5, linewidth=1.5, label=name)
    for x, place in zip(xs, series.places, strict=True):
        if place.cell.interval:
            ends = [factor * place.cell.interval.low, factor * place.cell.interval.high]
            axes.plot([x, x], ends, color=paint(colour), linewidth=1.1, alpha=0.75)


def _tick(x: float, setting: int | float | None) -> str:
    return f"{x:g}" if setting is not None else "none"
