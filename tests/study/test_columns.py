"""Columns from lists are pyarrow's own, and need no pandas."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pyarrow as pa
import pytest

from hssl_ray.study.columns import column, table

CASES: dict[str, tuple[list[Any], pa.DataType]] = {
    "numbers": ([0.5, -0.0, float("inf"), 1e-310], pa.float64()),
    "numbers and nulls": ([None, 0.5, None] * 11, pa.float64()),
    "whole numbers as numbers": ([1, 2.5], pa.float64()),
    "whole numbers": ([-1, 2**62, 0], pa.int64()),
    "whole numbers and nulls": ([None, 2**62], pa.int64()),
    "text": (["", "Δ–ü", "a b"], pa.string()),
    "text and nulls": ([None, "a", None, "bc", ""], pa.string()),
    "truths": ([True, False, None] * 7, pa.bool_()),
    "nothing but nulls": ([None, None], pa.string()),
    "nothing": ([], pa.int64()),
}


@pytest.mark.parametrize("case", CASES)
def test_a_column_is_what_pyarrow_makes(case: str) -> None:
    values, kind = CASES[case]
    made = column(values, kind)
    made.validate(full=True)
    assert made.equals(pa.array(values, kind))
    assert made.null_count == values.count(None)


@pytest.mark.parametrize(("values", "kind"), [(["a"], pa.int64()), (["a"], pa.float64()), ([1.0], pa.string())])
def test_a_value_of_another_kind_is_refused(values: list[Any], kind: pa.DataType) -> None:
    with pytest.raises((TypeError, ValueError, AttributeError)):
        column(values, kind)


def test_a_table_has_the_schemas_order() -> None:
    schema = pa.schema([("b", pa.string()), ("a", pa.int64())])
    assert table({"a": [1], "b": ["x"]}, schema).equals(pa.table({"b": ["x"], "a": [1]}, schema=schema))


def imports_pandas(call: str) -> bool:
    code = (
        f"import sys, pyarrow as pa; from hssl_ray.study.columns import column; {call}; print('pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip() == "True"


def test_no_pandas_is_imported_where_pyarrow_would() -> None:
    assert not imports_pandas("column([1.0], pa.float64()), column(['a'], pa.string())")
    assert imports_pandas("pa.array([1.0], pa.float64())")
