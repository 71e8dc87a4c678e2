"""The table of `make chaos` is of all its runs."""

from pathlib import Path

from tests.faults.table import Table, lines, measured


def test_figures_of_two_runs_are_one_figure(tmp_path: Path) -> None:
    """As after a run that broke off, or of two processes; rows stand in the order of their numbers."""
    file = tmp_path / "figures.jsonl"
    assert lines(measured(file)) == []
    for broken, seconds in ((0, 2.0), (1, 4.0), (0, 9.0)):
        table = Table(file)
        table.time("F12", "waited", seconds, "<= 5 s")
        table.bad("F3", "trials lost", broken, 10)
    _, _, first, second = lines(measured(file))
    assert first.startswith("| F3 ") and "trials lost: 1 of 30 | 0 |" in first
    assert second.startswith("| F12 ") and "waited: 4 s, at most 9 (n = 3) | <= 5 s |" in second
