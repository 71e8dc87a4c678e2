"""The one command for all benchmarks finds its scripts, and reads what they print."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def everything(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("all")


def script(folder: Path, name: str, body: str) -> None:
    (folder / f"{name}.py").write_text(body)


def test_a_scripts_lines_become_figures(
    everything: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other output is passed over; a missed bar is a figure like any other."""
    monkeypatch.setattr(everything, "HERE", tmp_path)
    line = '{"what": "a", "value": 1.0, "unit": "s", "bar": 2.0, "better": "higher", "detail": {}, "machine": {}}'
    script(tmp_path, "one", f"import sys; assert '--json' in sys.argv; print('a warning'); print('''{line}''')")
    (found,) = map(everything.figure, everything.lines_of(everything.Script("one"), quick=False))
    assert (found.what, found.value, found.holds) == ("a", 1.0, False)


def test_a_script_that_fails_is_an_error(
    everything: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(everything, "HERE", tmp_path)
    script(tmp_path, "two", "raise SystemExit(3)")
    with pytest.raises(everything.subprocess.CalledProcessError, match="exit status 3"):
        list(everything.lines_of(everything.Script("two"), quick=True))
