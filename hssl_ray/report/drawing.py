"""How figures look: colours that follow the page's theme, one marker and colour per method, SVG as text.

matplotlib is used through its objects, never through pyplot, so a figure leaves no state behind. Colours are drawn as
placeholders and written out as CSS variables with a fallback, so that one SVG fits light, dark and standing alone.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from xml.sax.saxutils import quoteattr

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 4.4  # inches: a phone's width at the text size of the page
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: small, searchable, in the page's font
    "text.parse_math": False,  # a dollar sign in a label is a dollar sign
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.solid_capstyle": "butt",
}


@dataclass(frozen=True)
class Colour:
    """`drawn` is the placeholder that matplotlib draws with; it becomes `var(--name, light)`."""

    name: str
    drawn: str
    light: str


# After Okabe and Ito: told apart with every common colour blindness. The page sets lighter ones on dark grounds.
INK = Colour("ink", "#010101", "#1c1f24")
MUTED = Colour("muted", "#020202", "#6b7280")
GRID = Colour("line", "#030303", "#d9dce1")
BAND = Colour("band", "#040404", "#dbe7dd")
METHODS = {
    "a_ssl": (Colour("a-ssl", "#050505", "#0072b2"), "o"),
    "h_ssl": (Colour("h-ssl", "#060606", "#c44e00"), "s"),
    "f_ssl": (Colour("f-ssl", "#070707", "#007a5a"), "^"),
    "frozen": (Colour("frozen", "#080808", "#6b7280"), "D"),
    "supervised": (Colour("supervised", "#090909", "#a0508a"), "v"),
}
COLOURS = (INK, MUTED, GRID, BAND, *(colour for colour, _ in METHODS.values()))


Paint = Callable[[Colour], str]
"""Which of a colour's texts is drawn: its placeholder, which `to_svg` replaces, or the light theme's own."""


def themed(colour: Colour) -> str:
    """For SVG, which follows the page's theme."""
    return colour.drawn


def printed(colour: Colour) -> str:
    """For pictures of pixels, on white."""
    return colour.light


@dataclass(frozen=True)
class Drawing:
    """A figure, drawn once when it is asked for: themed for the page, or in the light theme's colours as a file.

    `name` is that of its file, `label` what it says to readers who cannot see it, `caption` what stands below it.
    """

    name: str
    label: str
    drawn: Callable[[Paint], Figure]
    caption: str = ""

    @cached_property
    def svg(self) -> str:
        """As one `<svg>` element that follows the page's theme."""
        with mpl.rc_context(SETTINGS):
            return to_svg(self.drawn(themed), self.label)

    @cached_property
    def png(self) -> bytes:
        """As a PNG file, on white."""
        with mpl.rc_context(SETTINGS):
            return to_png(self.drawn(printed))

    def drawn_now(self) -> Drawing:
        """Itself, drawn by whoever has the time now."""
        assert self.svg and self.png
        return self


def file_name(*parts: str) -> str:
    """Words as the stem of a file's name on any system: letters, digits, `=`, `.` and hyphens."""
    return "-".join(re.sub(r"[^A-Za-z0-9=.]+", "-", part).strip("-.") for part in parts)[:100].lower()


def canvas(height: float, paint: Paint = themed) -> tuple[Figure, Axes]:
    """One set of axes, `height` inches high."""
    figure, (axes,) = canvases(height, 1, paint)
    return figure, axes


def canvases(height: float, count: int, paint: Paint = themed) -> tuple[Figure, list[Axes]]:
    """Sets of axes side by side, `height` inches high."""
    figure = Figure(figsize=(count * WIDTH, height), layout="constrained")
    figure.patch.set_alpha(0)
    several = [figure.add_subplot(1, count, number + 1) for number in range(count)]
    for axes in several:
        axes.patch.set_alpha(0)
        axes.set_axisbelow(True)
        for spine in axes.spines.values():
            spine.set_color(paint(GRID))
        axes.tick_params(colors=paint(MUTED), labelcolor=paint(INK), length=3)
    return figure, several


def to_svg(figure: Figure, label: str) -> str:
    """The figure as one `<svg>` element that says `label` to readers who cannot see it; the same figure, same text."""
    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": label}):  # ids differ between the figures of a page, not between two runs
        figure.savefig(text, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    svg = re.sub(r'<g id="[^"]*">', "<g>", text.getvalue().partition("<svg ")[2])
    for colour in COLOURS:
        svg = svg.replace(colour.drawn, f"var(--{colour.name}, {colour.light})")
    return f'<svg role="img" aria-label={quoteattr(label)} {svg}'


def to_png(figure: Figure, dpi: int = 200) -> bytes:
    """The figure on white, `dpi` pixels an inch; drawn with `printed` colours. The same figure, same bytes."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return picture.getvalue()
