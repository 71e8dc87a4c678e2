"""What the paper's tables and its figure say alike: footnotes and readings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hssl_ray.report.paper.selection import as_yaml


def numbered(departures: Iterable[Sequence[str]]) -> dict[str, str]:
    """Footnotes 1, 2, ... of rows: the settings that depart from the paper's, equal ones once, none where none do."""
    texts = dict.fromkeys(footnote(own) for own in departures if own)
    return {str(number): text for number, text in enumerate(texts, 1)}


def mark_of(departures: Sequence[str], footnotes: Mapping[str, str]) -> str:
    """The number of a row's footnote; empty where it has none."""
    return next((mark for mark, text in footnotes.items() if departures and text == footnote(departures)), "")


def footnote(departures: Sequence[str]) -> str:
    """In what a row is not as in the paper."""
    return f"not as in the paper: {', '.join(departures)}"


def reading_note(readings: Mapping[str, Any]) -> list[str]:
    """The readings of the paper that all trials share; nothing where there are no trials."""
    said = ", ".join(f"{name}={as_yaml(value)}" for name, value in readings.items())
    return [f"readings, the same in all of it: {said}"] if said else []
