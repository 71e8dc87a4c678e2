"""Whatever a file holds, it is a study or a StudyError."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from hssl_ray.study.file.problems import StudyError
from hssl_ray.study.file.sections import FIELDS
from hssl_ray.study.spec import Study, load_study

WORDS = [*Study.model_fields, *FIELDS, "extends", "low", "high", "log", "step", "trials", "space", "sampler", "margin"]
PIECES = [
    ": ",
    "\n",
    "\n  ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    "&a ",
    "*a",
    "!!str ",
    "! ",
    "|\n ",
    ">\n ",
    "? ",
    "\t",
    '"',
    "'",
]
PIECES += [
    "# ",
    "---\n",
    "...\n",
    "%YAML 1.1\n",
    "1e-3",
    "-1",
    "2",
    "99",
    ".nan",
    ".inf",
    "~",
    "no",
    "true",
    "h_ssl",
    "scale",
]
PIECES += [
    "a_ssl",
    "rotation",
    "1e999",
    "0x",
    "\\U0011ffff",
    "\r\n",
    "\x85",
    "\u2028",
    "\ufeff",
    "<<",
    "tpe",
    "study: s\n",
]


def outcome(raw: bytes) -> Study | StudyError:
    """What a file of these bytes is; any other exception is the failure this file looks for."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.yaml"
        path.write_bytes(raw)
        try:
            return load_study(path)
        except StudyError as error:
            assert error.problems
            assert len(str(error).split("\n")) == len(error.problems)
            assert all(problem.line >= 1 and problem.column >= 1 for problem in error.problems)
            return error


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
@example(b"%TAG ! tag:\n---\n!x a: 1")
@example(b"study: s\n? ")
@example(b'"\\x"')
def test_any_bytes(raw: bytes) -> None:
    outcome(raw)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    with contextlib.suppress(UnicodeEncodeError):
        outcome(text.encode())


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([*WORDS, *PIECES, ": ", ": ", "\n", "\n  "]), max_size=40))
def test_any_words_of_the_language(pieces: list[str]) -> None:
    outcome("".join(pieces).encode())


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from([*WORDS, "a_ssl", "h_ssl", "scale", "rotation"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(WORDS), VALUES, max_size=6))
def test_any_data_of_the_right_shape(data: dict[str, object]) -> None:
    outcome(_flow({"study": "s", **data}).encode("utf-8", "replace"))


SPACES = st.fixed_dictionaries(
    {},
    optional={
        "base_size": st.lists(st.integers(0, 9), max_size=3),
        "max_distance": st.lists(st.none() | st.floats(-1, 12), max_size=3),
        "group": st.lists(st.sampled_from(["rotation", "scale", "translation"]), max_size=3),
        "epochs": st.fixed_dictionaries({"low": st.integers(-1, 30), "high": st.integers(-1, 30)}),
        "temperature": st.fixed_dictionaries({"low": st.floats(), "high": st.floats(), "log": st.booleans()}),
    },
)


@settings(max_examples=200, deadline=None)
@given(SPACES, SPACES, SPACES)
def test_any_search_over_any_grid(base: dict[str, object], grid: dict[str, object], space: dict[str, object]) -> None:
    first = {key: value[0] for key, value in base.items() if isinstance(value, list) and value}
    data = {"study": "s", "base": first, "grid": grid, "search": {"trials": 3, "space": space}}
    outcome(_flow(data).encode())


def _flow(value: object) -> str:
    """YAML flow style, by hand: nothing that a YAML writer would refuse."""
    match value:
        case dict():
            return "{" + ", ".join(f"{_flow(str(key))}: {_flow(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_flow, value)) + "]"
        case str():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case None:
            return "~"
        case bool():
            return str(value).lower()
        case float():
            return {"nan": ".nan", "inf": ".inf", "-inf": "-.inf"}.get(str(value), repr(value))
        case _:
            return str(value)
