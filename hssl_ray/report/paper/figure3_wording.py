"""Figure 3 in words: its series as tables, and what they say."""

from __future__ import annotations

from hssl_ray.report import wording
from hssl_ray.report.paper.figure3 import Curve, Figure3, Panel, Point
from hssl_ray.report.paper.notes import mark_of, numbered, reading_note
from hssl_ray.report.paper.selection import as_yaml
from hssl_ray.report.text_table import NOTHING, TextTable
from hssl_ray.report.wording import Scale

NO_NUMBERS = (
    "the paper prints no numbers for Figure 3, so there is no distance to it; its caption says that accuracy "
    "marginally increases with the base size, and is constant or decreases with the largest distance"
)


def axis_name(panel: Panel) -> str:
    """What a half is drawn over."""
    return "base size |g0|" if panel.axis == "base_size" else "largest distance of g1 and g2"


def value_name(figure: Figure3, panel: Panel) -> str:
    """What a half shows."""
    metric = figure.question.metric
    if panel.axis == "base_size":
        return f"{metric}, change from base size 1 in %"
    return metric + (", %" if Scale(metric).percent else "")


def headline(figure: Figure3) -> str:
    """What each curve does between its ends."""
    said = [_ends(figure, panel, curve) for panel in figure.panels for curve in panel.curves]
    return f"H-SSL: {'; '.join(said)}." if said else "The store has no curve of Figure 3 yet."


def tables(figure: Figure3) -> list[TextTable]:
    """The series of both halves, and the trials without a result, if any."""
    shown = [_series(figure, panel) for panel in figure.panels if panel.curves]
    gaps = [gap for curve in figure.curves for gap in curve.gaps]
    return shown + ([wording.gap_table(gaps)] if gaps else [])


def footnotes(figure: Figure3) -> dict[str, str]:
    """The numbered notes of curves: in which settings a curve departs from the paper's."""
    return numbered(curve.departures for curve in figure.curves)


def notes(figure: Figure3) -> list[str]:
    """Everything a reader must know beside the series, without the footnotes."""
    said = [
        f"no curve over {axis_name(panel)}: it takes h_ssl trials at two values of {panel.axis}"
        + (", one of them 1" if panel.axis == "base_size" else "")
        for panel in figure.panels
        if not panel.curves
    ]
    said += [f"left out: {figure.left_out} h_ssl trials of no curve"] if figure.left_out else []
    said += reading_note(figure.readings)
    if figure.left.curves:
        said.append(
            "changes and their intervals are in percent of the mean at base size 1, paired by seed where planned so"
        )
    if figure.right.curves:
        said.append("max_distance null is no bound; it is drawn at the group's diameter")
    return [*said, NO_NUMBERS]


def caption(figure: Figure3, panel: Panel) -> str:
    """What stands under the picture of a half."""
    return f"{value_name(figure, panel)}, by {axis_name(panel)}: means, with {_level(figure)} intervals as lines."


def _ends(figure: Figure3, panel: Panel, curve: Curve) -> str:
    first, last = curve.points[0], curve.points[-1]
    if panel.axis == "base_size":
        return f"{_percent(last)} % from base size 1 to {last.setting} on {curve.key.label}"
    scale = Scale(figure.question.metric)
    bounds = [as_yaml(point.setting) for point in (first, last)]
    means = [scale.value(point.value) for point in (first, last)]
    return f"{means[0]} to {means[1]}{scale.unit} from max_distance {bounds[0]} to {bounds[1]} on {curve.key.label}"


def _series(figure: Figure3, panel: Panel) -> TextTable:
    scale, level = Scale(figure.question.metric), f"{_level(figure)} interval"
    listed = footnotes(figure)
    left = panel.axis == "base_size"
    change = ["change in % of base size 1"] if left else []
    header = ("data set", "group", "backbone", panel.axis, f"mean ± std{scale.unit} (n)", level, *change, "note")
    rows = []
    for curve in panel.curves:
        for point in curve.points:
            assert point.cell.summary
            rows.append(
                (
                    *curve.key[:3],
                    as_yaml(point.setting),
                    f"{scale.summary(point.cell.summary)} ({point.cell.summary.n})",
                    scale.interval(point.cell.interval),
                    *([_percent(point)] if left else []),
                    mark_of(curve.departures, listed),
                )
            )
    side = "left" if left else "right"
    return TextTable(f"Figure 3, {side}: {figure.question.metric} of H-SSL by {axis_name(panel)}", header, tuple(rows))


def _level(figure: Figure3) -> str:
    return f"{100 * figure.question.confidence:g} %"


def _percent(point: Point) -> str:
    scale = Scale("probe/")  # a change is in percent whatever the metric's unit
    if point.interval is None:
        return scale.change(point.value) if point.value else NOTHING
    return f"{scale.change(point.value)} {scale.change_interval(point.interval)}"
